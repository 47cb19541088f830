"""Showers on their way over a connection: an Arrow IPC stream of sparse record batches (lz4).

A stream is ``encode_head``, any number of ``encode_part`` and :data:`END`, one after the other. Every part is
a message of its own, so that whoever makes parts and whoever sends them may be different processes. Same
showers, same bytes. A stream without its end mark was broken off.

Columns, all without nulls: ``event_id`` int64, ``incident_energy`` float64 [MeV], ``condition_<name>``
float64, ``attempts`` uint8 (redraws of the shower), ``voxel`` list<int32> (flat index, ascending), ``energy``
list<float32> [MeV].
"""

from __future__ import annotations

__all__ = ["ATTEMPTS", "END", "MEDIA_TYPE", "StreamHeader", "encode_head", "encode_part", "read_header"]

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from caloray.errors import GeometryError, IntegrityError
from caloray.geometry import Geometry
from caloray.io.shard_layout import EVENT_ID, INCIDENT_ENERGY, METADATA, condition_column
from caloray.io.sparse import SparseShowers

MEDIA_TYPE = "application/vnd.apache.arrow.stream"
FORMAT = "1"
ATTEMPTS = "attempts"
VOXEL = "voxel"
ENERGY = "energy"
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end-of-stream mark of Arrow IPC."""
MAX_CONDITIONS = 100
MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class StreamHeader:
    """What a stream says before its showers.

    Args:
        bundle: Digest of the model.
        geometry: Readout of the showers.
        seed: Of the request.
        rows: Showers in the whole stream.
        first: Id of the first one; the others follow on.
        conditions: Names of what the model needs besides the incident energy, in its order.
    """

    bundle: str
    geometry: Geometry
    seed: int
    rows: int
    first: int = 0
    conditions: tuple[str, ...] = ()

    def schema(self) -> pa.Schema:
        """Columns and metadata of the stream."""
        return columns(self.conditions).with_metadata(
            {
                f"{METADATA}format": FORMAT,
                f"{METADATA}bundle": self.bundle,
                f"{METADATA}geometry": json.dumps(self.geometry.to_dict(), separators=(",", ":")),
                f"{METADATA}seed": str(self.seed),
                f"{METADATA}rows": str(self.rows),
                f"{METADATA}first": str(self.first),
                f"{METADATA}conditions": json.dumps(list(self.conditions)),
            }
        )


def columns(conditions: Sequence[str]) -> pa.Schema:
    """The columns of a stream for a model with the named conditions, without metadata."""
    numbers = [(EVENT_ID, pa.int64()), (INCIDENT_ENERGY, pa.float64())]
    numbers += [(condition_column(name), pa.float64()) for name in conditions]
    numbers += [(ATTEMPTS, pa.uint8()), (VOXEL, _list(pa.int32())), (ENERGY, _list(pa.float32()))]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in numbers])


def encode_head(header: StreamHeader) -> bytes:
    """The stream's first bytes: its schema with the header as metadata."""
    return bytes(header.schema().serialize())


def encode_part(showers: SparseShowers, conditions: Sequence[str]) -> bytes:
    """One record batch as a message, compressed.

    Args:
        showers: Some consecutive showers of the stream, with ``attempts`` (n,) uint8 among their extras.
        conditions: Names of the conditions, in the stream's order.
    """
    schema = columns(conditions)
    starts = pa.array(showers.starts.astype(np.int32))
    arrays = [
        pa.array(showers.ids, pa.int64()),
        pa.array(showers.incident_energies, pa.float64()),
        *(pa.array(showers.conditions[name], pa.float64()) for name in conditions),
        pa.array(showers.extras[ATTEMPTS], pa.uint8()),
        pa.ListArray.from_arrays(starts, pa.array(showers.voxels, pa.int32()), type=_list(pa.int32())),
        pa.ListArray.from_arrays(starts, pa.array(showers.energies, pa.float32()), type=_list(pa.float32())),
    ]
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4"))
    writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return bytes(sink.getvalue())[len(schema.serialize()) :]


def read_header(schema: pa.Schema, where: str) -> StreamHeader:
    """The header in a stream's schema.

    Raises:
        IntegrityError: It is not the schema of such a stream; the message begins with ``where``.
    """
    found = {
        key.decode(errors="replace").removeprefix(METADATA): value.decode(errors="replace")
        for key, value in (schema.metadata or {}).items()
    }
    try:
        header = _header(found)
    except (KeyError, ValueError, TypeError, RecursionError, GeometryError) as error:
        raise IntegrityError(
            f"{where}: the metadata of the schema are not those of a stream of showers: {error!r:.200}",
            hint="is this the address of a caloray server of the same version?",
        ) from error
    if not schema.equals(columns(header.conditions), check_metadata=False):
        raise IntegrityError(
            f"{where}: other columns than those of a stream of showers",
            hint="is this the address of a caloray server of the same version?",
        )
    return header


def _header(found: Mapping[str, str]) -> StreamHeader:
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']:.20}, this version of caloray reads {FORMAT}")
    names = json.loads(found["conditions"])
    strings = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not strings or len(names) > MAX_CONDITIONS:
        raise ValueError("conditions are not a list of names")
    numbers = {name: int(found[name]) for name in ("seed", "rows", "first")}
    if min(numbers.values()) < 0 or numbers["first"] + numbers["rows"] > MAX_ID:
        raise ValueError("seed, rows or first id out of range")
    geometry = Geometry.from_dict(json.loads(found["geometry"]))
    return StreamHeader(bundle=found["bundle"], geometry=geometry, conditions=tuple(names), **numbers)


def _list(item: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("item", item, nullable=False))
