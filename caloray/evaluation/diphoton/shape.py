"""The few numbers of a turn-on curve, and their errors from bootstrap samples."""

from __future__ import annotations

__all__ = ["Shape", "errors_of", "separation", "shape_of", "shapes_of"]

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from caloray.evaluation.diphoton.bank import Candidates
from caloray.evaluation.diphoton.bootstrap import binomial_errors
from caloray.evaluation.diphoton.curve import Curve
from caloray.evaluation.diphoton.turn_on import TurnOn, fit_turn_on

MOST_FAILURES = 0.1
DIGITS = 9

Quantity = Callable[["Shape"], float | None]


@dataclass(frozen=True, eq=False)
class Shape:
    """What two curves are compared in.

    Args:
        probability: (D,) share of resolved pairs.
        fit: The turn-on, None where the points do not show one.
        split: Share of single photons, mean over the two energies, that are seen as two or more.
    """

    probability: np.ndarray
    fit: TurnOn | None
    split: float

    @property
    def d50(self) -> float | None:
        """Halfway distance [mm]."""
        return None if self.fit is None else self.fit.d50

    @property
    def width(self) -> float | None:
        """Width of the turn-on [mm]."""
        return None if self.fit is None else self.fit.width

    @property
    def plateau(self) -> float | None:
        """P at large distances."""
        return None if self.fit is None else self.fit.plateau


def shape_of(curve: Curve, rates: np.ndarray, candidates: Candidates) -> Shape:
    """The shape of a curve.

    Args:
        curve: Its pairs.
        rates: (n,) splits of each single shower of the bank.
        candidates: The showers whose splits count.
    """
    fit = fit_turn_on(np.array(curve.distances), curve.probability, float(binomial_errors(curve).max()))
    split = 0.5 * (rates[candidates.first].mean() + rates[candidates.second].mean())
    return Shape(curve.probability, fit, float(split))


def shapes_of(
    curve: Curve, samples: np.ndarray, weights: np.ndarray, rates: np.ndarray, of: Candidates
) -> list[Shape]:
    """The shapes of (replicas, D) samples of a curve; (replicas, n) weights give those of splits."""
    noise, distances = float(binomial_errors(curve).max()), np.array(curve.distances)
    splits = np.zeros(len(samples))
    for rows in (of.first, of.second):
        total = np.maximum(weights[:, rows].sum(axis=1), 1)
        splits += 0.5 * (weights[:, rows] @ rates[rows]) / total
    return [
        Shape(sample, fit_turn_on(distances, sample, noise), float(split))
        for sample, split in zip(samples, splits, strict=True)
    ]


def errors_of(
    quantity: Quantity, shapes: Sequence[Shape], others: Sequence[Shape] | None = None
) -> float | None:
    """Standard deviation of a quantity, or of its difference between two curves, over bootstrap samples.

    None where more than a tenth of the samples do not have it.
    """
    ones = [quantity(shape) for shape in shapes]
    twos = [0.0] * len(ones) if others is None else [quantity(shape) for shape in others]
    found = [one - two for one, two in zip(ones, twos, strict=True) if one is not None and two is not None]
    return float(np.std(found, ddof=1)) if len(found) >= (1 - MOST_FAILURES) * len(ones) else None


def separation(quantity: Quantity, one: Shape, other: Shape) -> float | None:
    """Absolute difference of a quantity, None where one of the two does not have it."""
    first, second = quantity(one), quantity(other)
    return None if first is None or second is None else round(abs(first - second), DIGITS)
