"""Who suggests the next configuration: each a pure function of seed, number and ledger."""

from __future__ import annotations

__all__ = ["GridPoints", "RandomDraws", "Searcher", "build_searcher", "draw"]

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from caloray.rng import StreamKey
from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.settings import BOHBSearch, GridSearch, OptunaSearch, TuneConfig
from caloray.tuning.space import Parameter

Assignment = dict[str, Any]


class Searcher(Protocol):
    """Suggests configurations."""

    def suggest(
        self, number: int, trials: Sequence[Trial], results: Mapping[int, TrialResult]
    ) -> Assignment | None:
        """The configuration of trial ``number``; None where all have been suggested."""


def suggestion_key(seed: int, number: int, purpose: str) -> StreamKey:
    """The random stream of one suggestion."""
    return StreamKey(seed, "tune", purpose, block=number)


def draw(space: Mapping[str, Parameter], key: StreamKey) -> Assignment:
    """A random configuration; the order of the parameters does not matter."""
    return {
        name: parameter.draw(key.named(f"tune/{name}", key.purpose).generator())
        for name, parameter in space.items()
    }


class RandomDraws:
    """Independent draws.

    Args:
        space: Dotted field -> range.
        seed: Seed of the search.
    """

    def __init__(self, space: Mapping[str, Parameter], seed: int) -> None:
        self.space = space
        self.seed = seed

    def suggest(
        self, number: int, trials: Sequence[Trial], results: Mapping[int, TrialResult]
    ) -> Assignment | None:
        """A draw that depends on the number alone."""
        del trials, results
        return draw(self.space, suggestion_key(self.seed, number, "random"))


class GridPoints:
    """All combinations in order, the last parameter of the alphabet changing fastest.

    Args:
        space: Dotted field -> range; the order in which it is written makes no difference.
    """

    def __init__(self, space: Mapping[str, Parameter]) -> None:
        self.points = {name: space[name].points() for name in sorted(space)}

    def __len__(self) -> int:
        return math.prod(map(len, self.points.values()))

    def suggest(
        self, number: int, trials: Sequence[Trial], results: Mapping[int, TrialResult]
    ) -> Assignment | None:
        """The combination after those that are in the ledger."""
        del number, results
        rest = sum(trial.kind == "search" and trial.rung == 0 for trial in trials)
        if rest >= len(self):
            return None
        found = {}
        for name in reversed(self.points):
            rest, place = divmod(rest, len(self.points[name]))
            found[name] = self.points[name][place]
        return {name: found[name] for name in self.points}


def build_searcher(settings: TuneConfig) -> Searcher:
    """The searcher that the settings name."""
    match settings.search:
        case GridSearch():
            return GridPoints(settings.space)
        case OptunaSearch() as search:
            from caloray.tuning.optuna_search import TreeParzen

            return TreeParzen(settings.space, settings.seed, search, settings.objective_names)
        case BOHBSearch() as search:
            from caloray.tuning.bohb_search import KernelDensities

            return KernelDensities(settings.space, settings.seed, search, settings.objective_names)
        case _:
            return RandomDraws(settings.space, settings.seed)
