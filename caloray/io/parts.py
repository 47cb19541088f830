"""A source of showers, cut into pieces that workers can open by themselves."""

from __future__ import annotations

__all__ = ["Part", "parts_of"]

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from caloray.errors import DataError
from caloray.io.source import FileSource, ShardSource, ShowerSource


@dataclass(frozen=True)
class Part:
    """Neighbouring rows of a file, or neighbouring shards of a split.

    Args:
        path: The file or directory, absolute.
        split: Split of a directory, or None for all.
        start: First row of a file; position of the first shard in the split.
        stop: One past the last.
        rows: Number of showers.
    """

    path: Path
    split: str | None
    start: int
    stop: int
    rows: int

    def open(self) -> ShowerSource:
        """Its showers.

        Raises:
            DataError, IntegrityError: It cannot be read.
        """
        if self.path.is_dir():
            return ShardSource(self.path, self.split, self.start, self.stop)
        return FileSource(self.path, self.start, self.stop)


def parts_of(source: ShowerSource, rows: int) -> list[Part]:
    """Cut a source into parts of about ``rows`` showers: row ranges of a file, whole shards of a directory.

    Raises:
        DataError: A source of another kind (showers in memory).
    """
    match source:
        case FileSource():
            path, end = source.path.absolute(), source.start + source.n_showers
            starts = range(source.start, end, rows)
            return [Part(path, None, a, min(a + rows, end), min(a + rows, end) - a) for a in starts]
        case ShardSource():
            return list(_shard_parts(source, rows))
    raise DataError(
        f"a {type(source).__name__} cannot be cut into parts",
        hint="write the showers to a CaloChallenge file or to shards first",
    )


def _shard_parts(source: ShardSource, rows: int) -> Iterator[Part]:
    directory, first, held = source.directory.absolute(), 0, 0
    for i, entry in enumerate(source.entries):
        held += entry.rows
        if held >= rows or i + 1 == len(source.entries):
            yield Part(directory, source.split, source.first + first, source.first + i + 1, held)
            first, held = i + 1, 0
