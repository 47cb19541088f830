"""A reference that waits in memory until its histogram ranges are known, so that it is read only once."""

from __future__ import annotations

__all__ = ["Held", "count_held", "hold", "new_extremes", "new_table"]

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from caloray.evaluation.axes import Axis, family
from caloray.evaluation.conditions import extra_columns
from caloray.evaluation.counts import Counts
from caloray.evaluation.extremes import Extremes
from caloray.evaluation.moments import Moments
from caloray.evaluation.quantities import Seen
from caloray.evaluation.reading import PassSettings, Progress, chunks, work_through
from caloray.evaluation.table import Table
from caloray.geometry import Geometry
from caloray.io.source import ShowerSource
from caloray.showers import Showers

HELD_BYTES = 1 << 30
COUNT_ROWS = 8192

Spectrum = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Ids, energies of the lit voxels, and how many each shower has."""


@dataclass
class Held:
    """A reference whose histograms are not known yet.

    Args:
        extremes: What decides the histogram ranges; of all showers in any case.
        moments: Sums over the showers.
        table: Their rows.
        spectra: Their lit voxels.
        complete: Whether all showers are in the last three.
    """

    extremes: Extremes
    moments: Moments
    table: Table
    spectra: list[Spectrum] = field(default_factory=list)
    complete: bool = True

    def add(self, seen: Seen, room: _Room) -> None:
        """Take in showers; without room only their extremes."""
        self.extremes.add(seen)
        if not room.take(seen.lit.values.nbytes):
            self.spectra.clear()
            return
        self.moments.add(seen)
        self.table.add(seen.ids, seen.rows)
        self.spectra.append((seen.ids, seen.lit.values, seen.lit.per_shower))

    def merge(self, other: Held) -> None:
        """Take in the showers of another thread."""
        self.extremes.merge(other.extremes)
        self.moments.merge(other.moments)
        self.table.merge(other.table)
        self.spectra += other.spectra


class _Room:
    """Bytes that the threads may hold together; once it is full, nothing is held any more."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        with self._lock:
            self._left = self._left - size if self._left >= size else -1
            return self._left >= 0


def hold(source: ShowerSource, settings: PassSettings, progress: Progress | None) -> Held:
    """Read a reference once and keep what its histograms will be made of, up to 1 GiB of lit voxels."""
    geometry = source.geometry
    room = _Room(HELD_BYTES if source.n_showers <= settings.most else -1)

    def start() -> Held:
        table = new_table(source, settings)
        return Held(new_extremes(geometry, settings), Moments(geometry), table)

    def take(held: Held, showers: Showers) -> None:
        held.add(Seen.of(showers, geometry, settings.threshold), room)

    parts = work_through(chunks(source, progress, "reference"), start, take, settings)
    for part in parts[1:]:
        parts[0].merge(part)
    parts[0].complete = room.take(0)
    return parts[0]


def count_held(source: ShowerSource, axes: Sequence[Axis], held: Held, settings: PassSettings) -> Counts:
    """The histograms of a reference that is complete."""
    ids, rows = held.table.ids, held.table.rows

    def start() -> Counts:
        return Counts(source.geometry, axes, settings.halves)

    def take(counts: Counts, piece: Spectrum | slice) -> None:
        if isinstance(piece, slice):
            counts.add(ids[piece], rows[piece])
        else:
            counts.add_spectrum(*piece)

    pieces: list[Spectrum | slice] = [slice(a, a + COUNT_ROWS) for a in range(0, len(ids), COUNT_ROWS)]
    parts = work_through([*pieces, *held.spectra], start, take, settings)
    for part in parts[1:]:
        parts[0].merge(part)
    return parts[0]


def new_extremes(geometry: Geometry, settings: PassSettings) -> Extremes:
    """An empty accumulator for the histogram ranges of a readout."""
    return Extremes(geometry, keep_shapes=family(geometry) == "other", seed=settings.seed)


def new_table(source: ShowerSource, settings: PassSettings) -> Table:
    """An empty table for the showers of a source, with columns for their conditions."""
    return Table(source.geometry, settings.seed, settings.most, extra=extra_columns(source.conditions))
