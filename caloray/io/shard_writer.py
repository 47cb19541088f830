"""Writes shower shards; see :mod:`caloray.io.shards`."""

from __future__ import annotations

__all__ = ["ShardWriter", "write_shard"]

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.atomic import sha256_file, staging
from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.io.shard_layout import (
    EVENT_ID,
    INCIDENT_ENERGY,
    Layout,
    ShardForm,
    row_group_rows,
    shard_schema,
)
from caloray.io.sparse import SparseShowers
from caloray.io.sparse_columns import LEAVES, list_columns
from caloray.showers import Showers, default_unit

Columns = Mapping[str, np.ndarray]


class ShardWriter:
    """Streams showers into one shard; the file appears under its name only when it is complete.

    Rows may be appended in pieces of any size: row groups are cut at fixed positions, so the bytes depend
    on the showers alone. At most one row group is held in memory. A shard may be left empty.

    Args:
        path: The shard to write.
        geometry: Readout of the showers.
        extra: Further ``caloray.*`` metadata of the file; must not depend on time, host or path.
        conditions: Unit of each condition that the showers carry, by name; None: they carry none.
        layout: ``dense`` for one column per layer, ``sparse`` for lists of the voxels that were hit.
        extras: numpy dtype of each further column of the shower, by name; None: there are none.

    Raises:
        StorageError: The disk is full or not writable.
        DataError: The showers have another number of voxels than the geometry, or other conditions or extras.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        extra: Mapping[str, str] | None = None,
        conditions: Mapping[str, str] | None = None,
        *,
        layout: Layout = "dense",
        extras: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.rows = 0
        self._geometry = geometry
        self._form = ShardForm(layout, geometry.layer_sizes, dict(conditions or {}), dict(extras or {}))
        self._schema = shard_schema(geometry, extra or {}, self._form)
        self._size = row_group_rows(geometry)
        self._pending: list[tuple[Showers | SparseShowers, Columns]] = []
        self._waiting = 0
        self._staging = staging(path)
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> Self:
        temporary = self._staging.__enter__()
        try:
            self._writer = _open_writer(temporary, self._schema, self._form)
        except OSError as error:
            self._staging.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def append(self, showers: Showers | SparseShowers, extras: Columns | None = None) -> None:
        """Add showers at the end.

        Args:
            showers: Dense ones with voxels (n, n_voxels) float32 [MeV], or sparse ones.
            extras: (n,) values of every declared extra, by name; None takes those of sparse showers.
        """
        if set(showers.conditions) != set(self._form.conditions):
            found = ", ".join(showers.conditions) or "none"
            expected = ", ".join(self._form.conditions) or "none"
            raise DataError(
                f"{self.path}: showers with conditions {found}, the shard is for {expected}",
                hint="all showers of a shard have the same conditions",
            )
        if extras is None and isinstance(showers, SparseShowers):
            extras = showers.extras
        columns = self._extras(extras or {}, len(showers))
        rows = self._in_layout(showers)
        start = 0
        while start < len(rows):
            stop = min(len(rows), start + self._size - self._waiting)
            self._hold(rows, columns, slice(start, stop))
            start = stop

    def _in_layout(self, showers: Showers | SparseShowers) -> Showers | SparseShowers:
        """The showers as this shard holds them: dense or sparse, with the right number of voxels."""
        if isinstance(showers, SparseShowers):
            if self._form.layout == "dense":
                return showers.dense(self._geometry.n_voxels)
            showers.check(self._geometry.n_voxels, str(self.path))
            return showers
        if showers.voxels.shape[1:] != (self._geometry.n_voxels,):
            raise DataError(
                f"{self.path}: showers of shape {showers.voxels.shape} do not fit geometry "
                f"{self._geometry.name} with {self._geometry.n_voxels} voxels",
                hint="pass the geometry that the showers were made with",
            )
        return showers if self._form.layout == "dense" else SparseShowers.of(showers)

    def _extras(self, extras: Columns, rows: int) -> Columns:
        """The extra columns in order and with their dtypes."""
        if set(extras) != set(self._form.extras):
            found, expected = ", ".join(extras) or "none", ", ".join(self._form.extras) or "none"
            raise DataError(
                f"{self.path}: showers with extra columns {found}, the shard is for {expected}",
                hint="all showers of a shard have the same columns",
            )
        return {
            name: _cast(np.asarray(extras[name]), dtype, rows, f"{self.path}: extra column {name}")
            for name, dtype in self._form.extras.items()
        }

    def _hold(self, rows: Showers | SparseShowers, columns: Columns, part: slice) -> None:
        self._pending.append((rows.select(part), {name: values[part] for name, values in columns.items()}))
        self._waiting += part.stop - part.start
        if self._waiting == self._size:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None or not self._waiting:
            return
        rows = [rows for rows, _ in self._pending]
        columns = [
            pa.array(np.concatenate([part.ids for part in rows]).astype(np.int64, copy=False)),
            pa.array(np.concatenate([part.incident_energies for part in rows]).astype(np.float64)),
        ]
        conditions = [[part.conditions[name] for part in rows] for name in self._form.conditions]
        extras = [[more[name] for _, more in self._pending] for name in self._form.extras]
        columns += [pa.array(np.concatenate(parts)) for parts in conditions + extras]
        columns += self._voxels(rows)
        table = pa.Table.from_arrays(columns, schema=self._schema)
        self._writer.write_table(table, row_group_size=self._size)
        self.rows += self._waiting
        self._pending, self._waiting = [], 0

    def _voxels(self, rows: list[Showers | SparseShowers]) -> list[pa.Array]:
        """The columns that hold the voxels; all parts are of this shard's layout."""
        dense = [part.voxels for part in rows if isinstance(part, Showers)]
        if self._form.layout == "dense":
            spans = map(self._geometry.span, range(self._geometry.n_layers))
            return [_binary(np.concatenate([voxels[:, span] for voxels in dense])) for span in spans]
        sparse = [part for part in rows if isinstance(part, SparseShowers)]
        counts = np.concatenate([np.diff(part.starts) for part in sparse])
        return list_columns(
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([part.voxels for part in sparse]).astype(np.int32, copy=False),
            np.concatenate([part.energies for part in sparse]).astype(np.float32, copy=False),
        )

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
    layout: Layout = "dense",
    extras: Columns | None = None,
) -> str:
    """Write all ``showers`` with their conditions and ``extras`` as one shard and return the file's sha256.

    Raises:
        StorageError: The disk is full or not writable.
        DataError: The showers do not fit the geometry.
    """
    conditions = {name: (units or {}).get(name, default_unit(name)) for name in showers.conditions}
    kinds = {name: str(np.asarray(values).dtype) for name, values in (extras or {}).items()}
    with ShardWriter(path, geometry, extra, conditions, layout=layout, extras=kinds) as writer:
        writer.append(showers, extras)
    return sha256_file(path)


