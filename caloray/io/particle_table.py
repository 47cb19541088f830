"""The particle list of a campaign as a Parquet file: row i is the particle of shower i.

Columns without nulls: ``energy`` (float64, MeV), the conditions by name (float64), ``run``, ``event``
(int64), ``particle``, ``pdg`` (int32), in row groups of a fixed number of rows, with page checksums. The
footer holds the sha256 over the values, which does not depend on the library that wrote the file. A list of
particles that were left out has ``event_id`` (int64) before and ``reason`` (text) behind.
"""

from __future__ import annotations

__all__ = [
    "PARTICLES",
    "ROW_GROUP",
    "SKIPPED",
    "ParticleTable",
    "ParticleWriter",
    "SkippedWriter",
    "list_bytes",
    "read_skipped",
    "require_free_names",
]

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.errors import ConfigError, DataError, IntegrityError
from caloray.io.particle_record import ENERGY, IDENTITY, ContentDigest, ParticleRows
from caloray.io.row_groups import ROW_GROUP, RowGroups
from caloray.io.shard_layout import EVENT_ID, METADATA

PARTICLES = "particles.parquet"
SKIPPED = "skipped.parquet"
REASON = "reason"
FORMAT = "particles-1"
_OWN = {ENERGY, *IDENTITY, EVENT_ID, REASON}
_SPARE, _FOOTER = 1.02, 1 << 16


