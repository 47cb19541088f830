"""Population-based training in generations, as a pure function of the ledger.

Reference: Jaderberg et al., "Population based training of neural networks" (arXiv:1711.09846), with
truncation selection; generations are synchronous, so the order in which members end makes no difference.
"""

from __future__ import annotations

__all__ = ["Member", "next_member"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from caloray.rng import StreamKey
from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.ranking import best_first
from caloray.tuning.searchers import draw, suggestion_key
from caloray.tuning.settings import PopulationFidelity
from caloray.tuning.space import Parameter


@dataclass(frozen=True)
class Member:
    """What one member does in one generation.

    Args:
        generation: From 0.
        assignment: Its values.
        parent: Trial whose training it continues; None in the first generation.
    """

    generation: int
    assignment: dict[str, Any]
    parent: int | None


def next_member(
    fidelity: PopulationFidelity,
    space: Mapping[str, Parameter],
    names: Sequence[str],
    generations: int,
    seed: int,
    number: int,
    trials: Sequence[Trial],
    results: Mapping[int, TrialResult],
) -> Member | Literal["wait", "done"]:
    """The member that comes next.

    Args:
        fidelity: Size of the population and how it changes.
        space: Dotted field -> range.
        names: Of the objectives.
        generations: How many there are.
        seed: Seed of the search.
        number: Of the trial that would be made.
        trials: All of the campaign.
        results: By number.

    Returns:
        The member; "wait" while the last generation is running; "done" after the last one, or where no member
        is left.
    """
    searched = [trial for trial in trials if trial.kind == "search"]
    key = suggestion_key(seed, number, "pbt")
    generation = max((trial.rung for trial in searched), default=0)
    members = [trial for trial in searched if trial.rung == generation]
    if len(members) == fidelity.population:
        if any(member.number not in results for member in members):
            return "wait"
        generation, before, members = generation + 1, members, []
    else:
        before = [trial for trial in searched if trial.rung == generation - 1]
    if generation >= generations:
        return "done"
    if generation == 0:
        return Member(0, draw(space, key), None)
    ended = {trial.number: results[trial.number] for trial in before}
    return _follower(fidelity, space, best_first(ended, names), before, len(members), key)


def _follower(
    fidelity: PopulationFidelity,
    space: Mapping[str, Parameter],
    order: Sequence[int],
    before: Sequence[Trial],
    place: int,
    key: StreamKey,
) -> Member | Literal["done"]:
    """The member at ``place``: the same one trained further, or one of the best with changed values."""
    if not order:
        return "done"
    own = before[place]
    count = max(1, int(fidelity.quantile * len(before)))
    kept = order[: max(1, len(before) - count)]
    generation = own.rung + 1
    if own.number in kept:
        return Member(generation, own.assignment, own.number)
    generator = key.generator()
    best = order[: min(count, len(order))]
    chosen = next(trial for trial in before if trial.number == best[int(generator.integers(len(best)))])
    changed = {
        name: _changed(fidelity, parameter, chosen.assignment[name], generator)
        for name, parameter in sorted(space.items())
    }
    return Member(generation, {name: changed[name] for name in space}, chosen.number)


def _changed(
    fidelity: PopulationFidelity, parameter: Parameter, value: Any, generator: np.random.Generator
) -> Any:
    afresh, share = generator.random(), generator.random()
    if afresh < fidelity.resample:
        return parameter.at(share)
    if parameter.kind == "choice":
        step = -1 if share < 0.5 else 1
        return parameter.choices[min(len(parameter.choices) - 1, max(0, parameter.index(value) + step))]
    moved = value * fidelity.factors[int(share * len(fidelity.factors))]
    return parameter.nearest(moved) if parameter.whole else min(parameter.high, max(parameter.low, moved))
