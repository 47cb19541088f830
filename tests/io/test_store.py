"""The training feed: sparse in memory, exact when densified."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.shards import write_shard
from caloray.io.store import LayerStore, LayerStoreBuilder
from caloray.showers import Showers


def layers_of(sample: Showers, geometry: Geometry) -> list[np.ndarray]:
    return [sample.voxels[:, geometry.span(layer)] for layer in range(geometry.n_layers)]


def same(one: LayerStore, other: LayerStore) -> bool:
    arrays = ("event_ids", "incident_energies", "bounds", "indices", "values")
    return one.layers == other.layers and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def everything(store: LayerStore) -> np.ndarray:
    """(N, L, size) of a geometry with layers of one size."""
    showers, columns = np.divmod(np.arange(len(store) * len(store.layers)), len(store.layers))
    return store.dense(showers, columns).reshape(len(store), len(store.layers), -1)


def test_dense_gives_every_bit_back(toy):
    sample = toy.showers()
    store = toy.store_of(sample)
    dense = everything(store)
    assert dense.dtype == np.float32
    assert np.array_equal(dense.reshape(len(sample), -1), sample.voxels)
    assert store.incident_energies.dtype == np.float64
    assert np.array_equal(store.incident_energies, sample.incident_energies)


def test_dense_takes_pairs_in_any_order_and_repeated(toy):
    sample = toy.showers()
    store = toy.store_of(sample)
    rng = np.random.default_rng(1)
    showers, columns = rng.integers(0, len(sample), 500), rng.integers(0, 3, 500)
    expected = np.stack(
        [sample.voxels[s, toy.GEOMETRY.span(c)] for s, c in zip(showers, columns, strict=True)]
    )
    assert np.array_equal(store.dense(showers, columns), expected)
    none = store.dense(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    assert len(none) == 0


def test_shards_and_arrays_give_the_same_store(toy, tmp_path):
    sample = toy.showers()
    write_shard(tmp_path / "a.parquet", sample.select(slice(0, 70)), toy.GEOMETRY)
    write_shard(tmp_path / "b.parquet", sample.select(slice(70, None)), toy.GEOMETRY)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    whole = LayerStore.from_shards(paths, toy.GEOMETRY, range(3))
    assert same(whole, toy.store_of(sample))
    assert same(whole, LayerStore.from_shards(reversed(paths), toy.GEOMETRY, range(3)))
    two = LayerStore.from_shards(paths, toy.GEOMETRY, (1, 2))
    assert same(two, toy.store_of(sample, layers=(1, 2)))
    assert np.array_equal(everything(two), everything(whole)[:, 1:])


def test_a_shard_of_another_geometry_is_refused(toy, tmp_path):
    write_shard(tmp_path / "a.parquet", toy.showers(), toy.GEOMETRY)
    other = Geometry(
        "other", "cylindrical", tuple(Layer(i, toy.ALPHA, (0.0, 1.0, 2.0, 5.0)) for i in range(3))
    )
    with pytest.raises(IntegrityError):
        LayerStore.from_shards([tmp_path / "a.parquet"], other, (0,))


def test_the_order_of_arrival_does_not_matter(toy):
    sample = toy.showers()
    shuffled = np.random.default_rng(3).permutation(len(sample))
    builder = LayerStoreBuilder(toy.GEOMETRY, (0, 1, 2))
    for piece in np.array_split(shuffled, 7):
        part = sample.select(piece)
        builder.add_dense(part.ids, part.incident_energies, layers_of(part, toy.GEOMETRY))
    assert same(builder.build(), toy.store_of(sample))


def test_the_same_event_twice_is_refused(toy):
    sample = toy.showers(20)
    builder = LayerStoreBuilder(toy.GEOMETRY, (0,))
    for rows in (slice(0, 12), slice(11, 20)):
        part = sample.select(rows)
        builder.add_dense(part.ids, part.incident_energies, layers_of(part, toy.GEOMETRY)[:1])
    with pytest.raises(DataError, match="event id 11 occurs twice"):
        builder.build()


def test_counts_must_describe_the_entries(toy):
    builder = LayerStoreBuilder(toy.GEOMETRY, (0, 1))
    with pytest.raises(DataError, match="do not describe"):
        builder.add(np.arange(2), np.ones(2), np.zeros(3), np.ones(3), np.array([[1, 0], [1, 0]]))
    with pytest.raises(DataError, match="do not describe"):
        builder.add(np.arange(2), np.ones(2), np.zeros(2), np.ones(2), np.array([[1], [1]]))


def test_layer_energies_are_summed_in_float64(toy):
    sample = toy.showers()
    found = toy.store_of(sample).layer_energies
    assert found.dtype == np.float64
    assert found.shape == (200, 3)
    np.testing.assert_allclose(found, sample.layer_energies(toy.GEOMETRY), rtol=1e-14)
    assert (found[::10, 2] == 0).all()
    # 2**24 + 1 is not a float32: a float32 sum would lose the small voxel.
    builder = LayerStoreBuilder(toy.GEOMETRY, (0,))
    voxels = np.zeros((1, 12), dtype=np.float32)
    voxels[0, :2] = 2**24, 1
    builder.add_dense(np.array([0]), np.array([1e8]), [voxels])
    assert builder.build().layer_energies.tolist() == [[2**24 + 1]]


def test_ragged_layers_one_at_a_time(toy):
    sample = toy.showers(30, geometry=toy.RAGGED)
    store = toy.store_of(sample, toy.RAGGED)
    rows = np.arange(30)
    for layer, size in enumerate(toy.RAGGED.layer_sizes):
        dense = store.dense(rows, np.full(30, layer))
        assert dense.shape == (30, size)
        assert np.array_equal(dense, sample.voxels[:, toy.RAGGED.span(layer)])
    assert store.dense(rows, rows % 2 * 2).shape == (30, 4)
    with pytest.raises(DataError, match=r"different sizes \[4, 8\]"):
        store.dense(rows, rows % 2)
    np.testing.assert_allclose(store.layer_energies, sample.layer_energies(toy.RAGGED), rtol=1e-14)


def test_an_empty_store(toy):
    store = LayerStoreBuilder(toy.GEOMETRY, (0, 1, 2)).build()
    assert len(store) == 0
    assert store.layer_energies.shape == (0, 3)


def test_sparse_showers_take_a_fraction_of_the_dense_array():
    geometry = load_geometry("ds3")
    rng = np.random.default_rng(0)
    layers = [
        np.where(rng.random((20, 900), np.float32) < 0.03, np.float32(1), np.float32(0))
        for _ in range(geometry.n_layers)
    ]
    builder = LayerStoreBuilder(geometry, range(geometry.n_layers))
    builder.add_dense(np.arange(20), np.ones(20), layers)
    store = builder.build()
    assert store.nbytes < 0.06 * sum(layer.nbytes for layer in layers)
    assert store.nbytes == sum(
        a.nbytes
        for a in (store.event_ids, store.incident_energies, store.bounds, store.indices, store.values)
    )


@pytest.mark.parametrize(("cells", "width"), [(256, np.uint16), (257, np.uint32)])
def test_indices_are_as_wide_as_the_layer_needs(cells, width):
    edges = tuple(float(i) for i in range(cells + 1))
    geometry = Geometry("grid", "cartesian", (Layer(0, edges, edges),))
    voxels = np.zeros((1, cells * cells), dtype=np.float32)
    voxels[0, [0, -1]] = 1, 2
    builder = LayerStoreBuilder(geometry, (0,))
    builder.add_dense(np.array([5]), np.array([10.0]), [voxels])
    store = builder.build()
    assert store.indices.dtype == width
    assert np.array_equal(store.dense(np.array([0]), np.array([0])), voxels)