def list_bytes(rows: int, conditions: int) -> int:
    """What a particle list takes on disk at most [bytes]; lists that compress well take less.

    Args:
        rows: Particles.
        conditions: Conditions that each of them has.
    """
    identity = sum(np.dtype(kind).itemsize for kind in IDENTITY.values())
    columns = 1 + conditions + len(IDENTITY)
    groups = -(-rows // ROW_GROUP)
    return int(rows * (8 * (1 + conditions) + identity) * _SPARE) + groups * columns * 512 + _FOOTER


def require_free_names(conditions: Iterable[str]) -> None:
    """Refuse conditions whose names are those of other columns of a particle list.

    Raises:
        ConfigError: Naming them.
    """
    taken = sorted(_OWN & set(conditions))
    if taken:
        raise ConfigError(
            f"a condition named {', '.join(taken)} cannot stand in a particle list, which has such a column",
            hint="give such a model's particles by a spectrum",
        )


class ParticleWriter:
    """Streams a particle list into a file that appears under its name only when it is complete.

    The bytes depend on the particles alone, not on the pieces in which they come. At most one row group is
    held in memory.

    Args:
        path: The file to write.
        conditions: Names of the conditions, in order.
        source: What identifies where the list came from; kept in the footer.
        group: Rows of a row group.

    Raises:
        StorageError: The disk is full or not writable.
    """

    def __init__(
        self, path: Path, conditions: Sequence[str], source: str = "", group: int = ROW_GROUP
    ) -> None:
        self.rows = 0
        self._conditions = tuple(conditions)
        self._digest = ContentDigest(conditions)
        self._groups = RowGroups(path, _schema(conditions), group)
        self._source = source

    @property
    def content(self) -> str:
        """sha256 over the particles so far."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        self._groups.open()
        return self

    def append(self, rows: ParticleRows) -> None:
        """Add particles at the end."""
        self._groups.append(_arrays(rows, self._conditions))
        self._digest.update(rows)
        self.rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._groups.close({"content": self.content, "source": self._source}, kind, error, trace)


class SkippedWriter:
    """Streams particles that were left out, each with its shower id and the reason, into a file.

    Args:
        path: The file to write.
        conditions: Names of the conditions, in order.

    Raises:
        StorageError: The disk is full or not writable.
    """

    def __init__(self, path: Path, conditions: Sequence[str]) -> None:
        self.rows = 0
        self._conditions = tuple(conditions)
        self._groups = RowGroups(path, _schema(conditions, skipped=True))

    def __enter__(self) -> Self:
        self._groups.open()
        return self

    def append(self, ids: np.ndarray, rows: ParticleRows, reasons: Sequence[str]) -> None:
        """Add particles (n,) with their shower ids (n,) int64 and one text each."""
        arrays = _arrays(rows, self._conditions)
        self._groups.append([pa.array(ids, pa.int64()), *arrays, pa.array(list(reasons), pa.string())])
        self.rows += len(rows)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._groups.close({}, kind, error, trace)


class ParticleTable:
    """The particle list of a campaign, opened for reading; every page that is read has its checksum verified.

    At most one row group is kept in memory.

    Args:
        path: The file.

    Raises:
        IntegrityError: The file is missing, truncated or altered.
        DataError: It is a Parquet file but not such a list.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file, self.conditions, found = _open(path, skipped=False)
        self.rows = int(self._file.metadata.num_rows)
        self.content, self.source = found.get("content", ""), found.get("source", "")
        self._held: tuple[int, ParticleRows] | None = None
        self._size = int(self._file.metadata.row_group(0).num_rows) if self.rows else 1
        if self._size < 1 or self._file.num_row_groups != -(-self.rows // self._size):
            self.close()
            raise _damaged(path, ValueError("row counts disagree"))

    def read(self, start: int, stop: int) -> ParticleRows:
        """Particles ``start`` to ``stop`` (excluded), at least one.

        Raises:
            DataError: There are no such rows.
            IntegrityError: The file is damaged.
        """
        if not 0 <= start < stop <= self.rows:
            raise DataError(f"{self.path}: rows {start} to {stop - 1} of a list of {self.rows} particles")
        parts = []
        for group in range(start // self._size, (stop - 1) // self._size + 1):
            first = group * self._size
            parts.append(self._group(group).select(slice(max(start - first, 0), stop - first)))
        return parts[0] if len(parts) == 1 else ParticleRows.concatenate(parts)

    def chunks(self) -> Iterator[ParticleRows]:
        """All particles, one row group at a time."""
        for group in range(int(self._file.num_row_groups)):
            yield self._group(group)

    def verify(self) -> None:
        """Read everything and compare with what the footer says.

        Raises:
            IntegrityError: The file is damaged or its values are not those that were written.
        """
        digest = ContentDigest(self.conditions)
        for rows in self.chunks():
            digest.update(rows)
        if digest.hexdigest() != self.content:
            raise _damaged(self.path, ValueError("the values are not those that were written"))

    def _group(self, group: int) -> ParticleRows:
        if self._held is not None and self._held[0] == group:
            return self._held[1]
        try:
            table = self._file.read_row_group(group, use_threads=False)
            if len(table) != min(self._size, self.rows - group * self._size):
                raise ValueError(f"row group {group} has {len(table)} rows")
            rows = _rows(table)
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
            raise _damaged(self.path, error) from error
        self._held = (group, rows)
        return rows

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_skipped(path: Path) -> tuple[np.ndarray, ParticleRows, list[str]]:
    """Shower ids (n,) int64, particles and reasons of a list of particles that were left out; all in memory.

    Raises:
        IntegrityError: The file is missing, truncated or altered.
        DataError: It is a Parquet file but not such a list.
    """
    file, _, _ = _open(path, skipped=True)
    try:
        table = file.read(use_threads=False)
        ids = table.column(EVENT_ID).to_numpy()
        rows = _rows(table.drop_columns([EVENT_ID, REASON]))
        return ids, rows, table.column(REASON).to_pylist()
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    finally:
        file.close(force=True)


def _schema(conditions: Sequence[str], *, skipped: bool = False) -> pa.Schema:
    kinds = [(ENERGY, pa.float64()), *((name, pa.float64()) for name in conditions)]
    kinds += [(name, pa.from_numpy_dtype(kind)) for name, kind in IDENTITY.items()]
    if skipped:
        kinds = [(EVENT_ID, pa.int64()), *kinds, (REASON, pa.string())]
    meta = {"format": FORMAT, "conditions": json.dumps(list(conditions)), "unit": "MeV"}
    fields = [pa.field(name, kind, nullable=False) for name, kind in kinds]
    return pa.schema(fields, metadata={METADATA + key: value for key, value in meta.items()})


def _arrays(rows: ParticleRows, conditions: Sequence[str]) -> list[pa.Array]:
    columns = rows.columns()
    return [pa.array(columns[name]) for name in (ENERGY, *conditions, *IDENTITY)]


def _rows(table: pa.Table) -> ParticleRows:
    return ParticleRows.of({name: table.column(name).to_numpy() for name in table.column_names})


def _open(path: Path, *, skipped: bool) -> tuple[pq.ParquetFile, tuple[str, ...], dict[str, str]]:
    """The open file, the names of its conditions, and what its footer says."""
    try:
        file = pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    try:
        names, found = _described(path, file, skipped=skipped)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException) as error:
        file.close(force=True)
        raise _damaged(path, error) from error
    except DataError:
        file.close(force=True)
        raise
    return file, names, found


def _described(path: Path, file: pq.ParquetFile, *, skipped: bool) -> tuple[tuple[str, ...], dict[str, str]]:
    pairs = (file.metadata.metadata or {}).items()
    meta = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}
    found = {k.removeprefix(METADATA): v for k, v in meta.items() if k.startswith(METADATA)}
    if found.get("format") != FORMAT:
        raise DataError(
            f"{path}: not a particle list that caloray wrote (format {found.get('format')!r}, expected "
            f"{FORMAT!r})",
            hint="make the campaign's directory again, or update caloray",
        )
    names = tuple(str(name) for name in json.loads(found["conditions"]))
    if not file.schema_arrow.equals(_schema(names, skipped=skipped)):
        raise ValueError("its columns are not those of a particle list")
    return names, found


def _damaged(path: Path, error: Exception) -> IntegrityError:
    if isinstance(error, FileNotFoundError):
        hint = "make the directory again, or copy it whole"
        return IntegrityError(f"{path}: no such particle list", hint=hint)
    reason = json.dumps(str(error).split("\n", maxsplit=1)[0][:120])
    return IntegrityError(
        f"{path}: not a readable particle list, truncated or altered ({reason})",
        hint="remove it and run the same command again, or copy the directory again",
    )
