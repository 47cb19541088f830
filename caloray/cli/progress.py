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
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Give a function to be called with the number of ``what`` that were finished since the last call."""
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _lines(what: str, total: int) -> Callable[[int], None]:
    done, told = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        if done >= total or time.monotonic() - told > LINE_EVERY:
            told = time.monotonic()
            note(f"{done} of {total} {what}")

    return advance
