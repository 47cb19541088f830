"""Timing several candidates in turn in one process: CPU time and wall time, medians with their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

SHORTEST = 0.01
SLOW = 6.0
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Candidate:
    """One thing to be timed.

    Args:
        name: Name of its column.
        run: What is timed.
        scale: How much of the whole job one run stands for, inverted: 144 where one of 144 passes is run.
    """

    name: str
    run: Callable[[], object]
    scale: float = 1.0

    @property
    def scaled(self) -> bool:
        """Whether only a part was run."""
        return self.scale != 1.0


@dataclass(frozen=True)
class Spread:
    """Seconds: median, least, quartiles."""

    median: float
    least: float
    lower: float
    upper: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Of one value or more."""
        if len(values) == 1:
            return Spread(*4 * values)
        lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
        return Spread(statistics.median(values), min(values), lower, upper)

    def times(self, factor: float) -> Spread:
        """All values multiplied."""
        return Spread(*(value * factor for value in asdict(self).values()))


@dataclass(frozen=True)
class Timing:
    """What one candidate took for the whole job."""

    cpu: Spread
    wall: Spread
    runs: int
    scaled: bool

    def times(self, factor: float) -> Timing:
        """The same for a job ``factor`` times as long."""
        return replace(self, cpu=self.cpu.times(factor), wall=self.wall.times(factor), scaled=True)

    def milliseconds(self) -> Timing:
        """The same in milliseconds."""
        return replace(self.times(1e3), scaled=self.scaled)


def alternate(candidates: Sequence[Candidate], rounds: int, budget: float) -> dict[str, Timing]:
    """Time all candidates in turn, round after round, after one warm-up each.

    Short ones are run several times per round, until a hundredth of a second has passed; one that takes more
    than SLOW seconds is run once, and that was it.

    Args:
        candidates: What to time.
        rounds: Most rounds.
        budget: Seconds after which no round begins, but for the third.
    """
    seconds = {candidate.name: [clock(candidate.run)] for candidate in candidates}
    quick = [candidate for candidate in candidates if seconds[candidate.name][0][1] < SLOW]
    counts = {candidate.name: _count(candidate.run) for candidate in quick}
    seconds |= {candidate.name: [] for candidate in quick}
    began = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - began > budget:
            break
        for candidate in quick:
            seconds[candidate.name].append(clock(candidate.run, counts[candidate.name]))
    return {candidate.name: _timing(candidate, seconds[candidate.name]) for candidate in candidates}


def clock(run: Callable[[], object], count: int = 1) -> tuple[float, float]:
    """CPU seconds of this process and wall seconds per run."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def _count(run: Callable[[], object]) -> int:
    """Runs per round of something that is warm."""
    return max(1, min(200, round(SHORTEST / max(clock(run)[1], 1e-6))))


def _timing(candidate: Candidate, seconds: list[tuple[float, float]]) -> Timing:
    cpu, wall = zip(*seconds, strict=True)
    found = Timing(Spread.of(cpu), Spread.of(wall), len(seconds), scaled=False)
    return found.times(candidate.scale) if candidate.scaled else found
