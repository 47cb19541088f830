"""The progress of a download: a bar on a terminal, a line per tenth elsewhere."""

from __future__ import annotations

__all__ = ["transfer_progress"]

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caloray.cli.console import note

Report = Callable[[str, int, int | None], None]


@contextmanager
def transfer_progress() -> Iterator[Report]:
    """Give a function to be called with (file name, bytes so far, bytes in all or None)."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.DownloadColumn())
    with bars.Progress(*columns, bars.TransferSpeedColumn(), console=console) as bar:
        tasks: dict[str, bars.TaskID] = {}

        def report(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield report


class _Lines:
    """One line whenever another tenth of a file has arrived."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __call__(self, name: str, done: int, total: int | None) -> None:
        tenth = 10 * done // total if total else done >> 27
        if self._last.get(name) != tenth:
            self._last[name] = tenth
            note(f"{name}: {done / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else ""))
