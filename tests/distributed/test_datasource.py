"""Ray Data over shards: what comes out is what was written, and only what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from caloray.geometry import Geometry, load_geometry
from caloray.io.shards import write_shard
from caloray.io.store import LayerStore, LayerStoreBuilder
from caloray.showers import Showers

pytestmark = pytest.mark.ray

LAYERS = (10, 11)
ROWS = 1100


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    return load_geometry("ds2")


@pytest.fixture(scope="module")
def showers(geometry: Geometry) -> Showers:
    rng = np.random.default_rng(3)
    voxels = rng.exponential(10.0, (ROWS, geometry.n_voxels)).astype(np.float32)
    voxels[rng.random(voxels.shape) < 0.9] = 0
    voxels[7] = 0
    return Showers(rng.uniform(1e3, 5e4, ROWS), voxels, rng.permutation(ROWS).astype(np.int64))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, showers: Showers, geometry: Geometry) -> list[Path]:
    folder = tmp_path_factory.mktemp("shards")
    paths = []
    for number, part in enumerate((slice(0, 700), slice(700, ROWS))):
        paths.append(folder / f"part-{number}.parquet")
        piece = Showers(showers.incident_energies[part], showers.voxels[part], showers.ids[part])
        write_shard(paths[-1], piece, geometry)
    return paths


def test_dense_rows_are_the_written_voxels(
    ray_cluster: ModuleType, shards: list[Path], showers: Showers, geometry: Geometry
) -> None:
    from caloray.distributed.datasource import read_shards

    dataset = read_shards(shards, LAYERS).materialize()
    assert dataset.count() == ROWS
    batches = list(dataset.iter_batches(batch_size=300, batch_format="numpy"))
    assert set(batches[0]) == {"event_id", "incident_energy", "layer_10", "layer_11"}
    ids = np.concatenate([b["event_id"] for b in batches])
    order = np.argsort(ids)
    for layer in LAYERS:
        found = np.concatenate([b[f"layer_{layer}"] for b in batches])[order]
        np.testing.assert_array_equal(found, showers.voxels[np.argsort(showers.ids)][:, geometry.span(layer)])
        assert found.dtype == np.float32


def test_torch_batches_have_the_layer_shape(ray_cluster: ModuleType, shards: list[Path]) -> None:
    from caloray.distributed.datasource import read_shards

    batch = next(iter(read_shards(shards, LAYERS).iter_torch_batches(batch_size=100)))
    assert tuple(batch["layer_10"].shape) == (100, 144)


def test_the_sparse_feed_builds_the_same_store_as_one_process(
    ray_cluster: ModuleType, shards: list[Path], geometry: Geometry
) -> None:
    from caloray.distributed.datasource import decode_sparse, read_shards

    dataset = read_shards(shards[::-1], LAYERS, "sparse").materialize()
    builder = LayerStoreBuilder(geometry, LAYERS)
    for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"):
        for rows in decode_sparse(batch):
            builder.add(rows.event_ids, rows.energies, rows.indices, rows.values, rows.counts)
    found, expected = builder.build(), LayerStore.from_shards(shards, geometry, LAYERS)
    for name in ("event_ids", "incident_energies", "bounds", "indices", "values"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.fixture(scope="module")
def leaning(tmp_path_factory: pytest.TempPathFactory, showers: Showers, geometry: Geometry) -> list[Path]:
    """Shards of particles with two conditions."""
    rng = np.random.default_rng(4)
    given = Showers(
        showers.incident_energies[:600],
        showers.voxels[:600],
        showers.ids[:600],
        {"direction_z": rng.random(600), "age": rng.random(600)},
    )
    folder = tmp_path_factory.mktemp("leaning")
    paths = [folder / "a.parquet", folder / "b.parquet"]
    for path, part in zip(paths, (slice(0, 250), slice(250, 600)), strict=True):
        write_shard(path, given.select(part), geometry, units={"age": "ns"})
    return paths


def test_conditions_travel_with_the_sparse_feed(leaning: list[Path], geometry: Geometry) -> None:
    from caloray.distributed.datasource import CaloParquetDatasource, take_store

    class Blocks:
        """What the tasks of a reader give, in this process."""

        def iter_batches(self, **_: object) -> Iterator[dict[str, np.ndarray]]:
            for task in CaloParquetDatasource(leaning[::-1], LAYERS, "sparse").get_read_tasks(4):
                for block in task():
                    yield {name: np.array(block[name].to_pylist(), object) for name in block.column_names}

    found = take_store(Blocks(), geometry, LAYERS)
    expected = LayerStore.from_shards(leaning, geometry, LAYERS)
    assert set(found.conditions) == {"direction_z", "age"}
    for name, values in expected.conditions.items():
        np.testing.assert_array_equal(found.conditions[name], values)
    np.testing.assert_array_equal(found.values, expected.values)


def test_conditions_travel_with_dense_rows(leaning: list[Path], geometry: Geometry) -> None:
    from caloray.distributed.datasource import CaloParquetDatasource

    blocks = [b for task in CaloParquetDatasource(leaning, LAYERS).get_read_tasks(1) for b in task()]
    found = np.concatenate([block["condition_age"].to_numpy() for block in blocks])
    ids = np.concatenate([block["event_id"].to_numpy() for block in blocks])
    expected = LayerStore.from_shards(leaning, geometry, LAYERS)
    np.testing.assert_array_equal(found[np.argsort(ids)], expected.conditions["age"])


def test_statistics_of_a_shard_know_units_and_ranges(
    leaning: list[Path], geometry: Geometry, tmp_path: Path
) -> None:
    from caloray.distributed.feed import _statistics

    parts = [_statistics((path, geometry), tmp_path) for path in leaning]
    merged = parts[0].merge(parts[1])
    expected = LayerStore.from_shards(leaning, geometry, LAYERS).conditions
    assert [(c.name, c.unit) for c in merged.conditions] == [("direction_z", "1"), ("age", "ns")]
    for item in merged.conditions:
        assert (item.low, item.high) == (expected[item.name].min(), expected[item.name].max())


def test_only_the_asked_layers_are_read(shards: list[Path], tmp_path: Path) -> None:
    """Damage in a layer that is not projected goes unnoticed; in one that is, it is refused."""
    from caloray.distributed.datasource import CaloParquetDatasource
    from caloray.errors import IntegrityError

    broken = tmp_path / "part.parquet"
    data = bytearray(shards[0].read_bytes())
    import pyarrow.parquet as pq

    column = pq.read_metadata(shards[0]).row_group(0).column(2 + 30)
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0xFF
    broken.write_bytes(bytes(data))
    fine = CaloParquetDatasource([broken], LAYERS, "sparse").get_read_tasks(1)[0]
    assert len(list(fine())) == 2
    with pytest.raises(IntegrityError, match="altered"):
        list(CaloParquetDatasource([broken], (30,), "sparse").get_read_tasks(1)[0]())


def test_sparse_estimate_is_near_the_truth(shards: list[Path]) -> None:
    from caloray.distributed.datasource import CaloParquetDatasource

    dense = CaloParquetDatasource(shards, LAYERS).estimate_inmemory_data_size()
    assert dense == ROWS * (16 + 2 * 4 * 144)
    assert CaloParquetDatasource(shards, LAYERS, "sparse").estimate_inmemory_data_size() < dense
