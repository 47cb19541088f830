"""One way to read showers, wherever they lie: a CaloChallenge HDF5 file or a directory of shards."""

from __future__ import annotations

__all__ = ["FileSource", "MergedSource", "ShardSource", "ShowerSource", "open_source"]

import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from caloray.atomic import digest_json, sha256_file
from caloray.errors import DataError, GeometryError, IntegrityError
from caloray.geometry import Geometry
from caloray.io.challenge import ChallengeFile
from caloray.io.hits import HitSource
from caloray.io.manifest import MANIFEST, Manifest, ShardEntry, check_shard
from caloray.io.shards import READOUT, ShardReader, is_shard
from caloray.showers import Showers, apply_policy


class ShowerSource(Protocol):
    """Showers that can be counted and streamed any number of times."""

    @property
    def geometry(self) -> Geometry:
        """Readout of the showers."""

    @property
    def n_showers(self) -> int:
        """Number of showers."""

    @property
    def conditions(self) -> Mapping[str, str]:
        """Unit of each condition that the showers carry, by name."""

    @property
    def digest(self) -> str:
        """sha256 that names the content."""

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers in order, ``rows`` at a time (the last piece may be shorter)."""


class FileSource:
    """A CaloChallenge HDF5 file; the ids are row numbers.

    Rows with NaN, infinite or negative values or without incident energy are refused when they are reached.

    Args:
        path: The file.
        start: First row.
        stop: One past the last row; None: all.
    """

    def __init__(self, path: Path, start: int = 0, stop: int | None = None) -> None:
        self.path = path
        self.start = start
        with ChallengeFile.open(path) as file:
            self.geometry = file.geometry
            self.conditions = file.conditions
            self.n_showers = min(file.n_showers, file.n_showers if stop is None else stop) - start

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return sha256_file(self.path)

    def incident(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n,) and incident energies (n,) [MeV] of all showers, without reading voxels."""
        stop = self.start + self.n_showers
        with ChallengeFile.open(self.path, self.geometry) as file:
            return np.arange(self.start, stop, dtype=np.int64), file.energies(self.start, stop)

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers in file order; the file is open only while the iterator is in use."""
        with ChallengeFile.open(self.path, self.geometry) as file:
            for chunk in file.chunks(rows, self.start, self.start + self.n_showers):
                first = int(chunk.ids[0])
                apply_policy(chunk, self.geometry, max_ratio=math.inf, where=str(self.path), first_row=first)
                yield chunk


class MergedSource:
    """A merged Parquet file: one shard that carries its geometry.

    Showers with NaN, infinite or negative values or without incident energy are refused when they are
    reached.

    Args:
        path: The file.

    Raises:
        IntegrityError: The file is damaged, or its geometry is not the one that it names.
        DataError: A shard without a geometry of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ShardReader(path) as reader:
            if READOUT not in reader.extra:
                raise DataError(
                    f"{path}: one shard of a directory", hint="open the directory that has its manifest.json"
                )
            try:
                self.geometry = Geometry.from_dict(json.loads(reader.extra[READOUT]))
            except (ValueError, RecursionError, AttributeError, TypeError, GeometryError) as error:
                raise IntegrityError(f"{path}: its geometry cannot be read", hint="merge it again") from error
            self.n_showers = reader.n_rows
            self.conditions = dict(reader.conditions)
        ShardReader(path, self.geometry).close()  # compares digest and layers

    @cached_property
    def digest(self) -> str:
        """sha256 of the file."""
        return sha256_file(self.path)

    def incident(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n,) and incident energies (n,) [MeV] of all showers, without reading voxels."""
        with ShardReader(self.path, self.geometry) as reader:
            return reader.read([])[:2]

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers in order; memory holds one row group and one piece."""
        first = 0
        with ShardReader(self.path, self.geometry) as reader:
            for showers in _cut(reader.chunks(), rows):
                where = str(self.path)
                apply_policy(showers, self.geometry, max_ratio=math.inf, where=where, first_row=first)
                first += len(showers)
                yield showers


class ShardSource:
    """The shards of one split of a directory, or all of them.

    The sha256 of each shard is compared with the manifest before its first row is given out.

    Args:
        directory: Where the manifest lies.
        split: Only the shards of this split.
        first: Position of the first shard among them.
        last: One past the last; None: all.
    """

    def __init__(
        self, directory: Path, split: str | None = None, first: int = 0, last: int | None = None
    ) -> None:
        self.directory = directory
        self.split = split
        self.first = first
        self.manifest = Manifest.load(directory)
        self.geometry = self.manifest.readout
        self.entries = self.manifest.of(split)[first:last]
        self.n_showers = sum(entry.rows for entry in self.entries)
        self._checked: set[str] = set()

    @cached_property
    def conditions(self) -> dict[str, str]:
        """Unit of each condition that the showers carry, by name (as the first shard says)."""
        for entry in self.entries[:1]:
            with ShardReader(self.directory / entry.path, self.geometry) as reader:
                return dict(reader.conditions)
        return {}

    @cached_property
    def digest(self) -> str:
        """sha256 over the geometry and the hashes of the shards."""
        return digest_json([self.manifest.geometry_digest, [entry.sha256 for entry in self.entries]])

    def incident(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids (n,) and incident energies (n,) [MeV] of all showers, without reading voxels."""
        parts = []
        for entry in self.entries:
            self._require_sound(entry)
            with ShardReader(self.directory / entry.path, self.geometry) as reader:
                parts.append(reader.read([])[:2])
        ids, energies = zip(*parts, strict=True)
        return np.concatenate(ids), np.concatenate(energies)

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        """All showers in manifest order; memory holds one row group and one piece."""
        return _cut((part for entry in self.entries for part in self._groups(entry)), rows)

    def _groups(self, entry: ShardEntry) -> Iterator[Showers]:
        self._require_sound(entry)
        with ShardReader(self.directory / entry.path, self.geometry) as reader:
            yield from reader.chunks()

    def _require_sound(self, entry: ShardEntry) -> None:
        if entry.path not in self._checked:
            for problem in check_shard(self.directory, entry, self.manifest.geometry_digest):
                raise IntegrityError(
                    f"{self.directory}: {problem.message}",
                    hint=f"`caloray data verify {self.directory}` lists all damage; make the data again",
                )
            self._checked.add(entry.path)


def open_source(path: Path, split: str | None = None) -> ShowerSource:
    """Open showers for reading.

    Args:
        path: A CaloChallenge HDF5 file, a merged Parquet file, a file of hits, a directory of shards, or
            its manifest.
        split: Only this split of a directory.

    Raises:
        DataError: A damaged file, a split asked of a file, or a split that does not exist.
        IntegrityError: A directory without a sound manifest.
    """
    if path.name == MANIFEST:
        path = path.parent
    if path.is_dir():
        return ShardSource(path, split)
    if split is not None:
        raise DataError(
            f"{path}: a single file has no split {split!r}",
            hint="leave the split out, or ingest the file first",
        )
    if path.suffix == ".parquet":
        return MergedSource(path) if is_shard(path) else HitSource(path)
    return FileSource(path)


def _cut(parts: Iterator[Showers], rows: int) -> Iterator[Showers]:
    """Regroup pieces of any size into pieces of ``rows`` showers."""
    held: list[Showers] = []
    waiting = 0
    for part in parts:
        start = 0
        while start < len(part):
            stop = min(len(part), start + rows - waiting)
            held.append(part.select(slice(start, stop)))
            waiting += stop - start
            start = stop
            if waiting == rows:
                yield Showers.concatenate(held)
                held, waiting = [], 0
    if held:
        yield Showers.concatenate(held)
