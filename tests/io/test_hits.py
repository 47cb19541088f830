"""Files of hits: dense and back, same bytes, damage noticed."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.hit_record import Hits
from caloray.io.hits import HitReader, HitSource, HitWriter
from caloray.io.shards import ShardReader

EDGES = tuple(float(i) for i in range(7))
BOX = Geometry("box", "cartesian", tuple(Layer(i, EDGES, EDGES, None) for i in range(3)))


def make(n=7, seed=3, conditions=("theta",)):
    rng = np.random.default_rng(seed)
    voxels = rng.exponential(1.0, (n, 3, 6, 6)).astype("f4") * (rng.random((n, 3, 6, 6)) < 0.2)
    voxels[min(2, n - 1)] = 0
    event, layers, x, y = np.nonzero(voxels)
    hits = Hits(
        rng.uniform(1, 2, n),
        np.arange(n) + 100,
        np.concatenate([[0], np.cumsum(np.bincount(event, minlength=n))]),
        layers,
        x,
        y,
        voxels[event, layers, x, y],
        rng.integers(-5, 5, (n, 3, 2)).astype("i4"),
        {name: rng.random(n) for name in conditions},
    )
    return voxels.reshape(n, -1), hits


def write(path, *parts, geometry=BOX):
    with HitWriter(path, geometry, 3, {"seed": "4"}, {"theta": "rad"}) as writer:
        for part in parts:
            writer.append(part)
    return path


def test_there_and_back(tmp_path):
    voxels, hits = make()
    path = write(tmp_path / "hits.parquet", hits)
    with HitReader(path) as reader:
        (found,) = reader.chunks()
        assert reader.extra == {"seed": "4"}
        assert reader.conditions == {"theta": "rad"}
    for name in ("incident_energies", "ids", "starts", "layers", "x", "y", "energies", "corners"):
        np.testing.assert_array_equal(getattr(found, name), getattr(hits, name))
    np.testing.assert_array_equal(found.conditions["theta"], hits.conditions["theta"])
    source = HitSource(path)
    assert (source.n_showers, source.geometry, source.conditions) == (7, BOX, {"theta": "rad"})
    pieces = list(source.chunks(3))
    assert [len(piece) for piece in pieces] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([piece.voxels for piece in pieces]), voxels)
    np.testing.assert_array_equal(np.concatenate([piece.ids for piece in pieces]), hits.ids)


def test_bytes_do_not_depend_on_the_pieces(tmp_path):
    _, hits = make(2500)
    whole = write(tmp_path / "one.parquet", hits)
    pieces = write(
        tmp_path / "two.parquet", hits.select(0, 999), hits.select(999, 1003), hits.select(1003, 2500)
    )
    assert whole.read_bytes() == pieces.read_bytes()
    assert pq.ParquetFile(whole).num_row_groups == 3
    assert HitSource(whole).digest == HitSource(pieces).digest
    with HitReader(whole) as reader:
        joined = Hits.concatenate(list(reader.chunks()))
    np.testing.assert_array_equal(joined.energies, hits.energies)
    np.testing.assert_array_equal(joined.starts, hits.starts)


def test_other_libraries_read_the_columns(tmp_path):
    _, hits = make()
    table = pq.read_table(write(tmp_path / "hits.parquet", hits)).to_pylist()
    row = table[1]
    mine = hits.select(1, 2)
    assert row["event_id"] == 101
    assert row["layer"] == mine.layers.tolist()
    assert row["energy"] == pytest.approx(mine.energies.tolist())
    assert row["corner_x"] == mine.corners[0, :, 0].tolist()


def test_pieces_of_any_size(tmp_path):
    voxels, hits = make(2100)
    source = HitSource(write(tmp_path / "hits.parquet", hits))
    pieces = list(source.chunks(700))
    assert [len(piece) for piece in pieces] == [700, 700, 700]
    np.testing.assert_array_equal(np.concatenate([piece.voxels for piece in pieces]), voxels)


@pytest.mark.parametrize("energy", [np.nan, np.inf, -1.0])
def test_impossible_energies_are_refused(tmp_path, energy):
    _, hits = make()
    hits.energies[hits.starts[3]] = energy
    source = HitSource(write(tmp_path / "hits.parquet", hits))
    with pytest.raises(DataError, match="rows 0 to 6"):
        list(source.chunks())


def test_a_sparse_shower_of_the_fine_grid_is_small(tmp_path):
    """1,000 hits at random places among 243,000 sub-cells: a hundredth of the dense size."""
    geometry = load_geometry("ild_30x90x90")
    rng = np.random.default_rng(0)
    n, k = 50, 1000
    flat = np.sort(rng.choice(geometry.n_voxels, (n, k)), axis=1).ravel()
    layers, x, y = np.unravel_index(flat, (30, 90, 90))
    hits = Hits(
        np.ones(n), np.arange(n), np.arange(n + 1) * k, layers, x, y,
        rng.lognormal(0, 1, n * k).astype("f4"), np.zeros((n, 30, 2), "i4"),
    )  # fmt: skip
    with HitWriter(tmp_path / "fine.parquet", geometry, 30) as writer:
        writer.append(hits)
    assert (tmp_path / "fine.parquet").stat().st_size / n < 9000


def test_without_a_box(tmp_path):
    _, hits = make()
    path = write(tmp_path / "hits.parquet", hits, geometry=None)
    with HitReader(path) as reader:
        assert reader.geometry is None
        assert len(next(reader.chunks())) == 7
    with pytest.raises(DataError, match="without a box"):
        HitSource(path)


def test_nothing_is_left_of_a_file_that_fails(tmp_path):
    _, hits = make()
    _, other = make(conditions=("phi",))
    with pytest.raises(DataError, match="different scalars"):
        write(tmp_path / "hits.parquet", hits, other)
    with pytest.raises(DataError, match="no showers"):
        write(tmp_path / "none.parquet")
    with pytest.raises(AttributeError), HitWriter(tmp_path / "stop.parquet", BOX, 3) as writer:
        writer.append([None])
    assert not list(tmp_path.iterdir())


def test_damage(tmp_path):
    _, hits = make(300)
    path = write(tmp_path / "hits.parquet", hits)
    data = bytearray(path.read_bytes())
    with pytest.raises(IntegrityError, match="no such"):
        HitReader(tmp_path / "none.parquet")
    for place in range(0, len(data), 97):
        broken = bytearray(data)
        broken[place] ^= 0x55
        path.write_bytes(broken)
        try:
            with HitReader(path) as reader:
                found = Hits.concatenate(list(reader.chunks()))
        except (DataError, IntegrityError) as error:
            assert str(path) in error.message  # noqa: PT017
        else:
            np.testing.assert_array_equal(found.energies, hits.energies)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(IntegrityError, match="truncated"):
        HitReader(path)


def test_shards_are_no_hits_and_hits_are_no_shards(tmp_path):
    path = write(tmp_path / "hits.parquet", make()[1])
    with pytest.raises(DataError, match="not a caloray shard"):
        ShardReader(path)


def test_hits_outside_the_geometry():
    _, hits = make()
    small = Geometry("small", "cartesian", BOX.layers[:2])
    with pytest.raises(DataError, match="outside 2 layers"):
        hits.dense(small)
    with pytest.raises(DataError, match="different lengths"):
        Hits(
            hits.incident_energies[:2],
            hits.ids,
            hits.starts,
            hits.layers,
            hits.x,
            hits.y,
            hits.energies,
            hits.corners,
        )
