"""Many middle-sized matrix products at once, one core each."""

from __future__ import annotations

__all__ = ["in_threads"]

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 16


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``function`` of every item, in order, on all cores of this process.

    The linear-algebra library is kept to one thread per call meanwhile. Its own threads wait for each other
    after every product, and where another program takes a core away for a moment they wait much longer than
    they work. One thread per product also makes the digits independent of the number of cores.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(min(MOST, cores)) as pool:
        return list(pool.map(function, items))
