"""How a training shows itself: one live table on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

__all__ = ["duration", "show_training", "summary_line", "table_rows"]

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from caloray.cli.console import note

if TYPE_CHECKING:
    from caloray.distributed.pipeline import Progress
    from caloray.distributed.progress import ComponentProgress, ComponentState

LINE_EVERY = 10.0
NAMED = 4
"""Running components that the plain line describes one by one."""
FRAME = 6
"""Lines of the table that are no components."""
COLUMNS = ("component", "state", "epoch", "loss", "validation", "steps/s", "left", "GB")
STYLES = {"running": "bold", "done": "green", "failed": "red", "waiting": "dim"}


@contextmanager
def show_training() -> Iterator[Progress]:
    """Callbacks for ingest and training; what they show goes to stderr."""
    from caloray.distributed.pipeline import Progress

    if not sys.stderr.isatty():
        lines = _Lines()
        yield Progress(ingested=lines.ingested, trained=lines.trained)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, refresh_per_second=4, vertical_overflow="crop") as live:
        table = _Table(live, console)
        yield Progress(ingested=table.ingested, trained=table.trained)


def summary_line(states: Sequence[ComponentState]) -> str:
    """All components in one line, the running ones with their place."""
    counts = [(state, [s for s in states if s.state == state]) for state in STYLES]
    ordered = [(state, found) for state, found in counts if found]
    parts = [f"{len(found)} {state}{_named(found) if state == 'running' else ''}" for state, found in ordered]
    return f"components: {', '.join(parts)}"


def table_rows(states: Sequence[ComponentState], height: int) -> list[tuple[str, ...]]:
    """The cells of the table, at most about ``height`` lines.

    Where the terminal is too low for all components, neighbours that are alike waiting or done share a line.
    """
    if len(states) <= height:
        return [_cells(state) for state in states]
    rows: list[tuple[str, ...]] = []
    for state, group in groupby(states, key=lambda s: s.state):
        members = list(group)
        if state in {"running", "failed"} or len(members) == 1:
            rows += [_cells(member) for member in members]
        else:
            name = f"{members[0].component} ... {members[-1].component}"
            rows.append((f"{name} ({len(members)})", state, *[""] * (len(COLUMNS) - 2)))
    return rows


class _Table:
    """One live table; before it, a line that counts the ingest."""

    def __init__(self, live: Any, console: Any) -> None:
        self._live, self._console = live, console

    def ingested(self, done: int, total: int) -> None:
        from rich.text import Text

        self._live.update(Text(f"ingest: {done} of {total} showers"))

    def trained(self, states: Sequence[ComponentState]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, caption=Text(_totals(states)), caption_justify="left")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in COLUMNS[:2] else "right", no_wrap=True)
        for row in table_rows(states, self._console.size.height - FRAME):
            table.add_row(*row, style=STYLES[row[1].partition(" ")[0].partition(",")[0]])
        self._live.update(table)


class _Lines:
    """Plain lines, for files and schedulers' logs."""

    def __init__(self) -> None:
        self._told = -LINE_EVERY
        self._counts: dict[str, int] = {}

    def ingested(self, done: int, total: int) -> None:
        if done == total or time.monotonic() - self._told >= LINE_EVERY:
            self._told = time.monotonic()
            note(f"ingest: {done} of {total} showers")

    def trained(self, states: Sequence[ComponentState]) -> None:
        counts = {name: sum(s.state == name for s in states) for name in ("done", "failed")}
        if counts != self._counts or time.monotonic() - self._told >= LINE_EVERY:
            self._told, self._counts = time.monotonic(), counts
            note(summary_line(states))


def _cells(state: ComponentState) -> tuple[str, ...]:
    told = f"{state.state}, {state.note}" if state.note and state.state == "waiting" else state.state
    now = state.now
    if now is None:
        return (state.component, told, *[""] * (len(COLUMNS) - 2))
    running = state.state == "running"
    return (
        state.component,
        told,
        f"{now.epoch}/{now.epochs}" if now.epochs else str(now.epoch),
        f"{now.loss:.2f}",
        "" if now.val_loss is None else f"{now.val_loss:.2f}",
        f"{now.rate:.1f}" if running and now.rate else "",
        duration(now.seconds_left) if running else "",
        f"{now.memory / 1e9:.1f}" if now.memory else "",
    )


def _totals(states: Sequence[ComponentState]) -> str:
    counts = {name: sum(s.state == name for s in states) for name in STYLES}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    failed = [s for s in states if s.state == "failed"]
    return told + "".join(f"\n{s.component}: {s.note}" for s in failed[:3])


def _named(running: Sequence[ComponentState]) -> str:
    """The first few running components with their epochs and losses."""
    parts = [f"{s.component}{_place(s.now)}" for s in running[:NAMED]]
    more = ["..."] if len(running) > NAMED else []
    return f" ({'; '.join([*parts, *more])})"


def _place(now: ComponentProgress | None) -> str:
    if now is None:
        return " starting"
    epochs = f"{now.epoch}/{now.epochs}" if now.epochs else str(now.epoch)
    validation = "" if now.val_loss is None else f", validation {now.val_loss:.2f}"
    speed = f", {now.rate:.1f} steps/s" if now.rate else ""
    left = f", {duration(now.seconds_left)} left" if now.seconds_left is not None else ""
    return f" epoch {epochs}, loss {now.loss:.2f}{validation}{speed}{left}"


def duration(seconds: float | None) -> str:
    """Seconds as hours, minutes and seconds; nothing where they are not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
