"""CPU seconds of a command with all its processes, Ray's among them."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass

import psutil

LOOK_EVERY = 0.1


@dataclass(frozen=True)
class Measured:
    """One command: its exit status, wall-clock seconds, CPU seconds of its whole process tree."""

    status: int
    wall: float
    cpu: float


def watch(process: subprocess.Popen[bytes]) -> Measured:
    """Wait for a command, and look at its processes while they live: Ray's are not its direct children."""
    began, spent = time.monotonic(), dict[tuple[int, float], float]()
    parent = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [parent, *parent.children(recursive=True)]
        except psutil.Error:
            family = []
        for member in family:
            try:
                times = member.cpu_times()
                spent[member.pid, member.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        time.sleep(LOOK_EVERY)
    return Measured(process.returncode, time.monotonic() - began, sum(spent.values()))
