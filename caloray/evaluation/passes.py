"""Showers in, counts and tables out: every shower is read and observed once."""

from __future__ import annotations

__all__ = [
    "InProcess",
    "PassSettings",
    "Progress",
    "Reducer",
    "find_extremes",
    "new_extremes",
    "new_table",
    "reduce_reference",
    "reduce_showers",
]

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from caloray.evaluation.axes import Axis, build_axes
from caloray.evaluation.extremes import Extremes
from caloray.evaluation.halves import NO_HALVES
from caloray.evaluation.hold import count_held, hold, new_extremes, new_table
from caloray.evaluation.quantities import Seen
from caloray.evaluation.reading import PassSettings, Progress, chunks, work_through
from caloray.evaluation.sample import Sample
from caloray.evaluation.table import Table
from caloray.io.source import ShowerSource
from caloray.showers import Showers


class Reducer(Protocol):
    """Whoever reads the showers: this process, or Ray workers. The outcome is the same."""

    def reference(
        self, source: ShowerSource, settings: PassSettings, progress: Progress | None = None
    ) -> tuple[tuple[Axis, ...], Sample, Table]:
        """The histograms, whose ranges the reference decides, and the reference itself."""

    def generated(
        self,
        source: ShowerSource,
        axes: Sequence[Axis],
        settings: PassSettings,
        progress: Progress | None = None,
    ) -> tuple[Sample, Table]:
        """Showers that are to be judged; they have no halves."""


class InProcess:
    """The :class:`Reducer` that needs nobody else."""

    def reference(
        self, source: ShowerSource, settings: PassSettings, progress: Progress | None = None
    ) -> tuple[tuple[Axis, ...], Sample, Table]:
        """See :func:`reduce_reference`."""
        return reduce_reference(source, settings, progress)

    def generated(
        self,
        source: ShowerSource,
        axes: Sequence[Axis],
        settings: PassSettings,
        progress: Progress | None = None,
    ) -> tuple[Sample, Table]:
        """See :func:`reduce_showers`."""
        return reduce_showers(source, axes, replace(settings, halves=NO_HALVES), progress, "generated")


def find_extremes(
    source: ShowerSource, settings: PassSettings, progress: Progress | None = None, stage: str = "ranges"
) -> Extremes:
    """What the histogram ranges need to know of a sample."""

    def take(extremes: Extremes, showers: Showers) -> None:
        extremes.add(Seen.of(showers, source.geometry, settings.threshold))

    parts = work_through(
        chunks(source, progress, stage), lambda: new_extremes(source.geometry, settings), take, settings
    )
    for part in parts[1:]:
        parts[0].merge(part)
    return parts[0]


def reduce_showers(
    source: ShowerSource,
    axes: Sequence[Axis],
    settings: PassSettings,
    progress: Progress | None = None,
    stage: str = "",
) -> tuple[Sample, Table]:
    """Counts, sums and rows of a sample whose histograms are known; ``merge`` joins parts of a sample."""

    def start() -> tuple[Sample, Table]:
        sample = Sample(source.geometry, axes, settings.threshold, settings.halves)
        return sample, new_table(source, settings)

    def take(state: tuple[Sample, Table], showers: Showers) -> None:
        seen = Seen.of(showers, source.geometry, settings.threshold)
        state[0].add(seen)
        state[1].add(seen.ids, seen.rows)

    parts = work_through(chunks(source, progress, stage), start, take, settings)
    for part in parts[1:]:
        parts[0][0].merge(part[0])
        parts[0][1].merge(part[1])
    return parts[0]


def reduce_reference(
    source: ShowerSource, settings: PassSettings, progress: Progress | None = None
) -> tuple[tuple[Axis, ...], Sample, Table]:
    """As :func:`find_extremes`, then :func:`reduce_showers`, but the showers are read once.

    The histograms are filled from the table and from the lit voxels, which wait in memory until the ranges
    are known. A sample too large for that (1 GiB of lit voxels, or more showers than the table keeps) is read
    again.
    """
    held = hold(source, settings, progress)
    axes = build_axes(source.geometry, settings.threshold, held.extremes)
    if held.complete:
        counts = count_held(source, axes, held, settings)
        return axes, Sample.of(held.moments, counts, settings.threshold), held.table
    del held
    sample, table = reduce_showers(source, axes, settings, progress, "reference, counts")
    return axes, sample, table
