"""Whether a list names a particle twice: run, event and particle tell the showers of a campaign apart.

A list in ascending order, as generators and Monte-Carlo files have it, is seen to be free of repeats while it
passes by. Any other list is read again, in as many passes as keep the memory bounded: each looks at those
particles whose hash falls into one bucket and sorts them.
"""

from __future__ import annotations

__all__ = ["Order", "first_repeat"]

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from caloray.io.particle_record import ParticleRows

LIMIT = 1 << 22
"""Particles that one pass is meant to hold: 4e6 of them take some 250 MB while they are sorted."""
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)


@dataclass(frozen=True)
class Repeat:
    """A particle that a list names twice.

    Args:
        first: The row where it stands first.
        second: The row where it stands again.
        key: Its run, event and number.
    """

    first: int
    second: int
    key: tuple[int, int, int]


class Order:
    """Watches whether (run, event, particle) ascends strictly from row to row."""

    def __init__(self) -> None:
        self.ascending = True
        self._last: np.ndarray | None = None

    def add(self, rows: ParticleRows) -> None:
        """Take the next rows into account."""
        if not self.ascending or not len(rows):
            return
        keys = _keys(rows)
        if self._last is not None:
            keys = np.concatenate([self._last, keys], axis=1)
        before, after = keys[:, :-1], keys[:, 1:]
        more, same = after > before, after == before
        later = more[0] | (same[0] & (more[1] | (same[1] & more[2])))
        self.ascending = bool(later.all())
        self._last = keys[:, -1:]


def first_repeat(pieces: Callable[[], Iterator[ParticleRows]], count: int) -> Repeat | None:
    """The first row of a list whose particle stood there before, in any order of rows.

    Args:
        pieces: Begins to read the list, piece by piece; called for every pass, each time the same rows.
        count: Rows of the list.

    Returns:
        None where every particle is another one.
    """
    buckets = max(1, -(-count // LIMIT))
    found: Repeat | None = None
    for bucket in range(buckets):
        stop = count if found is None else found.second
        found = _within(pieces(), bucket, buckets, stop) or found
    return found


def _within(pieces: Iterator[ParticleRows], bucket: int, buckets: int, stop: int) -> Repeat | None:
    """The first repeat before row ``stop`` among the particles of one bucket."""
    held: list[np.ndarray] = []
    done, size = 0, 0
    for rows in pieces:
        if done >= stop:
            break
        keys = np.concatenate([_keys(rows), np.arange(done, done + len(rows))[None]])[:, : stop - done]
        held.append(keys[:, _hash(keys) % np.uint64(buckets) == bucket])
        done += len(rows)
        size += held[-1].shape[1]
        if size > 2 * LIMIT:  # of equal particles all fall into one bucket, and the search can end here
            held, size = [np.concatenate(held, axis=1)], 0
            if (found := _searched(held[0])) is not None:
                return found
    return _searched(np.concatenate(held, axis=1)) if held else None


def _searched(table: np.ndarray) -> Repeat | None:
    """The first repeat in a table (4, n) of run, event, particle and ascending rows."""
    order = np.lexsort((table[2], table[1], table[0]))
    same = np.ones(max(order.size - 1, 0), dtype=bool)
    for values in table[:3]:
        ordered = values[order]
        same &= ordered[1:] == ordered[:-1]
    at = np.flatnonzero(same)
    if not at.size:
        return None
    seconds = table[3][order[at + 1]]
    best = at[np.argmin(seconds)]
    run, event, particle, first = (int(values[order[best]]) for values in table)
    return Repeat(first, int(seconds.min()), (run, event, particle))


def _keys(rows: ParticleRows) -> np.ndarray:
    """(3, n) int64 run, event and particle."""
    return np.stack([rows.run, rows.event, rows.particle]).astype(np.int64, copy=False)


def _hash(keys: np.ndarray) -> np.ndarray:
    """(n,) uint64 that spreads particles over buckets; any function of the triple would be right."""
    mixed = np.zeros(keys.shape[1], np.uint64)
    for values, odd in zip(keys[:3], _ODD, strict=True):
        mixed = (mixed ^ values.view(np.uint64)) * np.uint64(odd)
        mixed ^= mixed >> np.uint64(29)
    return mixed >> np.uint64(20)
