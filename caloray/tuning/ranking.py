"""The order of results: one objective, or several by Pareto rank and crowding."""

from __future__ import annotations

__all__ = ["best_first", "best_trials", "pareto_front", "pareto_ranks", "text_of"]

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from caloray.tuning.ledger import Trial, TrialResult

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


def text_of(value: Any) -> str:
    """The same text for the same JSON value, in whatever order its keys are."""
    return json.dumps(value, sort_keys=True)


def best_trials(
    trials: Sequence[Trial],
    results: Mapping[int, TrialResult],
    names: Sequence[str],
    members: int | None = None,
) -> list[Trial]:
    """Searched trials that are complete, the best first, every configuration once on its highest rung.

    Those of the highest rung that any has completed come first: results of different rungs are not
    comparable. Of several objectives it is those that none is better than, and among these the first
    objective decides.

    Args:
        trials: All of the campaign, the one with number n at position n.
        results: By number.
        names: Of the objectives.
        members: Size of the population where rungs are generations: one that has not ended in all its
            members is left out, since the best of them may be still to come.
    """
    rungs: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.kind == "search":
            rungs.setdefault(trial.rung, []).append(trial)
    if members is not None:
        ended = {
            rung: group
            for rung, group in rungs.items()
            if sum(trial.number in results for trial in group) >= members
        }
        rungs = ended or {rung: group for rung, group in rungs.items() if rung == 0}
    found: dict[str, Trial] = {}
    for rung in sorted(rungs, reverse=True):
        ended_here = {t.number: results[t.number] for t in rungs[rung] if t.number in results}
        for number in _by_first_objective(ended_here, names):
            found.setdefault(text_of(trials[number].assignment), trials[number])
    return list(found.values())


def _by_first_objective(results: Mapping[int, TrialResult], names: Sequence[str]) -> list[int]:
    numbers = sorted(number for number, result in results.items() if result.complete)
    points = [tuple(results[number].objectives[name] for name in names) for number in numbers]
    ranks = pareto_ranks(points) if len(names) > 1 else [0] * len(points)
    return [number for *_, number in sorted(zip(ranks, points, numbers, strict=True))]


def best_first(results: Mapping[int, TrialResult], names: Sequence[str]) -> list[int]:
    """Numbers of the complete trials as a promotion takes them, equal ones in the order of their numbers.

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
