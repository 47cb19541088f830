"""Chunks of showers over several threads, each with accumulators of its own.

All that an evaluation accumulates is independent of order and chunks, so the outcome does not depend on how
many threads there were.
"""

from __future__ import annotations

__all__ = ["PassSettings", "Progress", "chunks", "work_through"]

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from caloray.evaluation.halves import NO_HALVES, Halves
from caloray.evaluation.table import MOST
from caloray.io.source import ShowerSource
from caloray.showers import Showers

Progress = Callable[[str, int, int], None]

VOXELS_PER_CHUNK = 4_000_000
MOST_THREADS = 4  # one reads, the others can hardly keep more of them busy

State = TypeVar("State")
Item = TypeVar("Item")


@dataclass(frozen=True)
class PassSettings:
    """How samples are reduced.

    Args:
        threshold: Voxels below this energy [MeV] are zero.
        seed: Seed of the choice of rows where a table cannot keep all.
        halves: Random halvings of the reference.
        most: Most showers that a table keeps.
        threads: Worker threads; None: as many as cores are available to this process, four at most.
    """

    threshold: float
    seed: int = 0
    halves: Halves = NO_HALVES
    most: int = MOST
    threads: int | None = None


def work_through(
    items: Iterable[Item],
    start: Callable[[], State],
    take: Callable[[State, Item], None],
    settings: PassSettings,
) -> list[State]:
    """``take(state, item)`` for every item, each thread with a state of its own; all states.

    Items are drawn one at a time under a lock: one thread reads while the others compute.
    """
    threads = settings.threads or _available()
    iterator, lock = iter(items), threading.Lock()
    stopped = threading.Event()
    nothing = object()

    def run() -> State:
        state = start()
        try:
            while not stopped.is_set():
                with lock:
                    item = next(iterator, nothing)
                if item is nothing:
                    break
                take(state, item)  # type: ignore[arg-type]
        except BaseException:
            stopped.set()
            raise
        return state

    if threads == 1:
        return [run()]
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(run) for _ in range(threads)]
        try:
            return [future.result() for future in futures]
        finally:
            stopped.set()


def chunks(source: ShowerSource, progress: Progress | None, stage: str) -> Iterator[Showers]:
    """All showers of a source, about four million voxels at a time."""
    done = 0
    for showers in source.chunks(max(1, VOXELS_PER_CHUNK // source.geometry.n_voxels)):
        yield showers
        done += len(showers)
        if progress is not None:
            progress(stage, done, source.n_showers)


def _available() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)
