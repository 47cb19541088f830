"""A campaign while it runs: one table of the trials at work and the best so far, or a line now and then."""

from __future__ import annotations

__all__ = ["show_trials", "standing_line", "trial_cells"]

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from caloray.cli.console import note
from caloray.cli.training_view import duration

if TYPE_CHECKING:
    from caloray.distributed.tune import TuneProgress
    from caloray.tuning.director import Director
    from caloray.tuning.ledger import Trial
    from caloray.tuning.settings import TuneConfig

LINE_EVERY = 10.0
COLUMNS = ("trial", "kind", "rung", "component", "epoch", "validation", "left", "settings")


@contextmanager
def show_trials(settings: TuneConfig) -> Iterator[TuneProgress]:
    """Callbacks for ingest and trials; what they show goes to stderr."""
    from caloray.distributed.tune import TuneProgress

    watch = _Watch(settings)
    if not sys.stderr.isatty():
        lines = _Lines(watch)
        yield TuneProgress(lines.ingested, lines.tried)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=2, vertical_overflow="crop") as live:
        table = _Table(live, watch)
        yield TuneProgress(table.ingested, table.tried)


class _Watch:
    """Reads the progress files of running trials."""

    def __init__(self, settings: TuneConfig) -> None:
        self.settings = settings
        self._readers: dict[tuple[int, str], Any] = {}

    def cells(self, director: Director, trial: Trial) -> tuple[str, ...]:
        from caloray.distributed.progress import ProgressReader

        latest = None
        for name in trial.epochs:
            folder = director.ledger.folder(trial.number) / "components" / name
            reader = self._readers.setdefault((trial.number, name), ProgressReader(name, folder))
            latest = reader.read() or latest
        return trial_cells(trial, latest)


def trial_cells(trial: Trial, now: Any | None) -> tuple[str, ...]:
    """One row of the table.

    Args:
        trial: The trial.
        now: Its component's place in the training, if it has begun.
    """
    values = ", ".join(
        f"{name.rpartition('.')[2]} {_short(value)}" for name, value in trial.assignment.items()
    )
    head = (str(trial.number), trial.kind, str(trial.rung))
    if now is None:
        return (*head, "", "", "", "", values)
    validation = "" if now.val_loss is None else f"{now.val_loss:.2f}"
    epochs = f"{now.epoch}/{now.epochs}"
    return (*head, now.component, epochs, validation, duration(now.seconds_left), values)


def standing_line(director: Director, running: int) -> str:
    """How far the campaign is, and its best trial."""
    results = director.results
    counts: dict[str, int] = {"running": running}
    for result in results.values():
        counts[result.status] = counts.get(result.status, 0) + 1
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    best = director.best()
    if not best:
        return f"trials: {told or 'none yet'}"
    objectives = results[best[0].number].objectives
    values = ", ".join(f"{name} {value:.5g}" for name, value in objectives.items())
    return f"trials: {told}; best so far: trial {best[0].number}, {values}"


class _Table:
    def __init__(self, live: Any, watch: _Watch) -> None:
        self._live, self._watch = live, watch

    def ingested(self, done: int, total: int) -> None:
        from rich.text import Text

        self._live.update(Text(f"ingest: {done} of {total} showers"))

    def tried(self, director: Director, running: Sequence[Trial]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        caption = Text(standing_line(director, len(running)))
        table = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left")
        for column in COLUMNS:
            table.add_column(column, no_wrap=column != "settings")
        for trial in running:
            table.add_row(*self._watch.cells(director, trial))
        self._live.update(table)


class _Lines:
    """Plain lines, for files and schedulers' logs."""

    def __init__(self, watch: _Watch) -> None:
        self._watch = watch
        self._told, self._ended = -LINE_EVERY, -1

    def ingested(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._told >= LINE_EVERY:
            self._told = time.monotonic()
            note(f"ingest: {done} of {total} showers")

    def tried(self, director: Director, running: Sequence[Trial]) -> None:
        if time.monotonic() - self._told < LINE_EVERY:
            return
        self._told = time.monotonic()
        places = [self._watch.cells(director, trial) for trial in running[:4]]
        told = "; ".join(f"{row[0]} {row[3]} {row[4]}".rstrip() for row in places)
        note(standing_line(director, len(running)) + (f" ({told})" if told else ""))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
