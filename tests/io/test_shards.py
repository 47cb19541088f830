"""Shards: bit-exact, projected, deterministic, and never silently wrong."""

from __future__ import annotations

import resource
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError, IntegrityError, StorageError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io import shard_layout
from caloray.io.shards import ShardReader, ShardWriter, layer_column, read_layers, row_group_rows, write_shard
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


def make(geometry: Geometry, rows: int, seed: int = 0) -> Showers:
    rng = np.random.default_rng(seed)
    voxels = rng.exponential(10, (rows, geometry.n_voxels)).astype(np.float32)
    voxels[rng.random(voxels.shape) < 0.8] = 0
    return Showers(rng.uniform(1e3, 5e4, rows), voxels, rng.permutation(rows) + 2**40)


def equal(one: Showers, other: Showers) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("incident_energies", "voxels", "ids")
    )


@pytest.mark.parametrize("name", ["ds1_photons", "ds2"])
@pytest.mark.parametrize("rows", [1, 500, 1203])
def test_round_trip_is_bit_exact(tmp_path: Path, name: str, rows: int) -> None:
    geometry = load_geometry(name)
    showers = make(geometry, rows)
    write_shard(tmp_path / "a.parquet", showers, geometry, extra={"note": "mine"})
    with ShardReader(tmp_path / "a.parquet", geometry) as reader:
        assert reader.n_rows == rows
        assert reader.layer_sizes == geometry.layer_sizes
        assert (reader.geometry_name, reader.geometry_digest) == (name, geometry.digest)
        assert reader.extra == {"note": "mine"}
        assert equal(reader.showers(), showers)
        assert equal(Showers.concatenate(list(reader.chunks())), showers)
        assert [len(part) for part in reader.chunks()] == [min(500, rows - i) for i in range(0, rows, 500)]
        assert np.array_equal(reader.ids(), showers.ids)


def test_layers_come_without_copies_and_alone(tmp_path: Path) -> None:
    geometry = load_geometry("ds1_pions")
    showers = make(geometry, 700)
    write_shard(tmp_path / "a.parquet", showers, geometry)
    ids, energies, (six, two) = read_layers(tmp_path / "a.parquet", [6, 2], row_group=1)
    assert np.array_equal(ids, showers.ids[500:])
    assert np.array_equal(energies, showers.incident_energies[500:])
    assert energies.dtype == np.float64
    for found, layer in ((six, 6), (two, 2)):
        assert found.dtype == np.float32
        assert np.array_equal(found, showers.voxels[500:, geometry.span(layer)])
        assert not found.flags.owndata  # a view of the decoded buffer


def test_the_layout_on_disk(tmp_path: Path) -> None:
    geometry = load_geometry("ds2")
    write_shard(tmp_path / "a.parquet", make(geometry, 1100), geometry)
    meta = pq.read_metadata(tmp_path / "a.parquet")
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)] == [500, 500, 100]
    assert schema.names == ["event_id", "incident_energy", *(f"layer_{i:02d}" for i in range(45))]
    assert schema.field("layer_44").type == pa.binary(4 * 144)
    for index in range(47):
        column = meta.row_group(0).column(index)
        assert column.compression == "ZSTD"
        assert not column.has_dictionary_page
        assert column.is_stats_set == (index < 2)


