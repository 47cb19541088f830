"""The campaign's particle list on disk: same particles same bytes, any rows, no damage goes unnoticed."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import ConfigError, DataError, IntegrityError, StorageError
from caloray.io.particle_record import ContentDigest, ParticleRows
from caloray.io.particle_table import (
    ParticleTable,
    ParticleWriter,
    SkippedWriter,
    read_skipped,
    require_free_names,
)

ROW_GROUP = 100

NAMES = ("age", "direction_z")


def some(n: int, seed: int = 1) -> ParticleRows:
    rng = np.random.default_rng(seed)
    return ParticleRows(
        rng.uniform(1e3, 5e4, n),
        run=np.full(n, 7),
        event=np.arange(n) // 3 + (1 << 40),
        particle=np.arange(n) % 3,
        pdg=np.where(np.arange(n) % 2, 11, -11),
        conditions={name: rng.uniform(0, 1, n) for name in NAMES},
    )


def write(path: Path, rows: ParticleRows, cuts: tuple[int, ...] = ()) -> ParticleWriter:
    with ParticleWriter(path, NAMES, "here", ROW_GROUP) as writer:
        edges = [0, *cuts, len(rows)]
        for start, stop in pairwise(edges):
            writer.append(rows.select(slice(start, stop)))
    return writer


def same(found: ParticleRows, expected: ParticleRows) -> None:
    assert list(found.columns()) == list(expected.columns())
    for name, values in expected.columns().items():
        np.testing.assert_array_equal(found.columns()[name], values)
        assert found.columns()[name].dtype == values.dtype


def test_same_particles_same_bytes_however_they_come(tmp_path: Path) -> None:
    rows = some(2 * ROW_GROUP + 100)
    whole = write(tmp_path / "a.parquet", rows)
    pieces = write(
        tmp_path / "b.parquet", rows, (0, 1, 17, 17, ROW_GROUP - 1, 2 * ROW_GROUP, 2 * ROW_GROUP + 1)
    )
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert whole.content == pieces.content
    assert whole.rows == len(rows)
    assert (
        write(tmp_path / "c.parquet", some(100, 2)).content
        != write(tmp_path / "d.parquet", some(100)).content
    )


def test_the_columns_are_plain_parquet(tmp_path: Path) -> None:
    rows = some(ROW_GROUP + 5)
    write(tmp_path / "a.parquet", rows)
    file = pq.ParquetFile(tmp_path / "a.parquet")
    assert file.schema_arrow.names == ["energy", *NAMES, "run", "event", "particle", "pdg"]
    kinds = ["double"] * 3 + ["int64"] * 2 + ["int32"] * 2
    assert [str(field.type) for field in file.schema_arrow] == kinds
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [ROW_GROUP, 5]
    table = file.read()
    for name, values in rows.columns().items():
        np.testing.assert_array_equal(table.column(name).to_numpy(), values)


def test_the_content_hash_by_hand(tmp_path: Path) -> None:
    rows = some(5)
    written = hashlib.sha256(json.dumps(list(NAMES)).encode() + b"\0")
    for i in range(5):
        for column, kind in zip(
            rows.columns().values(), ("<f8",) * 3 + ("<i8",) * 2 + ("<i4",) * 2, strict=True
        ):
            written.update(np.array(column[i], kind).tobytes())
    assert write(tmp_path / "a.parquet", rows).content == written.hexdigest()
    assert ContentDigest(["age"]).hexdigest() != ContentDigest(["direction_z"]).hexdigest()


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ParticleRows]:
    path = tmp_path_factory.mktemp("list") / "particles.parquet"
    rows = some(3 * ROW_GROUP + 77)
    write(path, rows)
    return path, rows


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3 * ROW_GROUP + 76), st.integers(1, 250)), min_size=1, max_size=5))
def test_any_rows_in_any_order(listed: tuple[Path, ParticleRows], asked: list[tuple[int, int]]) -> None:
    path, rows = listed
    with ParticleTable(path) as table:
        for start, count in asked:
            stop = min(start + count, len(rows))
            same(table.read(start, stop), rows.select(slice(start, stop)))


def test_only_the_row_groups_that_are_needed_are_read(
    listed: tuple[Path, ParticleRows], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = listed
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: Any, group: int, **options: Any) -> Any:
        read.append(group)
        return original(self, group, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    with ParticleTable(path) as table:
        for block in range(6, 18):
            table.read(block * 10, (block + 1) * 10)
    assert read == [0, 1]


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (0, 10**9)])
def test_rows_that_are_not_there(listed: tuple[Path, ParticleRows], start: int, stop: int) -> None:
    with ParticleTable(listed[0]) as table, pytest.raises(DataError, match="of a list of 377 particles"):
        table.read(start, stop)


def test_an_empty_list_can_be_written_and_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", some(0))
    with ParticleTable(tmp_path / "a.parquet") as table:
        assert table.rows == 0
        table.verify()


@pytest.mark.faults
def test_every_flipped_byte_of_the_values_is_noticed(tmp_path: Path) -> None:
    rows = some(600)
    path = tmp_path / "a.parquet"
    write(path, rows)
    whole = path.read_bytes()
    noticed = 0
    for at in range(0, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        try:
            with ParticleTable(path) as table:
                table.verify()
                same(table.read(0, 600), rows)
        except (IntegrityError, DataError):
            noticed += 1
    values = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    assert noticed >= values // 97
    path.write_bytes(whole[:-50])
    with pytest.raises(IntegrityError, match=r"a\.parquet: not a readable particle list"):
        ParticleTable(path)
    path.unlink()
    with pytest.raises(IntegrityError, match="no such particle list"):
        ParticleTable(path)


def test_other_parquet_files_are_told_apart(tmp_path: Path) -> None:
    with SkippedWriter(tmp_path / "s.parquet", NAMES) as writer:
        writer.append(np.arange(2), some(2), ["a", "b"])
    with pytest.raises(IntegrityError, match="its columns are not those"):
        ParticleTable(tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet").replace_schema_metadata({})
    pq.write_table(table, tmp_path / "o.parquet")
    with pytest.raises(DataError, match="not a particle list that caloray wrote"):
        ParticleTable(tmp_path / "o.parquet")


def test_particles_that_were_left_out(tmp_path: Path) -> None:
    rows = some(10)
    with SkippedWriter(tmp_path / "s.parquet", NAMES) as writer:
        writer.append(np.arange(4), rows.select(slice(0, 4)), ["w", "", "y", "z"])
        writer.append(np.arange(4, 10), rows.select(slice(4, 10)), ["é"] * 6)
    ids, found, reasons = read_skipped(tmp_path / "s.parquet")
    assert ids.tolist() == list(range(10))
    assert reasons == ["w", "", "y", "z", *["é"] * 6]
    same(found, rows)
    with SkippedWriter(tmp_path / "none.parquet", NAMES):
        pass
    assert read_skipped(tmp_path / "none.parquet")[2] == []


def _fail(writer: ParticleWriter) -> None:
    writer.append(some(70_000))
    raise RuntimeError("halfway")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="halfway"),
        ParticleWriter(tmp_path / "a.parquet", NAMES) as writer,
    ):
        _fail(writer)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StorageError), ParticleWriter(tmp_path / "file" / "a.parquet", NAMES):
        pass


def test_columns_of_different_lengths() -> None:
    columns = some(5).columns()
    with pytest.raises(DataError, match="different lengths"):
        ParticleRows.of(columns | {"age": np.zeros(4)})


def test_names_that_are_taken() -> None:
    require_free_names(NAMES)
    with pytest.raises(ConfigError, match="named pdg, run"):
        require_free_names(("run", "age", "pdg"))
