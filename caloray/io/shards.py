"""Shower shards: Parquet files with one fixed-size-binary column per layer, written and read in row groups.

The layout is that of :mod:`caloray.io.shard_layout`: a component reads only the layers that it needs, and
decoding is a memory copy. Pages carry checksums that every read verifies. Same showers, same bytes.
"""

from __future__ import annotations

__all__ = [
    "EVENT_ID",
    "INCIDENT_ENERGY",
    "ShardReader",
    "ShardWriter",
    "layer_column",
    "read_layers",
    "row_group_rows",
    "write_shard",
]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.atomic import sha256_file, staging
from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry
from caloray.io.shard_layout import (
    EVENT_ID,
    INCIDENT_ENERGY,
    METADATA,
    RESERVED,
    checked_group_rows,
    condition_column,
    damaged,
    layer_column,
    layer_sizes,
    row_group_rows,
    shard_conditions,
    shard_schema,
)
from caloray.showers import Showers, default_unit

MAX_ROW_GROUP_BYTES = 4 << 30


class ShardWriter:
    """Streams showers into one shard; the file appears under its name only when it is complete.

    Rows may be appended in pieces of any size: row groups are cut at fixed positions, so the bytes depend
    on the showers alone. At most one row group is held in memory.

    Args:
        path: The shard to write.
        geometry: Readout of the showers.
        extra: Further ``caloray.*`` metadata of the file; must not depend on time, host or path.
        conditions: Unit of each condition that the showers carry, by name; None: they carry none.

    Raises:
        StorageError: The disk is full or not writable.
        DataError: The showers have another number of voxels than the geometry, or other conditions.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        extra: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.rows = 0
        self._geometry = geometry
        self._conditions = tuple(conditions or ())
        self._schema = shard_schema(geometry, extra or {}, conditions)
        self._size = row_group_rows(geometry)
        self._pending: list[Showers] = []
        self._waiting = 0
        self._staging = staging(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        temporary = self._staging.__enter__()
        try:
            self._writer = _open_writer(temporary, self._schema)
        except OSError as error:
            self._staging.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def append(self, showers: Showers) -> None:
        """Add showers (voxels (n, n_voxels) float32 [MeV]) at the end."""
        if showers.voxels.shape[1:] != (self._geometry.n_voxels,):
            raise DataError(
                f"{self.path}: showers of shape {showers.voxels.shape} do not fit geometry "
                f"{self._geometry.name} with {self._geometry.n_voxels} voxels",
                hint="pass the geometry that the showers were made with",
            )
        if set(showers.conditions) != set(self._conditions):
            found, expected = ", ".join(showers.conditions) or "none", ", ".join(self._conditions) or "none"
            raise DataError(
                f"{self.path}: showers with conditions {found}, the shard is for {expected}",
                hint="all showers of a shard have the same conditions",
            )
        start = 0
        while start < len(showers):
            stop = min(len(showers), start + self._size - self._waiting)
            self._hold(showers, start, stop)
            start = stop

    def _hold(self, showers: Showers, start: int, stop: int) -> None:
        self._pending.append(showers.select(slice(start, stop)))
        self._waiting += stop - start
        if self._waiting == self._size:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None or not self._waiting:
            return
        columns = [
            pa.array(np.concatenate([s.ids for s in self._pending]).astype(np.int64, copy=False)),
            pa.array(np.concatenate([s.incident_energies for s in self._pending]).astype(np.float64)),
        ]
        columns += [
            pa.array(np.concatenate([s.conditions[name] for s in self._pending])) for name in self._conditions
        ]
        for layer in range(self._geometry.n_layers):
            span = self._geometry.span(layer)
            columns.append(_binary(np.concatenate([s.voxels[:, span] for s in self._pending])))
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._size)
        self.rows += self._waiting
        self._pending, self._waiting = [], 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            if self._writer is not None:
                self._writer.close()
        except OSError as failure:
            if kind is None:
                self._staging.__exit__(type(failure), failure, failure.__traceback__)
                raise
        self._staging.__exit__(kind, error, trace)


def write_shard(
    path: Path,
    showers: Showers,
    geometry: Geometry,
    *,
    extra: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> str:
    """Write all ``showers`` with their conditions as one shard and return the file's sha256.

    Raises:
        StorageError: The disk is full or not writable.
        DataError: The showers do not fit the geometry.
    """
    conditions = {name: (units or {}).get(name, default_unit(name)) for name in showers.conditions}
    with ShardWriter(path, geometry, extra, conditions) as writer:
        writer.append(showers)
    return sha256_file(path)


class ShardReader:
    """One shard, opened for reading; every page that is read has its checksum verified.

    Args:
        path: The shard.
        geometry: If given, the geometry that the shard must have.

    Raises:
        IntegrityError: The file is missing, truncated, altered or has another geometry.
        DataError: It is a Parquet file but not a caloray shard.
    """

    def __init__(self, path: Path, geometry: Geometry | None = None) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self._inspect(geometry)
        except (OSError, ValueError, pa.ArrowException) as error:
            self.close()
            raise damaged(path, error) from error
        except (DataError, IntegrityError):
            self.close()
            raise

    def _inspect(self, geometry: Geometry | None) -> None:
        schema = self._file.schema_arrow
        meta = {k.decode(errors="replace"): v for k, v in (schema.metadata or {}).items()}
        found = {
            k[len(METADATA) :]: v.decode(errors="replace") for k, v in meta.items() if k.startswith(METADATA)
        }
        self.conditions = shard_conditions(self.path, found.get("conditions"))
        self.layer_sizes = layer_sizes(self.path, schema, found.get("format"), tuple(self.conditions))
        self.geometry_digest = found.get("geometry_digest", "")
        self.geometry_name = found.get("geometry", "")
        self.extra = {k: v for k, v in found.items() if k not in RESERVED}
        self.n_rows = int(self._file.metadata.num_rows)
        self.group_rows = [
            checked_group_rows(self.path, self._file.metadata, i) for i in range(self.n_row_groups)
        ]
        if sum(self.group_rows) != self.n_rows:
            raise damaged(self.path, ValueError("row counts disagree"))
        if max(self.group_rows, default=0) * 4 * sum(self.layer_sizes) > MAX_ROW_GROUP_BYTES:
            raise IntegrityError(
                f"{self.path}: a row group claims more than {MAX_ROW_GROUP_BYTES >> 30} GiB",
                hint="the file is damaged or was not written by caloray; make it again",
            )
        if geometry is not None and geometry.digest != self.geometry_digest:
            raise IntegrityError(
                f"{self.path}: geometry {self.geometry_name} ({self.geometry_digest[:12]}) but expected "
                f"{geometry.name} ({geometry.digest[:12]})",
                hint="do not mix shards of different readouts in one directory",
            )

    @property
    def n_row_groups(self) -> int:
        """Number of row groups: the pieces in which the shard can be read."""
        return int(self._file.num_row_groups)

    def read(
        self, layers: Sequence[int], row_group: int | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Read chosen layers of one row group, or of the whole shard.

        Returns:
            event ids (n,) int64, incident energies (n,) float64 [MeV], and for each asked layer its voxels
            (n, size) float32 [MeV]; the arrays are views of the decoded columns.

        Raises:
            DataError: A layer that the shard does not have.
            IntegrityError: The file is damaged.
        """
        for layer in layers:
            if not 0 <= layer < len(self.layer_sizes):
                raise DataError(f"{self.path}: no layer {layer}, it has {len(self.layer_sizes)} layers")
        names = [EVENT_ID, INCIDENT_ENERGY, *(layer_column(i) for i in layers)]
        table = self._table(names, row_group)
        return (
            _numbers(table, EVENT_ID, np.int64),
            _numbers(table, INCIDENT_ENERGY, np.float64),
            [_voxels(table, layer_column(i), self.layer_sizes[i]) for i in layers],
        )

    def read_conditions(self, row_group: int | None = None) -> dict[str, np.ndarray]:
        """Values (n,) float64 of each condition by name, of one row group or of the whole shard.

        Raises:
            IntegrityError: The file is damaged.
        """
        if not self.conditions:
            return {}
        table = self._table([condition_column(name) for name in self.conditions], row_group)
        return {name: _numbers(table, condition_column(name), np.float64) for name in self.conditions}

    def showers(self, row_group: int | None = None) -> Showers:
        """Whole showers of one row group, or of the shard: voxels (n, n_voxels) float32 [MeV]."""
        ids, energies, layers = self.read(range(len(self.layer_sizes)), row_group)
        return Showers(energies, np.concatenate(layers, axis=1), ids, self.read_conditions(row_group))

    def ids(self) -> np.ndarray:
        """Event ids of the whole shard, (n_rows,) int64."""
        return _numbers(self._table([EVENT_ID], None), EVENT_ID, np.int64)

    def chunks(self) -> Iterator[Showers]:
        """Whole showers, one row group at a time."""
        for group in range(self.n_row_groups):
            yield self.showers(group)

    def _table(self, names: list[str], row_group: int | None) -> pa.Table:
        try:
            if row_group is None:
                return self._file.read(columns=names, use_threads=False).combine_chunks()
            table = self._file.read_row_group(row_group, columns=names, use_threads=False)
            return table.combine_chunks()
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
            raise damaged(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_layers(
    path: Path, layers: Sequence[int], row_group: int | None = None
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Open a shard, read chosen layers (see :meth:`ShardReader.read`) and close it."""
    with ShardReader(path) as reader:
        return reader.read(layers, row_group)


def _open_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        write_statistics=[EVENT_ID, INCIDENT_ENERGY],
        write_page_checksum=True,
        version="2.6",
        data_page_version="1.0",
    )


def _binary(voxels: np.ndarray) -> pa.Array:
    """(n, size) float32 -> fixed-size-binary column without a copy of its own."""
    flat = np.ascontiguousarray(voxels, dtype="<f4")
    width = pa.binary(4 * flat.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(width, len(flat), [None, pa.py_buffer(flat)])


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise damaged(path, error) from error


def _numbers(table: pa.Table, name: str, dtype: type[np.generic]) -> np.ndarray:
    column = table.column(name)
    if not table.num_rows:
        return np.zeros(0, dtype)
    return np.asarray(column.chunk(0).to_numpy(zero_copy_only=True))


def _voxels(table: pa.Table, name: str, size: int) -> np.ndarray:
    if not table.num_rows:
        return np.zeros((0, size), np.float32)
    chunk = table.column(name).chunk(0)
    values = np.frombuffer(chunk.buffers()[1], "<f4", count=len(chunk) * size, offset=chunk.offset * size * 4)
    return values.reshape(len(chunk), size)
