"""The columns of a shard, and what has to be true of a Parquet file to be one.

``event_id`` (int64), ``incident_energy`` (float64, MeV), then the voxels, in one of two layouts. *Dense*:
``layer_00`` ... with the voxels of one layer (float32, MeV, little-endian, flat order) as fixed-size binary.
*Sparse*: the lists ``voxel`` (int32, flat index, ascending) and ``energy`` (float32, MeV) of the voxels that
were hit (:mod:`caloray.io.sparse_columns`). Nothing is null. zstd-1, no dictionaries, page checksums. The
file's metadata name the geometry and carry its digest.

Between energy and voxels stand, where there are any, ``condition_<name>`` (float64) for each condition of the
particle and further columns of the shower (*extras*: its event, its flags ...) under their own names. The
metadata hold their names with units or dtypes, in order.
"""

from __future__ import annotations

__all__ = [
    "DTYPES",
    "EVENT_ID",
    "FORMATS",
    "INCIDENT_ENERGY",
    "METADATA",
    "READOUT",
    "RESERVED",
    "Layout",
    "ShardForm",
    "checked_group_rows",
    "condition_column",
    "damaged",
    "layer_column",
    "read_form",
    "row_group_rows",
    "shard_schema",
]

import errno
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.errors import DataError, IntegrityError
from caloray.geometry import Geometry
from caloray.io.sparse_columns import LEAVES, LISTS, list_fields

Layout = Literal["dense", "sparse"]

