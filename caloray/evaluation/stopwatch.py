"""Timing one batch size: warm-up apart, several repetitions, bounded in time, nothing left out silently."""

from __future__ import annotations

__all__ = ["Clock", "Draw", "Plan", "measure"]

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Draw = Callable[[int, int], object]
"""Makes ``rows`` showers of piece ``index``; returns when they lie in host memory."""

SHORTEST = 0.1
"""Seconds that a repetition lasts at least; shorter ones are filled up with further calls."""
MOST_CALLS = 1000
WARM_CALLS = 2
GROWTH = 4


@dataclass(frozen=True)
class Clock:
    """Where the time is read [s]: wall time, and CPU time of this process."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Plan:
    """What is to be timed.

    Args:
        batch: Showers asked for at once.
        at_once: Most showers that the model sees together; a larger batch is drawn in such pieces.
        repetitions: How often the batch is timed.
        limit: Seconds for this batch size, warm-up included.
    """

    batch: int
    at_once: int
    repetitions: int = 10
    limit: float = 60.0

    @property
    def pieces(self) -> tuple[int, ...]:
        """Rows of the pieces of one batch."""
        whole, rest = divmod(self.batch, self.at_once)
        return (self.at_once,) * whole + ((rest,) if rest else ())


def measure(
    draw: Draw, plan: Plan, clock: Clock | None = None, known: tuple[int, float] | None = None
) -> dict[str, Any]:
    """Time one batch size.

    The first call is reported on its own (it may compile, allocate and fill caches) and counts for nothing
    else. A repetition is one batch or, where that is over in less than 0.1 s, as many batches as fill it.
    Where all repetitions do not fit into the limit, a batch that is drawn in pieces is timed on its first
    pieces, and otherwise there are fewer repetitions; where not even one call fits the batch is skipped,
    before it begins if smaller calls tell. All of that stands in the record.

    Args:
        draw: What is timed.
        plan: Sizes and limits.
        clock: Other clocks, for tests.
        known: Rows and seconds of an earlier, smaller call.

    Returns:
        ``batch``, ``rows_at_once``, ``showers`` (timed in all), ``repetitions``, ``calls`` (batches per
        repetition), ``first_s`` and ``first_rows`` (the first call), ``ms`` and ``cpu_ms`` (per shower:
        median, low and high (16 and 84 %), mean, std (from repetition to repetition), least; None when
        skipped), ``skipped`` (the reason or None) and ``note``.
    """
    rows = plan.pieces[0]
    record: dict[str, Any] = {
        "batch": plan.batch,
        "rows_at_once": rows,
        "showers": 0,
        "repetitions": 0,
        "calls": 0,
        "first_s": None,
        "first_rows": rows,
        "ms": None,
        "cpu_ms": None,
        "skipped": None,
        "note": "",
    }
    stopwatch = _Stopwatch(draw, clock or Clock())
    try:
        hopeless = _hopeless(stopwatch, rows, known, plan.limit)
        return record | ({"skipped": hopeless} if hopeless else _timed(stopwatch, plan))
    except (torch.OutOfMemoryError, MemoryError):
        return record | {"skipped": f"out of memory with {rows:,} showers at once"}


@dataclass
class _Stopwatch:
    draw: Draw
    clock: Clock
    index: int = 0

    def __call__(self, pieces: Sequence[int]) -> tuple[float, float]:
        """Wall and CPU seconds of drawing these pieces one after the other."""
        wall, cpu = self.clock.wall(), self.clock.cpu()
        for rows in pieces:
            self.draw(rows, self.index)
            self.index += 1
        return self.clock.wall() - wall, self.clock.cpu() - cpu


def _hopeless(stopwatch: _Stopwatch, rows: int, known: tuple[int, float] | None, limit: float) -> str | None:
    """Why a call of ``rows`` showers may last longer than the limit; small calls of growing size tell.

    A call lasts at most in proportion to its rows, so the next size is tried only where that bound allows it.
    """
    size, seconds = known or (0, 0.0)
    while size < rows and (size == 0 or seconds * rows / size > limit):
        larger = min(rows, max(1, GROWTH * size))
        if size and seconds * larger / size > limit:
            took = f"one of {size:,} took {seconds:.3g} s"
            return f"a call of {rows:,} may take longer than the limit of {limit:g} s ({took})"
        if larger == rows:
            break
        size, seconds = larger, stopwatch([larger])[0]
    return None


def _timed(stopwatch: _Stopwatch, plan: Plan) -> dict[str, Any]:
    rows = plan.pieces[0]
    began = stopwatch.clock.wall()
    first = warm = stopwatch([rows])[0]
    facts: dict[str, Any] = {"first_s": first}
    if warm < plan.limit:
        warm = min(stopwatch([rows])[0] for _ in range(WARM_CALLS - 1))
    if warm > plan.limit:
        return facts | {"skipped": f"a call of {rows:,} takes {warm:.3g} s, the limit is {plan.limit:g} s"}
    pieces, calls = _repetition(plan, warm)
    done: list[tuple[float, float]] = []
    while len(done) < plan.repetitions:
        spent = stopwatch.clock.wall() - began
        if done and spent + done[-1][0] > plan.limit:
            break
        done.append(stopwatch(pieces * calls))
    showers = sum(pieces) * calls
    return facts | {
        "showers": showers * len(done),
        "repetitions": len(done),
        "calls": calls,
        "ms": _spread([1e3 * wall / showers for wall, _ in done]),
        "cpu_ms": _spread([1e3 * cpu / showers for _, cpu in done]),
        "note": _note(plan, sum(pieces), len(done)),
    }


def _repetition(plan: Plan, piece: float) -> tuple[tuple[int, ...], int]:
    """The pieces of one repetition and how often they are drawn in it, ``piece`` seconds each."""
    affordable = int(plan.limit / plan.repetitions / max(piece, 1e-9))
    pieces = plan.pieces[: max(1, affordable)]
    seconds = max(1e-9, piece * sum(pieces) / pieces[0])
    return pieces, max(1, min(MOST_CALLS, math.ceil(SHORTEST / seconds)))


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    several = len(values) > 1
    low, median, high = (float(value) for value in np.percentile(values, [16, 50, 84]))
    return {
        "median": median,
        "low": low if several else None,
        "high": high if several else None,
        "mean": float(np.mean(values)),
        "std": float(np.std(values, ddof=1)) if several else None,
        "least": min(values),
    }


def _note(plan: Plan, rows: int, repetitions: int) -> str:
    parts = []
    if rows < plan.batch:
        parts.append(f"{rows:,} of {plan.batch:,} showers timed, in pieces of {plan.at_once:,}")
    if repetitions < plan.repetitions:
        parts.append(f"{repetitions} of {plan.repetitions} repetitions within {plan.limit:g} s")
    return "; ".join(parts)
