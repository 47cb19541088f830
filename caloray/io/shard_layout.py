"""The columns of a shard, and what has to be true of a Parquet file to be one.

``event_id`` (int64), ``incident_energy`` (float64, MeV), then ``layer_00`` ... with the voxels of one layer
(float32, MeV, little-endian, flat order) as fixed-size binary, all without nulls. zstd-1, no dictionaries,
page checksums. The file's metadata name the geometry and carry its digest.

Where particles have conditions, ``condition_<name>`` (float64) stand between energy and layers, and the
metadata hold their names and units in order.
"""

from __future__ import annotations

__all__ = [
    "EVENT_ID",
    "INCIDENT_ENERGY",
    "METADATA",
    "RESERVED",
    "checked_group_rows",
    "condition_column",
    "damaged",
    "layer_column",
    "layer_sizes",
    "row_group_rows",
    "shard_conditions",
    "shard_schema",
]

import errno
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry

FORMAT = "1"
ROW_GROUP = 500
ROW_GROUP_BYTES = 100 << 20
EVENT_ID = "event_id"
INCIDENT_ENERGY = "incident_energy"
METADATA = "caloray."
RESERVED = ("format", "geometry", "geometry_digest", "conditions")


def layer_column(layer: int) -> str:
    """Name of the Parquet column that holds layer number ``layer`` (position in the geometry)."""
    return f"layer_{layer:02d}"


def condition_column(name: str) -> str:
    """Name of the Parquet column that holds a condition."""
    return f"condition_{name}"


def row_group_rows(geometry: Geometry) -> int:
    """Showers of one row group: 500, or fewer where 500 would not fit into 100 MiB."""
    return max(1, min(ROW_GROUP, ROW_GROUP_BYTES // (4 * geometry.n_voxels)))


def shard_schema(
    geometry: Geometry, extra: Mapping[str, str], conditions: Mapping[str, str] | None = None
) -> pa.Schema:
    """The Arrow schema of a shard, with the geometry and ``extra`` as metadata.

    Args:
        geometry: Readout of the showers.
        extra: Further metadata.
        conditions: Unit of each condition by name, in order.
    """
    meta = {"format": FORMAT, "geometry": geometry.name, "geometry_digest": geometry.digest}
    if conditions:
        meta["conditions"] = json.dumps(list(conditions.items()))
    meta |= {key: value for key, value in sorted(extra.items()) if key not in RESERVED}
    metadata = {METADATA + key: value for key, value in meta.items()}
    return pa.schema(_fields(geometry.layer_sizes, tuple(conditions or ())), metadata=metadata)


def shard_conditions(path: Path, text: str | None) -> dict[str, str]:
    """Unit of each condition by name, from the metadata ``text`` of a shard; None: no conditions.

    Raises:
        IntegrityError: It is not what :func:`shard_schema` writes.
    """
    if text is None:
        return {}
    try:
        pairs = json.loads(text)
        units = dict(pairs)
        sound = all(isinstance(word, str) for pair in units.items() for word in pair)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error
    if not sound or not units or len(units) != len(pairs):
        raise damaged(path, ValueError(f"conditions {text[:60]!r}"))
    return units


def _fields(layer_sizes: Sequence[int], conditions: Sequence[str]) -> list[pa.Field]:
    head = [
        pa.field(EVENT_ID, pa.int64(), nullable=False),
        pa.field(INCIDENT_ENERGY, pa.float64(), nullable=False),
        *(pa.field(condition_column(name), pa.float64(), nullable=False) for name in conditions),
    ]
    layers = [pa.binary(4 * size) for size in layer_sizes]
    return head + [pa.field(layer_column(i), kind, nullable=False) for i, kind in enumerate(layers)]


def layer_sizes(
    path: Path, schema: pa.Schema, version: str | None, conditions: Sequence[str] = ()
) -> tuple[int, ...]:
    """Voxels of each layer of a shard with the given conditions.

    Raises:
        DataError: The schema is not that of a shard, or is of another format.
    """
    if version != FORMAT:
        found = "no caloray metadata" if version is None else f"shard format {version!r}"
        raise DataError(
            f"{path}: not a caloray shard ({found}, expected format {FORMAT!r})",
            hint="make shards with `caloray data ingest`, or update caloray",
        )
    fields = list(schema)[2 + len(conditions) :]
    sizes = tuple(f.type.byte_width // 4 for f in fields if pa.types.is_fixed_size_binary(f.type))
    if not sizes or list(schema.remove_metadata()) != _fields(sizes, conditions):
        raise DataError(
            f"{path}: not a caloray shard (columns {', '.join(schema.names[:4])} ..., names or types differ)",
            hint=f"expected {EVENT_ID}, {INCIDENT_ENERGY}, {layer_column(0)} ... as fixed-size binary",
        )
    return sizes


def checked_group_rows(path: Path, metadata: pq.FileMetaData, group: int) -> int:
    """Rows of a row group, after a look at what the page checksums do not cover."""
    found = metadata.row_group(group)
    rows = int(found.num_rows)
    for index in range(found.num_columns):
        column = found.column(index)
        if column.compression != "ZSTD" or column.num_values != rows:
            raise damaged(path, ValueError(f"row group {group}, column {index} is described wrongly"))
    return rows


def damaged(path: Path, error: Exception) -> IntegrityError:
    """An error of the Parquet reader as one line that names the file and says what to do."""
    if isinstance(error, FileNotFoundError):
        return IntegrityError(f"{path}: no such shard", hint="make the directory again, or copy it whole")
    if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EISDIR}:
        return IntegrityError(f"{path}: cannot be read ({error.strerror})", hint="check its permissions")
    reason = json.dumps(str(error).split("\n", maxsplit=1)[0][:120])
    return IntegrityError(
        f"{path}: not a readable Parquet file, truncated or altered ({reason})",
        hint="make this shard again (run the same command) or copy the directory again",
    )
