"""Counting on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

__all__ = ["counting"]

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caloray.cli.console import note

LINE_EVERY = 10.0


@contextmanager
def counting(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Give a function to be called with the number of ``what`` that were finished since the last call."""
    if not sys.stderr.isatty():
        lines = _Lines(what, total)
        yield lines.advance
        lines.tell()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


class _Lines:
    """One line every ten seconds, and one at the end."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what = what if total is None else f"of {total} {what}"
        self._done, self._told = 0, time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._told > LINE_EVERY:
            self._told = time.monotonic()
            self.tell()

    def tell(self) -> None:
        note(f"{self._done} {self._what}")
