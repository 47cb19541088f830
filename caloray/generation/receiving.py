"""Showers that come in, written to a file: a sparse shard or a CaloChallenge file."""

from __future__ import annotations

__all__ = ["Received", "format_of", "receive", "require_free"]

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from caloray.atomic import nearest, sha256_file, storage_error
from caloray.errors import ConfigError, IntegrityError, StorageError
from caloray.generation.shard import content_digest
from caloray.geometry import Geometry
from caloray.io.challenge import write_challenge
from caloray.io.shards import ShardWriter
from caloray.io.shower_stream import ATTEMPTS, StreamHeader
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

Form = Literal["parquet", "hdf5"]
Incoming = Iterable[tuple[StreamHeader, SparseShowers]]


@dataclass
class Received:
    """What came.

    Args:
        rows: Showers.
        bundle: Digest of the model that made them.
        redrawn: Showers whose first draw was invalid.
        blocks: Content digest of every block, in order.
        sha256: Of the file.
    """

    rows: int = 0
    bundle: str = ""
    redrawn: int = 0
    blocks: list[str] = field(default_factory=list)
    sha256: str = ""

    @property
    def content_digest(self) -> str:
        """The one that ``caloray generate`` tells of the same showers, if they begin with a block."""
        return hashlib.sha256("".join(self.blocks).encode()).hexdigest()


def format_of(path: Path) -> Form:
    """What a file is to hold, by its name.

    Raises:
        ConfigError: The name tells nothing.
    """
    match path.suffix:
        case ".parquet":
            return "parquet"
        case ".hdf5" | ".h5":
            return "hdf5"
        case _:
            raise ConfigError(f"{path}: its name tells no format", hint="end it with .parquet or .hdf5")


def require_free(path: Path, *, force: bool) -> None:
    """Refuse a file that could not be written in the end, before anything is asked for.

    Args:
        path: Where showers are to go.
        force: Replace the file that is there.

    Raises:
        StorageError: There is a file already, or a folder, or nothing can be written there.
    """
    place = nearest(path.parent)
    if path.is_dir() or not place.is_dir():
        what = f"{path}: is a folder" if path.is_dir() else f"{path}: {place} is a file, no folder"
        raise StorageError(what, hint="choose another name")
    if path.exists() and not force:
        raise StorageError(
            f"{path}: is there already", hint="choose another name, or replace it with --force"
        )
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        raise storage_error(error, path) from error


def receive(path: Path, incoming: Incoming, block_size: int, units: Mapping[str, str]) -> Received:
    """Write showers while they come in; the file appears when they are complete.

    Args:
        path: NAME.parquet or NAME.hdf5.
        incoming: Headers and batches with consecutive ids, all of one bundle and seed; at least one.
        block_size: Showers of a block; about one block is in memory at a time.
        units: Unit of each condition by name.

    Raises:
        ConfigError: The name tells no format.
        IntegrityError: No showers came, or those of several bundles.
        StorageError: The disk is full or not writable.
    """
    form = format_of(path)
    received = Received()
    blocks = _blocks(_checked(incoming, received), block_size)
    header, block = next(blocks, (None, None))
    if header is None or block is None:
        raise IntegrityError(f"{path}: no showers came", hint="ask for at least one")

    def all_blocks() -> Iterator[tuple[SparseShowers, Showers]]:
        yield _noted(block, header.geometry, received)
        for _, other in blocks:
            yield _noted(other, header.geometry, received)

    facts = {"bundle": header.bundle, "seed": str(header.seed)}
    if form == "hdf5":
        names = {"bundle_digest": header.bundle, "seed": str(header.seed)}
        dense = (showers for _, showers in all_blocks())
        received.sha256 = write_challenge(path, header.geometry, dense, attrs=names, units=units)
        return received
    kinds = {name: units.get(name, "") for name in header.conditions}
    with ShardWriter(
        path, header.geometry, facts, kinds, layout="sparse", extras={ATTEMPTS: "uint8"}
    ) as writer:
        for sparse, _ in all_blocks():
            writer.append(sparse, {ATTEMPTS: sparse.extras[ATTEMPTS]})
    received.sha256 = sha256_file(path)
    return received


def _checked(incoming: Incoming, received: Received) -> Iterator[tuple[StreamHeader, SparseShowers]]:
    """Pass on what comes as long as it is of one bundle."""
    for header, batch in incoming:
        if received.bundle not in {"", header.bundle}:
            raise IntegrityError(
                f"showers of bundle {received.bundle[:12]}, then of {header.bundle[:12]}",
                hint="the bundle was exchanged meanwhile: ask again for all of them",
            )
        received.bundle = header.bundle
        yield header, batch


def _blocks(
    incoming: Iterable[tuple[StreamHeader, SparseShowers]], size: int
) -> Iterator[tuple[StreamHeader, SparseShowers]]:
    """Cut what comes anew, at borders of blocks."""
    waiting: list[SparseShowers] = []
    last: StreamHeader | None = None
    for header, batch in incoming:
        last, start = header, 0
        while start < len(batch):
            stop = min(len(batch), start + size - int(batch.ids[start]) % size)
            waiting.append(batch.select(slice(start, stop)))
            if (int(batch.ids[stop - 1]) + 1) % size == 0:
                yield header, SparseShowers.concatenate(waiting)
                waiting = []
            start = stop
    if waiting and last is not None:
        yield last, SparseShowers.concatenate(waiting)


def _noted(block: SparseShowers, geometry: Geometry, received: Received) -> tuple[SparseShowers, Showers]:
    """A block, sparse and dense, once it is in the books."""
    dense = block.dense(geometry.n_voxels)
    received.rows += len(block)
    received.redrawn += int((block.extras[ATTEMPTS] > 0).sum())
    received.blocks.append(content_digest(dense))
    return block, dense
