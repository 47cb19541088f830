"""Reading a stream of showers as its bytes come in, and believing nothing of it before it is checked.

:class:`StreamDecoder` takes bytes in pieces of any size and gives the record batches that they complete; it
needs no thread and no file, so it serves blocking and asynchronous readers alike. At most one message is
held.

An Arrow IPC message is framed by 0xFFFFFFFF, the length of its metadata (int32), the metadata (a flatbuffer
``Message`` whose field 3 is the length of the body) and the body; length 0 ends the stream.
"""

from __future__ import annotations

__all__ = ["StreamBatch", "StreamDecoder", "decode"]

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from caloray.errors import DataError, IntegrityError
from caloray.io.shard_layout import EVENT_ID, INCIDENT_ENERGY, condition_column
from caloray.io.shower_stream import ATTEMPTS, END, ENERGY, VOXEL, StreamHeader, read_header
from caloray.io.sparse import SparseShowers

MARK = END[:4]
MAX_METADATA = 16 << 20
MAX_BODY = 256 << 20
BODY_LENGTH = 4 + 2 * 3
"""Where a flatbuffer table of type ``Message`` has the entry of its field 3 in its vtable."""


@dataclass(frozen=True, eq=False)
class StreamBatch:
    """Some consecutive showers of a stream.

    Args:
        record: The ``pyarrow.RecordBatch`` as it came.
        showers: The same as arrays; ``extras["attempts"]`` counts the redraws of each shower.
    """

    record: Any
    showers: SparseShowers


class StreamDecoder:
    """Takes a stream apart.

    Args:
        where: What is read, for messages: a URL or a file.
    """

    def __init__(self, where: str = "stream of showers") -> None:
        self.header: StreamHeader | None = None
        self.rows = 0
        self._where = where
        self._held = bytearray()
        self._schema: pa.Schema | None = None
        self._ended = False

    def feed(self, data: bytes) -> list[StreamBatch]:
        """Take the next bytes; give the batches that are complete with them, each once and in order.

        Raises:
            IntegrityError: This is no stream of showers, it is damaged, or something follows its end.
        """
        self._held += data
        found = []
        while (message := self._next()) is not None:
            if self.header is None:
                self._begin(message)
            else:
                found.append(self._batch(message, self.header))
        return found

    def finish(self) -> None:
        """Make sure that the stream came to its end.

        Raises:
            IntegrityError: The end mark is missing, or showers are.
        """
        announced = "an unknown number" if self.header is None else str(self.header.rows)
        if not self._ended:
            raise IntegrityError(
                f"{self._where}: broken off after {self.rows} of {announced} showers",
                hint="the server or the connection failed; ask again, the showers will be the same",
            )
        if self.header is None or self.rows != self.header.rows:
            raise self._damaged(f"{self.rows} showers of {announced} that were announced")

    def _next(self) -> bytes | None:
        """The next whole message, taken out of what is held; None if there is none yet."""
        if self._ended and self._held:
            raise self._damaged("bytes after its end")
        if len(self._held) < len(END):
            return None
        mark, length = bytes(self._held[:4]), struct.unpack_from("<i", self._held, 4)[0]
        if mark != MARK or not 0 <= length <= MAX_METADATA:
            raise self._damaged("no Arrow message where one should begin")
        if length == 0:
            del self._held[: len(END)]
            self._ended = True
            return self._next()
        if len(self._held) < 8 + length:
            return None
        total = 8 + length + self._body_length(length)
        if len(self._held) < total:
            return None
        message = bytes(self._held[:total])
        del self._held[:total]
        return message

    def _body_length(self, length: int) -> int:
        """Bytes of the body that follows metadata of ``length`` bytes."""
        try:
            table = 8 + struct.unpack_from("<I", self._held, 8)[0]
            vtable = table - struct.unpack_from("<i", self._held, table)[0]
            size = struct.unpack_from("<H", self._held, vtable)[0] if vtable >= 8 else 0
            entry = vtable + BODY_LENGTH
            offset = struct.unpack_from("<H", self._held, entry)[0] if size > BODY_LENGTH else 0
            body = struct.unpack_from("<q", self._held, table + offset)[0] if offset else 0
        except struct.error as error:
            raise self._damaged("metadata that point outside themselves") from error
        if not 0 <= body <= MAX_BODY or max(table, vtable) > 8 + length:
            raise self._damaged("a message of impossible size")
        return int(body)

    def _begin(self, message: bytes) -> None:
        try:
            self._schema = pa.ipc.read_schema(pa.ipc.read_message(message))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self._damaged(f"no schema ({error!s:.100})") from error
        self.header = read_header(self._schema, self._where)

    def _batch(self, message: bytes, header: StreamHeader) -> StreamBatch:
        try:
            record = pa.ipc.read_record_batch(pa.ipc.read_message(message), self._schema)
            record.validate(full=True)
            showers = _sparse(record, header)
            showers.check(header.geometry.n_voxels, self._where)
        except (OSError, ValueError, LookupError, MemoryError, pa.ArrowException, DataError) as error:
            raise self._damaged(f"a damaged record batch ({error!s:.100})") from error
        if problem := _problem(showers, header, self.rows):
            raise self._damaged(problem)
        self.rows += len(showers)
        return StreamBatch(record, showers)

    def _damaged(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"{self._where}: {what}",
            hint="is this a caloray server? if so, the connection damaged the reply: ask again",
        )


def decode(data: bytes, where: str = "stream of showers") -> tuple[StreamHeader, SparseShowers]:
    """A whole stream at once.

    Raises:
        IntegrityError: As :class:`StreamDecoder`; or the stream holds no showers.
    """
    decoder = StreamDecoder(where)
    batches = decoder.feed(data)
    decoder.finish()
    if decoder.header is None or not batches:
        raise IntegrityError(f"{where}: no showers", hint="a reply holds at least one shower")
    return decoder.header, SparseShowers.concatenate([batch.showers for batch in batches])


def _sparse(record: Any, header: StreamHeader) -> SparseShowers:
    if any(column.null_count for column in record.columns):
        raise DataError("missing values")
    voxel, energy = record.column(VOXEL), record.column(ENERGY)
    starts = np.asarray(voxel.offsets.to_numpy(), dtype=np.int64)
    if not np.array_equal(starts, energy.offsets.to_numpy()):
        raise DataError("lists of voxels and of energies differ in length")
    return SparseShowers(
        incident_energies=record.column(INCIDENT_ENERGY).to_numpy(),
        ids=record.column(EVENT_ID).to_numpy(),
        starts=starts - starts[0],
        voxels=voxel.flatten().to_numpy(),
        energies=energy.flatten().to_numpy(),
        conditions={name: record.column(condition_column(name)).to_numpy() for name in header.conditions},
        extras={ATTEMPTS: record.column(ATTEMPTS).to_numpy()},
    )


def _problem(showers: SparseShowers, header: StreamHeader, before: int) -> str:
    """What is wrong with the numbers of a batch that follows ``before`` showers; "" if nothing is."""
    count = len(showers)
    if before + count > header.rows:
        return f"more showers than the {header.rows} that were announced"
    expected = np.arange(count, dtype=np.int64) + np.int64(header.first + before)
    if not np.array_equal(showers.ids, expected):
        return "event ids that do not follow on"
    particles = [showers.incident_energies, *showers.conditions.values()]
    if not all(np.isfinite(values).all() for values in particles) or (showers.incident_energies <= 0).any():
        return "a particle that cannot be"
    if not np.isfinite(showers.energies).all() or (showers.energies < 0).any():
        return "a voxel energy that cannot be"
    return ""
