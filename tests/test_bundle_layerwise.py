"""Bundles of layerwise models: saved, loaded, frozen for sampling, and the same showers again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloray.bundle import Bundle, save_bundle, verify_bundle
from caloray.errors import ConfigError, NumericalError
from caloray.flows.conv.native_sampler import NativeConvInverse
from caloray.flows.conv.torch_sampler import FoldedInverse
from caloray.flows.conv.transform import ConvTransform
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
from caloray.geometry import Geometry, Layer
from caloray.preprocess.condition_range import ConditionRange
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.showers import DIRECTION

EDGES = (0.0, 1.0, 2.0, 3.0, 4.0)
CUBE = Geometry("cube", "cartesian", tuple(Layer(i, EDGES, EDGES) for i in range(4)))
NAMES = (*DIRECTION, "age")
ENERGIES = np.geomspace(1e3, 2e3, 8)
SMALL = {
    "layer_energies": {"blocks": 2, "hidden": 8},
    "layer": {"blocks": 2, "hidden": 4, "kernels": ((2, 2),), "context_channels": 4},
}


def _statistics() -> TrainingStatistics:
    rng = np.random.default_rng(1)
    voxels = rng.exponential(20.0, (50, 4, 16))
    theta, phi = rng.uniform(0, 0.8, 50), rng.uniform(0, 6, 50)
    values = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta), rng.uniform(1, 2, 50)
    return TrainingStatistics.of(
        voxels.sum(axis=2),
        rng.uniform(1e3, 2e3, 50),
        dict(zip(NAMES, values, strict=True)),
        {"age": "ns"},
        voxel_maxima=voxels.max(axis=(0, 2)),
    )


def _save(path: Path, **changes: Any) -> Bundle:
    fields = {"kind": "layerwise", "flows": SMALL, "threshold": 0.1, **changes}
    config, statistics = LayerwiseConfig.model_validate(fields), _statistics()
    scheme = build_scheme(config, CUBE, statistics, 3)
    draws = torch.Generator().manual_seed(1)
    weights = {name: scheme.component(name).build().state_dict() for name in scheme.components}
    for state in weights.values():
        for name, value in state.items():
            if name.endswith(("weight", "bias")) and value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape, generator=draws))
    return save_bundle(
        path,
        config=config,
        geometry=CUBE,
        statistics=statistics,
        seed=3,
        weights=weights,
        block_size=8,
        info={"data": "cube"},
    )


@pytest.fixture(scope="module", params=["per-layer", "shared"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _save(tmp_path_factory.mktemp("plain") / "bundle", network=request.param)


@pytest.fixture(scope="module", params=["per-layer", "shared"])
def tilted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _save(tmp_path_factory.mktemp("tilted") / "bundle", network=request.param, conditions=NAMES)


def _table(count: int = 8) -> np.ndarray:
    theta, phi = np.linspace(0.1, 0.7, count), np.linspace(0, 5, count)
    columns = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta), 1 + theta
    return np.stack(columns, axis=1)


def _same_again(bundle: Bundle, conditions: np.ndarray | None) -> None:
    """One block three times: again, from the files, and its first three showers alone."""
    first = bundle.sample_block(ENERGIES, 5, 2, conditions=conditions)
    assert np.isfinite(first).all()
    assert (first.sum(axis=1) > 0).all()
    assert first.tobytes() == bundle.sample_block(ENERGIES, 5, 2, conditions=conditions).tobytes()
    loaded = Bundle.load(bundle.path)
    assert loaded.digest == bundle.digest
    assert first.tobytes() == loaded.sample_block(ENERGIES, 5, 2, conditions=conditions).tobytes()
    few = None if conditions is None else conditions[:3]
    assert first[:3].tobytes() == loaded.sample_block(ENERGIES[:3], 5, 2, conditions=few).tobytes()
    assert first.tobytes() != loaded.sample_block(ENERGIES, 6, 2, conditions=conditions).tobytes()
    report = verify_bundle(bundle.path)
    assert report.identical
    assert report.same_numerics


def test_the_same_showers_again(plain: Bundle) -> None:
    _same_again(plain, None)
    assert plain.condition_names == ()


def test_the_same_showers_again_with_conditions(tilted: Bundle) -> None:
    _same_again(tilted, _table())
    assert tilted.condition_names == NAMES
    other = _table()
    other[3, 3] += 0.1
    first, changed = (tilted.sample_block(ENERGIES, 5, 2, conditions=table) for table in (_table(), other))
    assert (first == changed).all(axis=1).tolist() == [i != 3 for i in range(8)]
    with pytest.raises(ConfigError, match="conditions: none; the model has direction_x"):
        tilted.sample_block(ENERGIES, 5, 2)


def test_golden_particles_may_be_asked_for_like_any_other(tilted: Bundle) -> None:
    golden = tilted.file.golden
    assert golden is not None
    assert len(tilted.sample(np.array(golden.energies), conditions=golden.conditions)) == 8


def test_weights_are_those_that_were_saved(plain: Bundle) -> None:
    again = _save(plain.path.parent / "again", network=plain.file.scheme.network)
    assert again.digest == plain.digest
    for name, flow in plain.flows.items():
        assert not flow.training
        expected = again.flows[name].state_dict()
        assert all(torch.equal(expected[key], value) for key, value in flow.state_dict().items())


def test_layer_flows_are_frozen_for_the_backend(plain: Bundle) -> None:
    folded = Bundle.load(plain.path, backend="torch")
    kinds = {"native": NativeConvInverse, "torch": FoldedInverse}
    for bundle in (plain, folded):
        samplers = [
            module._sampler
            for flow in bundle.flows.values()
            for module in flow.modules()
            if isinstance(module, ConvTransform)
        ]
        assert len(samplers) == len(bundle.scheme.components) - 1
        assert {type(sampler) for sampler in samplers} == {kinds[bundle.backend]}
    found = folded.sample_block(ENERGIES, 5, 2).sum(axis=1)
    np.testing.assert_allclose(found, plain.sample_block(ENERGIES, 5, 2).sum(axis=1), rtol=1e-3)


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model a part of whose layer energies is vetoed."""
    free = _save(tmp_path_factory.mktemp("free") / "bundle", network="shared")
    ratios = np.concatenate(
        [free.draw(ENERGIES, 5, b).layer_energies.sum(axis=1) / ENERGIES for b in range(5)]
    )
    limit = float(np.quantile(ratios, 0.6))
    return _save(tmp_path_factory.mktemp("bounded") / "bundle", network="shared", max_ratio=limit)


