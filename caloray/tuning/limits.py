"""Why a trial has to stop: the campaign stops, its time is over, its process grew too large.

A trial may take several attempts: its process dies and is started again, or the campaign is stopped and goes
on later. What the attempts took together is kept in ``attempts.json`` of the trial's folder, so that a limit
on time counts all of them.
"""

from __future__ import annotations

__all__ = ["Limits", "Spent", "TrialStop"]

import json
import resource
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from caloray.atomic import write_json
from caloray.interrupt import FileStop

ATTEMPTS = "attempts.json"
NOTE_EVERY = 2.0
"""Seconds between two notes of what has been spent; a killed process forgets at most so much."""


@dataclass(frozen=True)
class Limits:
    """What a trial may take.

    Args:
        minutes: Time of all its attempts together; None: any.
        memory_gb: Memory of its process alone, without pages that it shares (the rows) [GB]; None: any. Of
            nested workers only their driver's is seen.
    """

    minutes: float | None = None
    memory_gb: float | None = None


@dataclass(frozen=True)
class Spent:
    """What a trial has taken so far.

    Args:
        attempts: How often it was started.
        seconds: Elapsed time of all attempts.
        cpu_seconds: Processor time of all attempts.
        peak_memory: Largest memory that was the process's alone [bytes].
    """

    attempts: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0

    @staticmethod
    def read(folder: Path) -> Spent:
        """From a trial's folder; nothing where it never began."""
        try:
            return Spent(**json.loads((folder / ATTEMPTS).read_text()))
        except (OSError, ValueError, TypeError):
            return Spent()

    def write(self, folder: Path) -> None:
        """Into a trial's folder."""
        write_json(folder / ATTEMPTS, asdict(self))


class TrialStop(FileStop):
    """Looks at the stop file, the clock and the process's memory, at most five times a second.

    Making one begins an attempt.

    Args:
        path: The campaign's stop file.
        folder: The trial's folder.
        limits: What the trial may take.
    """

    def __init__(self, path: Path, folder: Path, limits: Limits = Limits()) -> None:
        super().__init__(path)
        self._folder, self._limits = folder, limits
        before = Spent.read(folder)
        self._before = replace(before, attempts=before.attempts + 1)
        self._began, self._cpu_began = time.monotonic(), _cpu_seconds()
        self._noted = self._began
        self._process = psutil.Process()
        self._peak = 0
        self.exceeded: str | None = None
        """Which limit was exceeded, in one line; None while none is."""
        self._before.write(folder)

    @property
    def spent(self) -> Spent:
        """What all attempts, this one included, have taken until now."""
        return Spent(
            attempts=self._before.attempts,
            seconds=self._before.seconds + time.monotonic() - self._began,
            cpu_seconds=self._before.cpu_seconds + _cpu_seconds() - self._cpu_began,
            peak_memory=max(self._before.peak_memory, self._peak),
        )

    def looked(self) -> None:
        """Compare with the limits, and note now and then what was spent."""
        own = self._memory()
        self._peak = max(self._peak, own)
        spent = self.spent
        if time.monotonic() - self._noted >= NOTE_EVERY:
            self._noted = time.monotonic()
            spent.write(self._folder)
        minutes, memory = self._limits.minutes, self._limits.memory_gb
        if minutes is not None and spent.seconds > 60 * minutes:
            self._exceed(f"time limit: {spent.seconds:.0f} s of {60 * minutes:.0f} s")
        elif memory is not None and own > memory * 1e9:
            self._exceed(f"memory limit: {own / 1e9:.2f} GB of {memory:g} GB")

    def note(self) -> Spent:
        """Write down what was spent, at the end of an attempt."""
        self._peak = max(self._peak, self._memory())
        spent = self.spent
        spent.write(self._folder)
        return spent

    def _memory(self) -> int:
        """Memory that is freed when the process ends [bytes]: shared pages are somebody else's as well."""
        try:
            return int(self._process.memory_full_info().uss)
        except psutil.Error:
            return int(self._process.memory_info().rss)

    def _exceed(self, reason: str) -> None:
        if self.signal is None:
            self.exceeded = reason
            self.request()


def _cpu_seconds() -> float:
    """Of this process with those of its children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
