"""What generation needs of a bundle: bits that depend on energies, seed, block and attempt alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloray.bundle import Bundle, save_bundle
from caloray.flows.backends import backends
from caloray.flows.maf import MAFConfig
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.inductive_config import InductiveConfig, InductiveFlows
from caloray.showers import Showers

N = 100


@pytest.fixture(scope="module", params=[status.name for status in backends() if status.available])
def bundle(request: pytest.FixtureRequest, stub: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Untrained flows of the toy readout in blocks of 32, once for every back-end of this machine."""
    small = MAFConfig(blocks=2, hidden=16)
    config = InductiveConfig(flows=InductiveFlows(layer_energies=small, first_layer=small, next_layer=small))
    statistics = TrainingStatistics(1000, 1.1, 3e4, 1e3, 5e4)
    scheme = build_scheme(config, stub.TOY, statistics, 1)
    weights = {name: scheme.component(name).build().state_dict() for name in scheme.components}
    saved = save_bundle(
        tmp_path_factory.mktemp("model") / "bundle",
        config=config,
        geometry=stub.TOY,
        statistics=statistics,
        seed=1,
        weights=weights,
        block_size=32,
    )
    return Bundle.load(saved.path, backend=request.param)


def test_layouts_threads_prefixes_and_single_ids_have_the_same_bits(
    bundle: Bundle, tmp_path: Path, read_all: Callable[[Path], Showers]
) -> None:
    options: dict[str, Any] = {"on_invalid": "resample"}
    whole = generate(bundle, make_plan(bundle, N, 7, blocks_per_shard=4, **options), tmp_path / "whole")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        many = generate(bundle, make_plan(bundle, N, 7, blocks_per_shard=1, **options), tmp_path / "many")
    finally:
        torch.set_num_threads(threads)
    assert whole.created["numerics"][0]["backend"].split()[0] == bundle.backend
    assert many.created["content_digest"] == whole.created["content_digest"]
    generate(bundle, make_plan(bundle, 37, 7, **options), tmp_path / "few")
    generate(bundle, make_plan(bundle, N, 7, ids=[5, 50, 99], **options), tmp_path / "ids")
    showers = read_all(tmp_path / "whole")
    assert (showers.voxels.sum(axis=1) > 0).any()
    for name in ("few", "ids"):
        part = read_all(tmp_path / name)
        np.testing.assert_array_equal(part.voxels, showers.voxels[part.ids])


def test_a_redraw_is_another_draw(bundle: Bundle) -> None:
    energies = np.full(8, 1e4)
    first, second = (bundle.sample_block(energies, 7, 0, attempt) for attempt in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, bundle.sample_block(energies, 7, 0, 0))
