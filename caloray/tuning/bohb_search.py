"""The model of BOHB: densities of good and of bad configurations, on the highest rung with enough results.

Reference: Falkner, Klein & Hutter, "BOHB: robust and efficient hyperparameter optimization at scale" (ICML
2018), section 3 and algorithm 2; kernels as there (Gaussian, and Aitchison & Aitken 1976 for choices),
bandwidths by the normal reference rule (Scott 1992). Written here because the authors' package draws from
numpy's global random state and falls back to random search in silence whatever goes wrong.
"""

from __future__ import annotations

__all__ = ["KernelDensities"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from caloray.tuning.history import Observation, observations
from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.searchers import draw, suggestion_key
from caloray.tuning.settings import BOHBSearch
from caloray.tuning.space import Parameter

LEAST_WIDTH = 1e-3
WIDER = 3.0
TINY = 1e-32


@dataclass(frozen=True)
class Density:
    """A product kernel density.

    Args:
        data: (n, d) float64 points; ranges in the unit interval, choices by index.
        choices: (d,) int, number of choices; 0 for ranges.
    """

    data: np.ndarray
    choices: np.ndarray

    @property
    def widths(self) -> np.ndarray:
        """Bandwidths (d,): 1.06 sigma n^(-1 / (4 + d)); of choices the probability to be another one."""
        n, d = self.data.shape
        widths = np.maximum(1.06 * self.data.std(axis=0, ddof=1) * n ** (-1 / (4 + d)), LEAST_WIDTH)
        most = np.where(self.choices > 0, (self.choices - 1) / np.maximum(self.choices, 1), np.inf)
        smaller: np.ndarray = np.minimum(widths, most)
        return smaller

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Density (m,) at points (m, d)."""
        widths = self.widths
        apart = (points[:, None, :] - self.data) / widths
        smooth = np.exp(-0.5 * apart**2) / (np.sqrt(2 * np.pi) * widths)
        discrete = np.where(apart == 0, 1 - widths, widths / np.maximum(self.choices - 1, 1))
        kernels = np.where(self.choices > 0, discrete, smooth)
        density: np.ndarray = kernels.prod(axis=2).mean(axis=1)
        return density

    def sample(self, count: int, generator: np.random.Generator) -> np.ndarray:
        """Points (count, d) near the data: three bandwidths wide for ranges, cut at their ends."""
        chosen = self.data[generator.integers(len(self.data), size=count)]
        widths, uniform = self.widths, generator.random(chosen.shape)
        wide = WIDER * widths
        low, high = ndtr(-chosen / wide), ndtr((1 - chosen) / wide)
        smooth = np.clip(chosen + wide * ndtri(low + uniform * (high - low)), 0.0, 1.0)
        other = generator.integers(np.maximum(self.choices, 1), size=chosen.shape)
        discrete = np.where(uniform < 1 - widths, chosen, other)
        return np.where(self.choices > 0, discrete, smooth)


class KernelDensities:
    """Suggestions where good configurations are dense and bad ones are not.

    Args:
        space: Dotted field -> range.
        seed: Seed of the search.
        search: Its settings.
        names: Of the objectives; the first counts.
    """

    def __init__(
        self, space: Mapping[str, Parameter], seed: int, search: BOHBSearch, names: Sequence[str]
    ) -> None:
        self.space = space
        self.seed = seed
        self.search = search
        self.names = names
        self.least = max(len(space) + 1, search.startup or 0)

    def suggest(
        self, number: int, trials: Sequence[Trial], results: Mapping[int, TrialResult]
    ) -> dict[str, Any] | None:
        """The candidate with the largest ratio of both densities, or now and then a random draw."""
        key = suggestion_key(self.seed, number, "bohb")
        generator = key.generator()
        told = observations(trials, results, self.names, self.least + len(self.space) + 1)
        known = [one for one in told if one.state != "running"]
        models = self._models(known)
        if models is None or generator.random() < self.search.random:
            return draw(self.space, key)
        good, bad = models
        candidates = good.sample(self.search.candidates, generator)
        ratio = np.maximum(bad(candidates), TINY) / np.maximum(good(candidates), TINY)
        best = candidates[int(ratio.argmin())]
        return {name: self._value(name, float(x)) for name, x in zip(self.space, best, strict=True)}

    def _models(self, known: Sequence[Observation]) -> tuple[Density, Density] | None:
        order = sorted(known, key=lambda one: one.values[0] if one.values else np.inf)
        good = max(self.least, int(self.search.top * len(order)))
        if len(order) - good <= len(self.space):
            return None
        points = np.array([self._point(one.assignment) for one in order])
        choices = np.array([len(parameter.choices) for parameter in self.space.values()])
        return Density(points[:good], choices), Density(points[good:], choices)

    def _point(self, assignment: Mapping[str, Any]) -> list[float]:
        return [
            float(parameter.index(assignment[name]))
            if parameter.choices
            else parameter.unit(assignment[name])
            for name, parameter in self.space.items()
        ]

    def _value(self, name: str, x: float) -> Any:
        parameter = self.space[name]
        return parameter.choices[round(x)] if parameter.choices else parameter.at(x)
