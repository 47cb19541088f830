"""The lists of hit voxels in a Parquet file: how they are stored, and what is read back from them."""

from __future__ import annotations

__all__ = ["LEAVES", "LISTS", "list_columns", "list_fields", "read_lists"]

import numpy as np
import pyarrow as pa

LISTS = ("voxel", "energy")
LEAVES = {"voxel.list.element": "DELTA_BINARY_PACKED", "energy.list.element": "BYTE_STREAM_SPLIT"}
"""Parquet encoding of each list's values, by the name that the file has for them."""
_KINDS = (pa.int32(), pa.float32())


def list_fields() -> list[pa.Field]:
    """The Arrow fields of the lists; neither a list nor an entry of it may be null."""
    return [pa.field(name, _list_of(kind), nullable=False) for name, kind in zip(LISTS, _KINDS, strict=True)]


def list_columns(starts: np.ndarray, voxels: np.ndarray, energies: np.ndarray) -> list[pa.Array]:
    """The lists of n showers, bounded by ``starts`` (n + 1,), without a copy of the K values."""
    offsets = pa.array(starts.astype(np.int32, copy=False))
    return [
        pa.ListArray.from_arrays(offsets, pa.array(values), type=_list_of(kind))
        for values, kind in zip((voxels, energies), _KINDS, strict=True)
    ]


def read_lists(table: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts (n + 1,) int64, voxels (K,) int32 and energies (K,) float32 of a table of one chunk.

    Raises:
        ValueError: The two lists of a shower differ in length.
    """
    if not table.num_rows:
        return np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)
    lists = [table.column(name).chunk(0) for name in LISTS]
    starts, other = (np.asarray(column.offsets).astype(np.int64) for column in lists)
    if not np.array_equal(starts - starts[0], other - other[0]):
        raise ValueError("lists of different lengths in one shower")
    voxels, energies = (
        np.asarray(column.values.to_numpy(zero_copy_only=True))[slice(int(bounds[0]), int(bounds[-1]))]
        for column, bounds in zip(lists, (starts, other), strict=True)
    )
    return starts - starts[0], voxels, energies


def _list_of(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", kind, nullable=False))
