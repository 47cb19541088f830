"""How a training shows itself: a bar per component on a terminal, otherwise a line every ten seconds."""

from __future__ import annotations

__all__ = ["show_training"]

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from caloray.cli.console import note

if TYPE_CHECKING:
    from caloray.distributed.pipeline import Progress
    from caloray.distributed.progress import ComponentProgress

LINE_EVERY = 10.0
INGEST = "ingest"


@contextmanager
def show_training() -> Iterator[Progress]:
    """Callbacks for ingest and training; what they show goes to stderr."""
    from caloray.distributed.pipeline import Progress

    if not sys.stderr.isatty():
        lines = _Lines()
        yield Progress(ingested=lines.ingested, trained=lines.trained)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Display

    columns = (TextColumn("{task.description:<16}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    losses = TextColumn("{task.fields[losses]}")
    with Display(*columns, losses, console=Console(stderr=True)) as display:
        bars = _Bars(display)
        yield Progress(ingested=bars.ingested, trained=bars.trained)


class _Bars:
    """One bar for the ingest and one for each component, added when it first moves."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._tasks: dict[str, Any] = {}

    def ingested(self, done: int, total: int) -> None:
        self._move(INGEST, done, total, "")

    def trained(self, now: ComponentProgress) -> None:
        self._move(now.component, now.step, now.total, _losses(now))

    def _move(self, name: str, done: int, total: int, losses: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._display.add_task(name, total=total, losses="")
        self._display.update(self._tasks[name], completed=done, total=total, losses=losses)


class _Lines:
    """Plain lines, for files and schedulers' logs."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def ingested(self, done: int, total: int) -> None:
        self._tell(INGEST, f"{done} of {total} showers", last=done == total)

    def trained(self, now: ComponentProgress) -> None:
        speed = f", {now.rate:.1f} steps/s" if now.rate else ""
        text = f"epoch {now.epoch}, step {now.step} of {now.total}, {_losses(now)}{speed}"
        self._tell(now.component, text, last=now.step == now.total)

    def _tell(self, name: str, text: str, *, last: bool) -> None:
        now = time.monotonic()
        if last or now - self._told.get(name, -LINE_EVERY) >= LINE_EVERY:
            self._told[name] = now
            note(f"{name}: {text}")


def _losses(now: ComponentProgress) -> str:
    validation = "" if now.val_loss is None else f", validation {now.val_loss:.2f}"
    return f"loss {now.loss:.2f}{validation}"
