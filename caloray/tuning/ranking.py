"""The order of results: one objective, or several by Pareto rank and crowding."""

from __future__ import annotations

__all__ = ["best_first", "pareto_front", "pareto_ranks"]

import math
from collections.abc import Mapping, Sequence

from caloray.tuning.ledger import TrialResult

Values = tuple[float, ...]


def values_of(result: TrialResult, names: Sequence[str]) -> Values | None:
    """A trial's objectives in order; None where it is not complete."""
    return tuple(result.objectives[name] for name in names) if result.complete else None


def pareto_ranks(points: Sequence[Values]) -> list[int]:
    """Rank of every point: 0 for those that none is better than, 1 for those left without them, and so on.

    All objectives are minimised; a point is better than another if it is nowhere worse and somewhere lower.
    Reference: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II" (2002), III A.
    """
    ranks = [-1] * len(points)
    rest = set(range(len(points)))
    rank = 0
    while rest:
        front = {i for i in rest if not any(_better(points[j], points[i]) for j in rest)}
        for i in front:
            ranks[i] = rank
        rest -= front
        rank += 1
    return ranks


def crowding(points: Sequence[Values]) -> list[float]:
    """Crowding distance of every point among its own: infinite at the ends (Deb et al. 2002, III B)."""
    found = [0.0] * len(points)
    for axis in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda i: points[i][axis])
        low, high = points[order[0]][axis], points[order[-1]][axis]
        found[order[0]] = found[order[-1]] = math.inf
        for before, i, after in zip(order, order[1:], order[2:], strict=False):
            width = (points[after][axis] - points[before][axis]) / (high - low) if high > low else 0.0
            found[i] += width
    return found


def best_first(results: Mapping[int, TrialResult], names: Sequence[str]) -> list[int]:
    """Numbers of the complete trials, the best first; equal ones in the order of their numbers.

    Args:
        results: By number.
        names: Of the objectives; several: by Pareto rank, within a rank by crowding, the loneliest first.
    """
    numbers = sorted(number for number, result in results.items() if result.complete)
    points = [tuple(results[number].objectives[name] for name in names) for number in numbers]
    if len(names) == 1:
        return [number for _, number in sorted(zip(points, numbers, strict=True))]
    ranks = pareto_ranks(points)
    lonely: dict[int, float] = {}
    for rank in set(ranks):
        members = [i for i, found in enumerate(ranks) if found == rank]
        distances = crowding([points[i] for i in members])
        lonely |= {numbers[i]: distance for i, distance in zip(members, distances, strict=True)}
    place = dict(zip(numbers, ranks, strict=True))
    return sorted(numbers, key=lambda number: (place[number], -lonely[number], number))


def pareto_front(results: Mapping[int, TrialResult], names: Sequence[str]) -> list[int]:
    """Numbers of the complete trials that none is better than, by the first objective."""
    numbers = sorted(number for number, result in results.items() if result.complete)
    points = [tuple(results[number].objectives[name] for name in names) for number in numbers]
    front = [
        (point, number)
        for point, number, rank in zip(points, numbers, pareto_ranks(points), strict=True)
        if not rank
    ]
    return [number for _, number in sorted(front)]


def _better(one: Values, other: Values) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other
