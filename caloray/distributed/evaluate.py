"""The passes of an evaluation over Ray workers: shards of a directory, or row ranges of a file.

Counts are integers, sums are exact and tables are ordered by the showers' ids, so the parts may be merged in
any order: the outcome is that of :mod:`caloray.evaluation.passes` in one process, bit for bit.
"""

from __future__ import annotations

__all__ = ["RayReducer", "reducer"]

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from caloray.distributed.session import Session
from caloray.distributed.tasks import Load, map_tasks
from caloray.evaluation.axes import Axis, build_axes
from caloray.evaluation.extremes import Extremes
from caloray.evaluation.halves import NO_HALVES
from caloray.evaluation.passes import (
    PassSettings,
    Progress,
    find_extremes,
    new_extremes,
    new_table,
    reduce_showers,
)
from caloray.evaluation.sample import Sample
from caloray.evaluation.table import Table
from caloray.interrupt import watch_signals
from caloray.io.parts import Part, parts_of
from caloray.io.source import ShowerSource

ROWS = 10_000
MEMORY = 1 << 30
"""Bytes set aside for one part: its rows, a chunk of showers in several copies, and the libraries."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class _Piece:
    """One part on its way to a worker; without histograms it is asked for its extremes."""

    part: Part
    settings: PassSettings
    axes: tuple[Axis, ...] = ()


@dataclass(frozen=True)
class RayReducer:
    """The :class:`caloray.evaluation.passes.Reducer` whose showers are read by Ray workers.

    Args:
        session: An open Ray session.
        directory: Where running parts leave a note, seen by all nodes; None: a temporary one.
        rows: Showers of one part, about.
    """

    session: Session
    directory: Path | None = None
    rows: int = ROWS

    def reference(
        self, source: ShowerSource, settings: PassSettings, progress: Progress | None = None
    ) -> tuple[tuple[Axis, ...], Sample, Table]:
        """The histograms, whose ranges the reference decides, and the reference itself.

        Raises:
            DataError: Showers that cannot be read, or a source that is no file or directory.
            NumericalError: A value is not finite.
            ClusterError: Workers kept dying, or a node does not see the directory.
            InterruptedRunError: After SIGTERM or SIGINT.
        """
        extremes = new_extremes(source.geometry, settings)
        for part in self._map(_find_extremes, source, settings, (), progress, "ranges"):
            extremes.merge(part)
        axes = build_axes(source.geometry, settings.threshold, extremes)
        return axes, *self._reduce(source, settings, axes, progress, "reference")

    def generated(
        self,
        source: ShowerSource,
        axes: Sequence[Axis],
        settings: PassSettings,
        progress: Progress | None = None,
    ) -> tuple[Sample, Table]:
        """Showers that are to be judged; they have no halves. Raises as :meth:`reference`."""
        return self._reduce(source, replace(settings, halves=NO_HALVES), tuple(axes), progress, "generated")

    def _reduce(
        self,
        source: ShowerSource,
        settings: PassSettings,
        axes: tuple[Axis, ...],
        progress: Progress | None,
        stage: str,
    ) -> tuple[Sample, Table]:
        sample = Sample(source.geometry, axes, settings.threshold, settings.halves)
        table = new_table(source, settings)
        for part_sample, part_table in self._map(_reduce, source, settings, axes, progress, stage):
            sample.merge(part_sample)
            table.merge(part_table)
        return sample, table

    def _map(
        self,
        work: Callable[[_Piece, Path], Outcome],
        source: ShowerSource,
        settings: PassSettings,
        axes: tuple[Axis, ...],
        progress: Progress | None,
        stage: str,
    ) -> Iterator[Outcome]:
        load = Load(memory=MEMORY)
        self.session.require(load.resources(), "evaluation")
        pieces = [_Piece(part, replace(settings, threads=1), axes) for part in parts_of(source, self.rows)]
        done = 0
        with tempfile.TemporaryDirectory(prefix="caloray-evaluate-") as scratch, watch_signals() as stop:
            directory = (self.directory or Path(scratch)).absolute()
            if self.directory is not None:
                self.session.check_directory(directory)
            for index, outcome in map_tasks(work, pieces, directory, load, what="evaluation", stop=stop):
                yield outcome
                done += pieces[index].part.rows
                if progress is not None:
                    progress(stage, done, source.n_showers)


def reducer(session: Session, directory: Path | None = None) -> RayReducer:
    """Read showers on the workers of ``session``; see :class:`RayReducer`."""
    return RayReducer(session, directory)


def _find_extremes(piece: _Piece, directory: Path) -> Extremes:
    """Runs on a worker."""
    del directory
    return find_extremes(piece.part.open(), piece.settings)


def _reduce(piece: _Piece, directory: Path) -> tuple[Sample, Table]:
    """Runs on a worker."""
    del directory
    return reduce_showers(piece.part.open(), piece.axes, piece.settings)
