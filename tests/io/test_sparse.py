"""Sparse shards: the same showers to every reader, extra columns beside them, lists never trusted."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.shard_layout import METADATA
from caloray.io.shards import ShardReader, ShardWriter, read_layers, write_shard
from caloray.io.sparse import SparseShowers
from caloray.io.store import LayerStore
from caloray.showers import Showers

TOY = Geometry(
    "toy",
    "cylindrical",
    (
        Layer(0, (0.0, 1.0, 2.0), (0.0, 1.0, 2.0)),
        Layer(1, (0.0, 1.0), (0.0, 1.0, 2.0, 3.0)),
        Layer(5, (0.0, 1.0, 2.0, 3.0), (0.0, 1.0)),
    ),
)
EXTRAS = {"run": "int64", "pdg": "int32", "flags": "uint8", "log_prob": "float32"}


def make(geometry: Geometry, rows: int, seed: int = 0, **conditions: np.ndarray) -> Showers:
    rng = np.random.default_rng(seed)
    voxels = rng.exponential(10, (rows, geometry.n_voxels)).astype(np.float32)
    voxels[rng.random(voxels.shape) < 0.8] = 0
    voxels[rows // 2 : rows // 2 + 1] = 0  # a shower without hits
    return Showers(rng.uniform(1e3, 5e4, rows), voxels, np.arange(rows) + 2**40, conditions)


def columns(rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {
        "run": np.arange(rows) + 2**60,
        "pdg": rng.choice([11, -11, 22], rows).astype(np.int32),
        "flags": rng.integers(0, 4, rows).astype(np.uint8),
        "log_prob": rng.normal(size=rows).astype(np.float32),
    }


def assert_equal(one: Showers, other: Showers) -> None:
    """The same bits everywhere, also those of NaN and -0.0."""
    for name in ("incident_energies", "voxels", "ids"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.conditions.keys() == other.conditions.keys()
    assert all(np.array_equal(one.conditions[name], other.conditions[name]) for name in one.conditions)


@pytest.mark.parametrize(("name", "rows"), [("ds1_photons", 1), ("ds1_photons", 1203), ("ds2", 501)])
def test_every_reader_sees_the_dense_showers(tmp_path: Path, name: str, rows: int) -> None:
    geometry = load_geometry(name)
    showers = make(geometry, rows, theta=np.linspace(0, 1, rows))
    write_shard(tmp_path / "a.parquet", showers, geometry, extra={"note": "mine"}, layout="sparse")
    with ShardReader(tmp_path / "a.parquet", geometry) as reader:
        assert (reader.layout, reader.n_rows, reader.layer_sizes) == ("sparse", rows, geometry.layer_sizes)
        assert (reader.extra, reader.conditions, reader.extras) == ({"note": "mine"}, {"theta": ""}, {})
        assert_equal(reader.showers(), showers)
        assert_equal(Showers.concatenate(list(reader.chunks())), showers)
        assert reader.group_rows == [min(500, rows - i) for i in range(0, rows, 500)]
        assert np.array_equal(reader.ids(), showers.ids)
        ids, energies, (three, one) = reader.read([3, 1], reader.n_row_groups - 1)
        last = slice(500 * (reader.n_row_groups - 1), rows)
        assert np.array_equal(ids, showers.ids[last])
        assert np.array_equal(energies, showers.incident_energies[last])
        assert np.array_equal(three, showers.voxels[last, geometry.span(3)])
        assert np.array_equal(one, showers.voxels[last, geometry.span(1)])
        assert reader.read([])[2] == []


def test_a_training_takes_them_as_they_are(tmp_path: Path) -> None:
    showers = make(TOY, 700)
    stores = []
    for layout in ("dense", "sparse"):
        write_shard(tmp_path / f"{layout}.parquet", showers, TOY, layout=layout)
        stores.append(LayerStore.from_shards([tmp_path / f"{layout}.parquet"], TOY, [2, 0]))
    for name in ("values", "indices", "bounds", "layer_energies"):
        assert np.array_equal(getattr(stores[0], name), getattr(stores[1], name)), name


def test_the_layout_on_disk(tmp_path: Path) -> None:
    showers = make(TOY, 1100)
    write_shard(tmp_path / "a.parquet", showers, TOY, layout="sparse", extras=columns(1100))
    meta, schema = pq.read_metadata(tmp_path / "a.parquet"), pq.read_schema(tmp_path / "a.parquet")
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [500, 500, 100]
    assert schema.names == ["event_id", "incident_energy", *EXTRAS, "voxel", "energy"]
    assert schema.field("voxel").type.value_type == pa.int32()
    assert schema.field("energy").type.value_type == pa.float32()
    assert not any(schema.field(name).nullable for name in schema.names)
    encodings = {}
    for index in range(len(schema.names)):
        column = meta.row_group(0).column(index)
        encodings[column.path_in_schema] = set(column.encodings)
        assert column.compression == "ZSTD"
        assert not column.has_dictionary_page
        assert column.is_stats_set == (index < 2)
    assert "DELTA_BINARY_PACKED" in encodings["voxel.list.element"]
    assert "BYTE_STREAM_SPLIT" in encodings["energy.list.element"]


def test_plain_pyarrow_reads_the_lists(tmp_path: Path) -> None:
    showers = make(TOY, 7)
    write_shard(tmp_path / "a.parquet", showers, TOY, layout="sparse", extras=columns(7))
    for row, entry in enumerate(pq.read_table(tmp_path / "a.parquet").to_pylist()):
        (hit,) = np.nonzero(showers.voxels[row])
        assert entry["voxel"] == hit.tolist()
        assert np.array_equal(np.float32(entry["energy"]), showers.voxels[row, hit])
        assert entry["run"] == 2**60 + row


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 1203), max_size=6), sparse=st.booleans())
def test_bytes_depend_on_the_showers_alone(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], sparse: bool
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    showers, extras = make(TOY, 1203), columns(1203)
    whole = write_shard(folder / "whole.parquet", showers, TOY, layout="sparse", extras=extras)
    with ShardWriter(folder / "parts.parquet", TOY, layout="sparse", extras=EXTRAS) as writer:
        for start, stop in pairwise([0, *sorted(cuts), 1203]):
            part = showers.select(slice(start, stop))
            chosen = {name: values[start:stop] for name, values in extras.items()}
            if sparse:
                writer.append(SparseShowers.of(part, chosen))
            else:
                writer.append(part, chosen)
    assert writer.rows == 1203
    assert (folder / "parts.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert whole == write_shard(folder / "again.parquet", showers, TOY, layout="sparse", extras=extras)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@pytest.mark.parametrize("rows", [0, 1, 501])
def test_extra_columns_come_back(tmp_path: Path, layout: str, rows: int) -> None:
    showers, extras = make(TOY, rows, theta=np.ones(rows)), columns(rows)
    write_shard(tmp_path / "a.parquet", showers, TOY, layout=layout, extras=extras)
    with ShardReader(tmp_path / "a.parquet", TOY) as reader:
        assert (reader.layout, reader.extras, reader.n_rows) == (layout, EXTRAS, rows)
        assert list(reader.extras) == list(EXTRAS)
        found, sparse = reader.read_extras(), reader.sparse()
        assert_equal(reader.showers(), showers)
        assert_equal(sparse.dense(TOY.n_voxels), showers)
    for name, dtype in EXTRAS.items():
        for values in (found[name], sparse.extras[name]):
            assert values.dtype == dtype
            assert np.array_equal(values, extras[name])


def test_a_shard_may_be_empty(tmp_path: Path) -> None:
    for layout in ("dense", "sparse"):
        path = tmp_path / f"{layout}.parquet"
        with ShardWriter(path, TOY, conditions={"theta": "rad"}, layout=layout, extras=EXTRAS):
            pass
        with ShardReader(path, TOY) as reader:
            assert (reader.n_rows, reader.n_row_groups, len(reader.showers())) == (0, 0, 0)
            assert reader.read([0, 1])[2][1].shape == (0, 3)
            assert len(reader.sparse()) == 0
            assert set(reader.read_extras()) == set(EXTRAS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.0, -0.0, 1e-45])
def test_only_exact_zeros_are_left_out(tmp_path: Path, value: float) -> None:
    """What NaN and negative energies mean is not the shard's business: dense ones keep them too."""
    showers = make(TOY, 5)
    showers.voxels[1, 4] = value
    write_shard(tmp_path / "a.parquet", showers, TOY, layout="sparse")
    with ShardReader(tmp_path / "a.parquet", TOY) as reader:
        assert_equal(reader.showers(), showers)


