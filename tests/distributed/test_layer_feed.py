"""Layers in the object store: each read once, joined to what a direct read gives, dropped when unused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from caloray.errors import DataError, IntegrityError
from caloray.io.manifest import Manifest
from caloray.io.store import LayerStore

SPLITS = ("train", "validation")


def assert_same(found: LayerStore, expected: LayerStore) -> None:
    assert found.layers == expected.layers
    assert found.geometry == expected.geometry
    for name in ("event_ids", "incident_energies", "bounds", "indices", "values"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert found.conditions.keys() == expected.conditions.keys()


@pytest.fixture(scope="module")
def shards(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.config(tmp_path_factory.mktemp("feed") / "run").output / "shards"


def paths_of(shards: Path) -> dict[str, list[Path]]:
    return {split: [shards / entry.path for entry in Manifest.load(shards).of(split)] for split in SPLITS}


@pytest.mark.parametrize("layers", [(0, 1, 2), (1,), (1, 2)])
def test_split_layers_join_to_what_they_were(shards: Path, layers: tuple[int, ...]) -> None:
    from caloray.distributed.layer_feed import join_layers, split_layers

    geometry = Manifest.load(shards).readout
    whole = LayerStore.from_shards(paths_of(shards)["train"], geometry, layers)
    parts = split_layers(whole)
    assert [part.layers for part in parts] == [(layer,) for layer in layers]
    for part in parts:
        assert_same(part, LayerStore.from_shards(paths_of(shards)["train"], geometry, part.layers))
    assert_same(join_layers(parts), whole)


def test_conditions_come_along(shards: Path) -> None:
    from caloray.distributed.layer_feed import join_layers, split_layers

    geometry = Manifest.load(shards).readout
    whole = LayerStore.from_shards(paths_of(shards)["train"], geometry, (0, 1))
    angle = np.linspace(0, 1, len(whole))
    joined = join_layers(split_layers(replace(whole, conditions={"angle": angle})))
    np.testing.assert_array_equal(joined.conditions["angle"], angle)


def test_energies_alone_are_those_of_the_voxels(toy: Any, shards: Path) -> None:
    from caloray.distributed.footprint import sums_only
    from caloray.distributed.layer_feed import join_layers, split_layers, sum_layers
    from caloray.preprocess.statistics import TrainingStatistics
    from caloray.schemes.build import build_scheme

    geometry = Manifest.load(shards).readout
    whole = LayerStore.from_shards(paths_of(shards)["train"], geometry, (0, 1, 2))
    sums = join_layers(split_layers(sum_layers(whole)))
    np.testing.assert_array_equal(sums.layer_energies, whole.layer_energies)
    np.testing.assert_array_equal(sums.event_ids, whole.event_ids)
    assert len(sums.values) == 3 * len(whole)
    learned = TrainingStatistics.of(whole.layer_energies, whole.incident_energies)
    scheme = build_scheme(toy.config(shards.parent).scheme, geometry, learned, 1)
    part = scheme.component("layer_energies")
    assert [sums_only(scheme.component(name)) for name in scheme.components] == [True, False, False]
    found, expected = (
        part.batch(store, part.rows(store), torch.Generator().manual_seed(1)) for store in (sums, whole)
    )
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_layers_of_different_showers_are_refused(shards: Path) -> None:
    from caloray.distributed.layer_feed import join_layers, split_layers

    geometry = Manifest.load(shards).readout
    one, other = split_layers(LayerStore.from_shards(paths_of(shards)["train"], geometry, (0, 1)))
    with pytest.raises(DataError, match="hold different showers"):
        join_layers([one, replace(other, event_ids=other.event_ids + 1)])


@pytest.mark.ray
def test_each_layer_is_read_once_and_dropped(
    ray_cluster: ModuleType, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from caloray.distributed.layer_feed import LayerFeed, take_layers

    geometry, read = Manifest.load(shards).readout, []
    real = LayerStore.from_shards

    def watched(paths: Any, geometry: Any, layers: Any) -> LayerStore:
        read.append(tuple(layers))
        return real(paths, geometry, layers)

    monkeypatch.setattr(LayerStore, "from_shards", staticmethod(watched))
    feed = LayerFeed(paths_of(shards), geometry)
    feed.columns((0, 1))
    columns = feed.columns((1, 2))
    assert read == [(0, 1), (0, 1), (2,), (2,)], "both splits, and layer 1 from the object store"
    for split in SPLITS:
        assert_same(take_layers(columns, split), real(paths_of(shards)[split], geometry, (1, 2)))
    assert set(feed.held) == {(0, False), (1, False), (2, False)}
    assert feed.peak == sum(feed.held.values())
    feed.keep({(2, False)})
    assert set(feed.held) == {(2, False)}
    assert_same(take_layers(columns, "train"), real(paths_of(shards)["train"], geometry, (1, 2)))
    feed.columns((1, 2))
    assert read[4:] == [(1,), (1,)]
    assert feed.peak > sum(feed.held.values())


@pytest.mark.ray
@pytest.mark.faults
def test_a_damaged_shard_is_told(ray_cluster: ModuleType, toy: Any, tmp_path: Path) -> None:
    from caloray.distributed.layer_feed import LayerFeed

    shards = toy.config(tmp_path / "run").output / "shards"
    paths = paths_of(shards)
    data = bytearray(paths["train"][0].read_bytes())
    data[len(data) // 3 : len(data) // 3 + 64] = bytes(64)
    paths["train"][0].write_bytes(data)
    with pytest.raises(IntegrityError):
        LayerFeed(paths, Manifest.load(shards).readout).columns((0, 1, 2))