FORMAT = "1"
FORMAT_WITH_MORE = "2"
"""Of shards that are sparse or have extras; dense ones without are what they always were."""
FORMATS = (FORMAT, FORMAT_WITH_MORE)
ROW_GROUP = 500
ROW_GROUP_BYTES = 100 << 20
EVENT_ID = "event_id"
INCIDENT_ENERGY = "incident_energy"
METADATA = "caloray."
READOUT = "readout"
"""Metadata of a file that stands alone: its whole geometry as JSON."""
RESERVED = ("format", "geometry", "geometry_digest", "conditions", "layout", "layer_sizes", "extras")
DTYPES = (*(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float32", "float64")
"""What the values of an extra column may be."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def layer_column(layer: int) -> str:
    """Name of the Parquet column that holds layer number ``layer`` (position in the geometry)."""
    return f"layer_{layer:02d}"


def condition_column(name: str) -> str:
    """Name of the Parquet column that holds a condition."""
    return f"condition_{name}"


def row_group_rows(geometry: Geometry) -> int:
    """Showers of one row group: 500, or fewer where 500 would not fit into 100 MiB when dense."""
    return max(1, min(ROW_GROUP, ROW_GROUP_BYTES // (4 * geometry.n_voxels)))


@dataclass(frozen=True)
class ShardForm:
    """Which columns a shard has.

    Args:
        layout: How the voxels are stored.
        layer_sizes: Voxels of each layer.
        conditions: Unit of each condition by name, in order.
        extras: numpy dtype of each further column of the shower by name, in order.

    Raises:
        DataError: An extra that cannot have this name or dtype.
    """

    layout: Layout
    layer_sizes: tuple[int, ...]
    conditions: Mapping[str, str] = field(default_factory=dict)
    extras: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse extras that would not be columns of their own."""
        for name, dtype in self.extras.items():
            taken = name in {EVENT_ID, INCIDENT_ENERGY, *LISTS} or name.startswith(("layer_", "condition_"))
            if taken or _NAME.fullmatch(name) is None:
                raise DataError(f"extra column {name[:60]!r}: not a possible name, or taken by the shard")
            if dtype not in DTYPES:
                raise DataError(f"extra column {name}: dtype {dtype[:60]!r}, expected {', '.join(DTYPES)}")

    @property
    def n_voxels(self) -> int:
        """Voxels of a whole shower."""
        return sum(self.layer_sizes)

    @property
    def voxel_columns(self) -> tuple[str, ...]:
        """The columns that hold the voxels."""
        return LISTS if self.layout == "sparse" else tuple(map(layer_column, range(len(self.layer_sizes))))

    def metadata(self) -> dict[str, str]:
        """What a reader needs to know of it beside the columns."""
        plain = self.layout == "dense" and not self.extras
        meta = {"format": FORMAT if plain else FORMAT_WITH_MORE}
        if self.conditions:
            meta["conditions"] = json.dumps(list(self.conditions.items()))
        if not plain:
            meta["layout"] = self.layout
            meta["layer_sizes"] = json.dumps(self.layer_sizes)
            meta["extras"] = json.dumps(list(self.extras.items()))
        return meta

    def fields(self) -> list[pa.Field]:
        """The Arrow fields, in order."""
        head = [(EVENT_ID, pa.int64()), (INCIDENT_ENERGY, pa.float64())]
        head += [(condition_column(name), pa.float64()) for name in self.conditions]
        head += [(name, pa.from_numpy_dtype(np.dtype(dtype))) for name, dtype in self.extras.items()]
        if self.layout == "dense":
            sizes = enumerate(self.layer_sizes)
            head += [(layer_column(i), pa.binary(4 * size)) for i, size in sizes]
        fields = [pa.field(name, kind, nullable=False) for name, kind in head]
        return fields + (list_fields() if self.layout == "sparse" else [])


def shard_schema(geometry: Geometry, extra: Mapping[str, str], form: ShardForm) -> pa.Schema:
    """The Arrow schema of a shard, with the geometry and ``extra`` as metadata."""
    own = form.metadata()
    meta = {"format": own.pop("format"), "geometry": geometry.name, "geometry_digest": geometry.digest, **own}
    meta |= {key: value for key, value in sorted(extra.items()) if key not in RESERVED}
    return pa.schema(form.fields(), metadata={METADATA + key: value for key, value in meta.items()})


def read_form(path: Path, schema: pa.Schema, meta: Mapping[str, str]) -> ShardForm:
    """The form of a file with this schema and these ``caloray.*`` metadata.

    Raises:
        DataError: The schema is not that of a shard, or is of another format.
        IntegrityError: The metadata are not what :func:`shard_schema` writes.
    """
    version = meta.get("format")
    if version not in FORMATS:
        found = "no caloray metadata" if version is None else f"shard format {version!r}"
        raise DataError(
            f"{path}: not a caloray shard ({found}, expected format {' or '.join(map(repr, FORMATS))})",
            hint="make shards with `caloray data ingest`, or update caloray",
        )
    conditions = _pairs(path, "conditions", meta.get("conditions"))
    if version == FORMAT:
        binaries = [f.type for f in schema if pa.types.is_fixed_size_binary(f.type)]
        form = ShardForm("dense", tuple(kind.byte_width // 4 for kind in binaries), conditions)
    else:
        form = _richer_form(path, conditions, meta)
    if not form.layer_sizes or list(schema.remove_metadata()) != form.fields():
        raise DataError(
            f"{path}: not a caloray shard (columns {', '.join(schema.names[:4])} ..., names or types differ)",
            hint=f"expected {EVENT_ID}, {INCIDENT_ENERGY}, {', '.join(form.voxel_columns[:2])} ...",
        )
    return form


def _richer_form(path: Path, conditions: Mapping[str, str], meta: Mapping[str, str]) -> ShardForm:
    """The form of a shard of the newer format, whose metadata say everything."""
    chosen: list[Layout] = [one for one in get_args(Layout) if one == meta.get("layout")]
    try:
        sizes = json.loads(meta.get("layer_sizes", ""))
        sound = isinstance(sizes, list) and all(type(size) is int and size > 0 for size in sizes)
        if not sound or not chosen:
            raise ValueError("layout or layer sizes are malformed")
        extras = _pairs(path, "extras", meta.get("extras"), empty=True)
        return ShardForm(chosen[0], tuple(sizes), conditions, extras)
    except (ValueError, RecursionError, DataError) as error:
        raise damaged(path, error) from error


def _pairs(path: Path, key: str, text: str | None, *, empty: bool = False) -> dict[str, str]:
    """Pairs of words, as the metadata hold them; None: there are none."""
    if text is None:
        return {}
    try:
        pairs: Any = json.loads(text)
        found = dict(pairs)
        sound = all(isinstance(word, str) for pair in found.items() for word in pair)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error
    if not sound or len(found) != len(pairs) or not (found or empty):
        raise damaged(path, ValueError(f"{key} {text[:60]!r}"))
    return found


def checked_group_rows(path: Path, metadata: pq.FileMetaData, group: int, n_voxels: int) -> int:
    """Rows of a row group, after a look at what the page checksums do not cover."""
    found = metadata.row_group(group)
    rows, hits = int(found.num_rows), set()
    for index in range(found.num_columns):
        column = found.column(index)
        least = most = rows
        if column.path_in_schema in LEAVES:
            most = rows * n_voxels  # an empty list counts as one value
            hits.add(column.num_values)
        if column.compression != "ZSTD" or not least <= column.num_values <= most or len(hits) > 1:
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
