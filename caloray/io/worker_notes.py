"""Notes of the processes that work on a directory: who they are, where they run, and what they are at.

A process that works on one piece (a shard) leaves its host and process id in ``<directory>/workers/`` for as
long as it does, for whoever wants to look at it, or to stop it. A killed process leaves its note behind; the
driver removes it.
"""

from __future__ import annotations

__all__ = ["FOLDER", "WorkerNote", "announced", "forget", "notes_of"]

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from caloray.atomic import write_json

FOLDER = "workers"
_SAME_START = 2.0
"""Seconds by which the clocks of a note's file and of its process may differ."""


@dataclass(frozen=True)
class WorkerNote:
    """What one process says of itself.

    Args:
        name: What it is at: the number of a piece, or "driver".
        host: Name of its machine.
        pid: Its process id there.
        since: When it began, seconds since 1970.
    """

    name: str
    host: str
    pid: int
    since: float

    @property
    def alive(self) -> bool | None:
        """Whether the process still runs; None on another machine, where nobody can tell."""
        if self.host != socket.gethostname():
            return None
        try:
            return psutil.Process(self.pid).create_time() <= self.since + _SAME_START
        except psutil.Error:
            return False


@contextmanager
def announced(directory: Path, name: str) -> Iterator[None]:
    """Leave a note of this process in ``directory`` while the block runs."""
    path = directory / FOLDER / f"{name}.json"
    write_json(path, {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()})
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def notes_of(directory: Path) -> list[WorkerNote]:
    """The notes that are there, by name; one that is being written or removed is left out."""
    found = []
    for path in sorted((directory / FOLDER).glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            value = json.loads(path.read_bytes())
            since = float(value.get("since", path.stat().st_mtime))
            found.append(WorkerNote(path.stem, str(value["host"]), int(value["pid"]), since))
    return found


def forget(directory: Path) -> None:
    """Remove all notes, those of killed processes included."""
    folder = directory / FOLDER
    for path in folder.glob("*.json*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # there is none, or a process on its way out has just left another note
        folder.rmdir()