def test_vetoed_draws_are_counted_up_to_the_manifest(bounded: Bundle, tmp_path: Path) -> None:
    made = bounded.make_block(ENERGIES, 5, 2)
    assert made.vetoes is not None
    assert made.vetoes.shape == (8,)
    assert made.vetoed == made.vetoes.sum() > 0
    limit = bounded.file.scheme.max_ratio
    assert (made.layer_energies.sum(axis=1) <= limit * ENERGIES).all()
    short = bounded.make_block(ENERGIES[:3], 5, 2)
    np.testing.assert_array_equal(short.vetoes, made.vetoes[:3])
    plan = make_plan(bounded, 20, 5, blocks_per_shard=1)
    total = generate(bounded, plan, tmp_path / "whole").created["redraws"]["vetoed"]
    chosen = make_plan(bounded, 20, 5, ids=range(0, 20, 2)), make_plan(bounded, 20, 5, ids=range(1, 20, 2))
    parts = [
        generate(bounded, half, tmp_path / str(i)).created["redraws"]["vetoed"]
        for i, half in enumerate(chosen)
    ]
    assert total == sum(parts) > 0


def test_a_ratio_that_nothing_keeps_to_is_named(bounded: Bundle, tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match=r"component layer_energies: no shower .* max_ratio 1e-09 in 2"):
        _save(tmp_path / "bundle", network="shared", max_ratio=1e-9, veto_attempts=2)


def test_a_model_without_a_bound_counts_nothing(plain: Bundle) -> None:
    made = plain.make_block(ENERGIES, 5, 2)
    assert made.vetoes is None
    assert made.vetoed == 0
    assert isinstance(plain.file.statistics.conditions[0], ConditionRange)