def _open_writer(path: Path, schema: pa.Schema, form: ShardForm) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=False,
        column_encoding=_encodings(form) or None,
        write_statistics=[EVENT_ID, INCIDENT_ENERGY],
        write_page_checksum=True,
        version="2.6",
        data_page_version="1.0",
    )


def _encodings(form: ShardForm) -> dict[str, str]:
    """Of sparse shards: differences for whole numbers, bytes by significance for energies of hits."""
    if form.layout == "dense":
        return {}
    whole = [name for name, dtype in form.extras.items() if "int" in dtype]
    return LEAVES | dict.fromkeys([EVENT_ID, *whole], "DELTA_BINARY_PACKED")


def _cast(values: np.ndarray, dtype: str, rows: int, where: str) -> np.ndarray:
    """``values`` as ``dtype``, if that loses nothing but float precision."""
    if values.shape != (rows,):
        raise DataError(f"{where}: shape {values.shape}, expected ({rows},)")
    if not np.can_cast(values.dtype, dtype, "same_kind") and "int" not in str(values.dtype):
        raise DataError(f"{where}: {values.dtype}, expected {dtype}")
    cast = values.astype(dtype, copy=False)
    if "int" in dtype and not np.array_equal(cast, values):
        raise DataError(f"{where}: a value that {dtype} cannot hold")
    return cast


def _binary(voxels: np.ndarray) -> pa.Array:
    """(n, size) float32 -> fixed-size-binary column without a copy of its own."""
    flat = np.ascontiguousarray(voxels, dtype="<f4")
    width = pa.binary(4 * flat.shape[1])
    return pa.FixedSizeBinaryArray.from_buffers(width, len(flat), [None, pa.py_buffer(flat)])
