"""Shower shards: Parquet files that hold the voxels of showers, written and read in row groups.

The columns are those of :mod:`caloray.io.shard_layout`. *Dense* shards have one fixed-size-binary column
per layer: a component reads only the layers that it needs, and decoding is a memory copy. *Sparse* shards
list the voxels that were hit: small, and the same to every reader here. Pages carry checksums that every read
verifies. Same showers, same bytes.
"""

from __future__ import annotations

__all__ = [
    "EVENT_ID",
    "INCIDENT_ENERGY",
    "READOUT",
    "Layout",
    "ShardReader",
    "ShardWriter",
    "is_shard",
    "layer_column",
    "read_layers",
    "row_group_rows",
    "write_shard",
]

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry
from caloray.io.shard_layout import (
    EVENT_ID,
    FORMATS,
    INCIDENT_ENERGY,
    METADATA,
    READOUT,
    RESERVED,
    Layout,
    checked_group_rows,
    condition_column,
    damaged,
    layer_column,
    read_form,
    row_group_rows,
)
from caloray.io.shard_writer import ShardWriter, write_shard
from caloray.io.sparse import SparseShowers
from caloray.io.sparse_columns import LISTS, read_lists
from caloray.showers import Showers

MAX_ROW_GROUP_BYTES = 4 << 30


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
        form = read_form(self.path, schema, found)
        self.layout: Layout = form.layout
        self.layer_sizes = form.layer_sizes
        self.conditions = dict(form.conditions)
        self.extras = dict(form.extras)
        self.geometry_digest = found.get("geometry_digest", "")
        self.geometry_name = found.get("geometry", "")
        self.extra = {k: v for k, v in found.items() if k not in RESERVED}
        self.n_rows = int(self._file.metadata.num_rows)
        self.group_rows = [
            checked_group_rows(self.path, self._file.metadata, i, form.n_voxels)
            for i in range(self.n_row_groups)
        ]
        if sum(self.group_rows) != self.n_rows:
            raise damaged(self.path, ValueError("row counts disagree"))
        if max(self.group_rows, default=0) * 4 * form.n_voxels > MAX_ROW_GROUP_BYTES:
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
        if geometry is not None and geometry.layer_sizes != self.layer_sizes:
            raise damaged(self.path, ValueError("its layers are not those of its geometry"))

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
            (n, size) float32 [MeV]; the arrays are views of the decoded columns, or of one array where the
            shard is sparse.

        Raises:
            DataError: A layer that the shard does not have.
            IntegrityError: The file is damaged.
        """
        for layer in layers:
            if not 0 <= layer < len(self.layer_sizes):
                raise DataError(f"{self.path}: no layer {layer}, it has {len(self.layer_sizes)} layers")
        if self.layout == "sparse" and len(layers):
            found = self._hits([EVENT_ID, INCIDENT_ENERGY, *LISTS], row_group)
            return found.ids, found.incident_energies, found.layers(self.layer_sizes, layers)
        table = self._table([EVENT_ID, INCIDENT_ENERGY, *map(layer_column, layers)], row_group)
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

    def read_extras(self, row_group: int | None = None) -> dict[str, np.ndarray]:
        """Values (n,) of each extra column by name, of one row group or of the whole shard.

        Raises:
            IntegrityError: The file is damaged.
        """
        if not self.extras:
            return {}
        table = self._table(list(self.extras), row_group)
        return {name: _numbers(table, name, np.dtype(dtype).type) for name, dtype in self.extras.items()}

    def sparse(self, row_group: int | None = None) -> SparseShowers:
        """The hits of one row group, or of the shard, with conditions and extras.

        Raises:
            IntegrityError: The file is damaged, or its lists of hits are no showers of this geometry.
        """
        if self.layout == "dense":
            return SparseShowers.of(self.showers(row_group), self.read_extras(row_group))
        return self._hits(None, row_group)

    def showers(self, row_group: int | None = None) -> Showers:
        """Whole showers of one row group, or of the shard: voxels (n, n_voxels) float32 [MeV]."""
        if self.layout == "sparse":
            return self._hits(None, row_group).dense(sum(self.layer_sizes))
        ids, energies, layers = self.read(range(len(self.layer_sizes)), row_group)
        return Showers(energies, np.concatenate(layers, axis=1), ids, self.read_conditions(row_group))

    def ids(self) -> np.ndarray:
        """Event ids of the whole shard, (n_rows,) int64."""
        return _numbers(self._table([EVENT_ID], None), EVENT_ID, np.int64)

    def chunks(self) -> Iterator[Showers]:
        """Whole showers, one row group at a time."""
        for group in range(self.n_row_groups):
            yield self.showers(group)

    def _hits(self, names: list[str] | None, row_group: int | None) -> SparseShowers:
        """Sparse showers from the columns ``names``; only all columns (None) give conditions and extras."""
        table = self._table(names, row_group)
        conditions = () if names else self.conditions
        extras = {} if names else self.extras
        try:
            starts, voxels, energies = read_lists(table)
            found = SparseShowers(
                _numbers(table, INCIDENT_ENERGY, np.float64),
                _numbers(table, EVENT_ID, np.int64),
                starts,
                voxels,
                energies,
                {name: _numbers(table, condition_column(name), np.float64) for name in conditions},
                {name: _numbers(table, name, np.dtype(dtype).type) for name, dtype in extras.items()},
            )
            found.check(sum(self.layer_sizes), "lists of hits")
        except (ValueError, DataError) as error:
            raise damaged(self.path, error) from error
        return found

    def _table(self, names: list[str] | None, row_group: int | None) -> pa.Table:
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


def is_shard(path: Path) -> bool:
    """Whether a Parquet file says of itself that it is a shard; what cannot be read is none."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (OSError, ValueError, pa.ArrowException):
        return False
    return metadata.get(f"{METADATA}format".encode(), b"").decode(errors="replace") in FORMATS


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