def test_plain_pyarrow_reads_little_endian_floats(tmp_path: Path) -> None:
    showers = make(TOY, 5)
    write_shard(tmp_path / "a.parquet", showers, TOY)
    cell = pq.read_table(tmp_path / "a.parquet").column("layer_01")[3].as_py()
    assert np.array_equal(np.frombuffer(cell, "<f4"), showers.voxels[3, TOY.span(1)])


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 1203), max_size=6))
def test_bytes_do_not_depend_on_how_rows_are_appended(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    showers = make(TOY, 1203)
    whole = write_shard(folder / "whole.parquet", showers, TOY)
    edges = [0, *sorted(cuts), 1203]
    with ShardWriter(folder / "parts.parquet", TOY) as writer:
        for start, stop in pairwise(edges):
            writer.append(showers.select(slice(start, stop)))
    assert writer.rows == 1203
    assert (folder / "parts.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert whole == write_shard(folder / "again.parquet", showers, TOY)


def test_no_rows_is_a_shard_too(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", make(TOY, 0), TOY)
    with ShardReader(tmp_path / "a.parquet", TOY) as reader:
        assert reader.n_rows == 0
        assert reader.read([0, 1])[2][1].shape == (0, 3)


def test_row_groups_shrink_with_the_shower() -> None:
    assert row_group_rows(load_geometry("ds3")) == 500
    huge = Geometry("huge", "cartesian", (Layer(0, tuple(range(1001)), tuple(range(1001))),))
    assert row_group_rows(huge) == (100 << 20) // 4_000_000


def test_wrong_voxel_count_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.parquet.*10 voxels"):
        write_shard(tmp_path / "a.parquet", make(load_geometry("ds1_photons"), 3), TOY)
    assert list(tmp_path.iterdir()) == []


def test_an_error_between_rows_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with ShardWriter(tmp_path / "a.parquet", TOY) as writer:
            writer.append(make(TOY, 600))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_nothing_under_the_final_name_until_complete(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.parquet", TOY) as writer:
        writer.append(make(TOY, 600))
        assert not (tmp_path / "a.parquet").exists()
        assert all(path.suffix == ".tmp" for path in tmp_path.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    geometry = load_geometry("ds2")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError, match=r"a\.parquet"):
            write_shard(tmp_path / "a.parquet", make(geometry, 600), geometry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageError, OSError)):
        write_shard(tmp_path / "file" / "a.parquet", make(TOY, 3), TOY)


# ------------------------------------------------------------------ damage


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    write_shard(tmp_path / "a.parquet", make(TOY, 40), TOY)
    return tmp_path / "a.parquet"


def read_all(path: Path) -> Showers:
    with ShardReader(path, TOY) as reader:
        return reader.showers()


@pytest.mark.faults
@pytest.mark.parametrize("mask", [0xFF, 0x01, 0x80])
def test_no_flipped_byte_changes_a_value_unnoticed(shard: Path, mask: int) -> None:
    raw, good = shard.read_bytes(), read_all(shard)
    refused, messages = 0, set()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    positions = [*range(mask % 7, footer, 7), *range(footer, len(raw))]
    for position in positions:
        damaged = bytearray(raw)
        damaged[position] ^= mask
        shard.write_bytes(damaged)
        try:
            assert equal(read_all(shard), good), f"byte {position} changed the showers"
        except (IntegrityError, DataError) as error:
            messages.add(error.message)
            refused += 1
    assert all("a.parquet" in message and "\n" not in message for message in messages)
    assert refused > 0.6 * len(positions)


@pytest.mark.faults
def test_projection_does_not_touch_other_layers(shard: Path) -> None:
    column = pq.read_metadata(shard).row_group(0).column(2 + 1)
    raw = bytearray(shard.read_bytes())
    raw[column.data_page_offset + column.total_compressed_size - 5] ^= 0xFF
    good = read_all(shard)
    shard.write_bytes(raw)
    _, _, (zero, two) = read_layers(shard, [0, 2])
    assert np.array_equal(zero, good.voxels[:, TOY.span(0)])
    assert np.array_equal(two, good.voxels[:, TOY.span(2)])
    with pytest.raises(IntegrityError, match=r"a\.parquet"):
        read_layers(shard, [1])


@pytest.mark.faults
@pytest.mark.parametrize("share", [0, 0.05, 0.5, 0.99])
def test_truncated(shard: Path, share: float) -> None:
    raw = shard.read_bytes()
    shard.write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(IntegrityError, match=r"a\.parquet: not a readable Parquet file") as caught:
        read_all(shard)
    assert caught.value.hint


def test_missing_and_directory(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"no\.parquet: no such shard"):
        ShardReader(tmp_path / "no.parquet")
    with pytest.raises(IntegrityError, match=tmp_path.name):
        ShardReader(tmp_path)


def test_web_page(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("<!DOCTYPE html><html>sign in</html>")
    with pytest.raises(IntegrityError, match=r"a\.parquet: not a readable"):
        ShardReader(tmp_path / "a.parquet")


def foreign(path: Path, **columns: pa.Array) -> None:
    table = pa.table(columns)
    pq.write_table(table.replace_schema_metadata({"caloray.format": "1"}), path)


def test_foreign_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: not a caloray shard \(no caloray metadata"):
        ShardReader(tmp_path / "a.parquet")


def test_newer_format(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_layout, "FORMAT", "7")
    write_shard(shard, make(TOY, 3), TOY)
    monkeypatch.undo()
    with pytest.raises(DataError, match="shard format '7', expected format '1'"):
        ShardReader(shard)


IDS = pa.array([1, 2], pa.int64())
ENERGIES = pa.array([1.0, 2.0])
CELLS = pa.array([b"01234567"] * 2, pa.binary(8))


@pytest.mark.parametrize(
    "columns",
    [
        {"event_id": IDS, "incident_energy": ENERGIES},
        {"event_id": IDS, "incident_energy": ENERGIES, "layer_00": CELLS},  # may hold nulls
        {"event_id": ENERGIES, "incident_energy": IDS, "layer_00": CELLS},
        {"event_id": IDS, "incident_energy": ENERGIES, "layer_01": CELLS},
        {"event_id": IDS, "incident_energy": ENERGIES, "layer_00": pa.array([b"123"] * 2, pa.binary(3))},
        {"event_id": IDS, "incident_energy": ENERGIES, "layer_00": pa.array([b"123"] * 2)},
    ],
)
def test_wrong_columns(tmp_path: Path, columns: dict[str, pa.Array]) -> None:
    foreign(tmp_path / "a.parquet", **columns)
    with pytest.raises(DataError, match=r"a\.parquet: not a caloray shard"):
        ShardReader(tmp_path / "a.parquet")


def test_other_geometry_and_unknown_layer(shard: Path) -> None:
    with pytest.raises(IntegrityError, match=r"geometry toy .* expected ds2"):
        ShardReader(shard, load_geometry("ds2"))
    with pytest.raises(DataError, match="no layer 3, it has 3 layers"):
        read_layers(shard, [3])
    assert layer_column(3) == "layer_03"