@pytest.mark.parametrize(
    ("extras", "message"),
    [
        ({}, "extra columns none, the shard is for run"),
        ({"run": [1, 2, 3], "more": [1, 2, 3]}, "extra columns run, more"),
        ({"run": [1, 2]}, r"extra column run: shape \(2,\), expected \(3,\)"),
        ({"run": [1, 2, 300]}, "extra column run: a value that uint8 cannot hold"),
        ({"run": [1, 2, -1]}, "extra column run: a value that uint8 cannot hold"),
        ({"run": [1.0, 2.0, 3.0]}, "extra column run: float64, expected uint8"),
        ({"run": ["1", "2", "3"]}, "extra column run: .*, expected uint8"),
    ],
)
def test_extras_that_do_not_fit(tmp_path: Path, extras: dict[str, list[object]], message: str) -> None:
    given = {name: np.array(values) for name, values in extras.items()}
    with (
        pytest.raises(DataError, match=rf"a\.parquet: .*{message}"),
        ShardWriter(tmp_path / "a.parquet", TOY, layout="sparse", extras={"run": "uint8"}) as writer,
    ):
        writer.append(make(TOY, 3), given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("voxel", "int32"), ("layer_01", "int32"), ("event_id", "int64"), ("Run", "int32"), ("run", "object")],
)
def test_extras_that_cannot_be(tmp_path: Path, name: str, dtype: str) -> None:
    with pytest.raises(DataError, match=f"extra column '?{name}"):
        ShardWriter(tmp_path / "a.parquet", TOY, layout="sparse", extras={name: dtype})


# ------------------------------------------------------------------ damage


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write_shard(tmp_path / "a.parquet", make(TOY, 40), TOY, layout="sparse", extras=columns(40))
    return tmp_path / "a.parquet"


@pytest.mark.faults
@pytest.mark.parametrize("mask", [0xFF, 0x01])
def test_no_flipped_byte_changes_a_value_unnoticed(shard: Path, mask: int) -> None:
    raw, good, messages = shard.read_bytes(), make(TOY, 40), []
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    positions = [*range(mask % 11, footer, 11), *range(footer + mask % 7, len(raw) - 8, 7)]
    positions += range(len(raw) - 8, len(raw))
    for position in positions:
        damaged = bytearray(raw)
        damaged[position] ^= mask
        shard.write_bytes(damaged)
        try:
            with ShardReader(shard, TOY) as reader:
                found, extras = reader.showers(), reader.read_extras()
        except (IntegrityError, DataError) as error:
            messages.append(error.message)
        else:
            assert_equal(found, good)
            renamed = set(extras) != set(EXTRAS)  # a flipped letter in a name is a name
            assert renamed or all(np.array_equal(extras[name], columns(40)[name]) for name in EXTRAS)
    assert all("a.parquet" in message and "\n" not in message for message in messages)
    assert len(messages) > 0.5 * len(positions)


@pytest.mark.faults
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.99])
def test_truncated(shard: Path, share: float) -> None:
    raw = shard.read_bytes()
    shard.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(IntegrityError, match=r"a\.parquet: not a readable Parquet file"):
        ShardReader(shard)


def forge(path: Path, meta: dict[str, str] | None = None, **changed: pa.Array) -> None:
    """A shard of two showers that a stranger wrote, sound but for what is changed."""
    write_shard(path, make(TOY, 2), TOY, layout="sparse")
    table = pq.read_table(path)
    lists = {
        "voxel": pa.array([[1, 4], [0]], table.schema.field("voxel").type),
        "energy": pa.array([[1.0, 2.0], [3.0]], table.schema.field("energy").type),
    }
    for name, values in (lists | changed).items():
        table = table.set_column(table.column_names.index(name), table.schema.field(name), values)
    renamed = {METADATA + key: value for key, value in (meta or {}).items()}
    old = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    table = table.replace_schema_metadata(old | renamed)
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


INT = pa.list_(pa.field("element", pa.int32(), nullable=False))
FLOAT = pa.list_(pa.field("element", pa.float32(), nullable=False))


def test_what_is_forged_below_is_sound_otherwise(tmp_path: Path) -> None:
    forge(tmp_path / "a.parquet")
    with ShardReader(tmp_path / "a.parquet", TOY) as reader:
        found = reader.showers()
    assert np.flatnonzero(found.voxels[0]).tolist() == [1, 4]
    assert found.voxels[1, 0] == 3


@pytest.mark.parametrize(
    ("voxel", "energy", "message"),
    [
        ([[1, 10], [0]], None, "voxels 0 to 10, the geometry has 10"),
        ([[-1, 4], [0]], None, "voxels -1 to 4"),
        ([[4, 1], [0]], None, "voxels of row 0 are not ascending"),
        ([[1, 4], [3, 3]], [[1.0, 2.0], [3.0, 4.0]], "voxels of row 1 are not ascending"),
        ([[1], [0, 4]], None, "lists of different lengths"),
        ([[1, 4], [0, 1]], None, "described wrongly"),
        (None, [[1.0, 2.0], [0.0]], "a hit without energy"),
    ],
)
def test_lists_that_are_no_showers(
    tmp_path: Path, voxel: list[list[int]] | None, energy: list[list[float]] | None, message: str
) -> None:
    changed = {} if voxel is None else {"voxel": pa.array(voxel, INT)}
    changed |= {} if energy is None else {"energy": pa.array(energy, FLOAT)}
    forge(tmp_path / "a.parquet", **changed)
    for look in (ShardReader.showers, ShardReader.sparse, lambda reader: reader.read([0])):
        with (
            pytest.raises(IntegrityError, match=rf"a\.parquet: .*{message}"),
            ShardReader(tmp_path / "a.parquet", TOY) as reader,
        ):
            look(reader)
    with pytest.raises(IntegrityError, match=message):
        read_layers(tmp_path / "a.parquet", [2])


@pytest.mark.parametrize(
    "meta",
    [
        {"layer_sizes": "[4, 3]"},
        {"layer_sizes": "[4, 3, 2, 1]"},
        {"layer_sizes": "[4, 3, 3.0]"},
        {"layer_sizes": "[4, 3, -3]"},
        {"layer_sizes": "[4, 3, true]"},
        {"layer_sizes": "[1000000000, 3, 3]"},
        {"layer_sizes": "[" * 100_000},
        {"layout": "dense"},
        {"layout": "else"},
        {"extras": json.dumps([["event", "int64"]])},
        {"extras": json.dumps([["voxel", "int64"]])},
        {"extras": "7"},
    ],
)
def test_metadata_that_lie(tmp_path: Path, meta: dict[str, str]) -> None:
    forge(tmp_path / "a.parquet", meta)
    with pytest.raises((IntegrityError, DataError), match=r"a\.parquet: ") as caught:
        ShardReader(tmp_path / "a.parquet", TOY).showers()
    assert len(caught.value.message) < 500


def test_sparse_showers_know_what_belongs_together() -> None:
    sparse = SparseShowers.of(make(TOY, 6), columns(6))
    assert sparse.rows.tolist() == np.nonzero(make(TOY, 6).voxels)[0].tolist()
    parts = [sparse.select(slice(0, 2)), sparse.select(slice(2, 2)), sparse.select(slice(2, 6))]
    joined = SparseShowers.concatenate(parts)
    for name in ("ids", "incident_energies", "starts", "voxels", "energies"):
        assert np.array_equal(getattr(joined, name), getattr(sparse, name)), name
    assert np.array_equal(joined.extras["run"], sparse.extras["run"])
    assert_equal(joined.dense(10), make(TOY, 6))
    with pytest.raises(DataError, match="do not join"):
        SparseShowers.concatenate([sparse, SparseShowers.of(make(TOY, 6))])
    with pytest.raises(DataError, match="different lengths for 6 showers"):
        SparseShowers(sparse.incident_energies, sparse.ids, sparse.starts, sparse.voxels, sparse.energies[1:])
    with pytest.raises(DataError, match="the geometry has 9"):
        sparse.dense(9)
