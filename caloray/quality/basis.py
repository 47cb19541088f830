"""Functions of the particle on which means and spreads of observables are built.

In the logarithm of the incident energy they are cubic splines with uniform knots. Conditions c add the
monomials c_i and c_i c_j, each also times the logarithm; of a whole direction x and y are taken, which
determine z.
"""

from __future__ import annotations

__all__ = ["Basis", "basis_size"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caloray.quality.layout import ConditionSpan, Layout
from caloray.showers import DIRECTION

DEGREE = 3


@dataclass(frozen=True)
class Basis:
    """The values of the K functions for n particles.

    Args:
        first: (n,) the first of the four splines that are not 0 at each energy.
        splines: (4, n) their values, which add up to 1.
        terms: (Q, n) values of the other functions.
        n_splines: Number of splines; K is this number + Q.
    """

    first: np.ndarray
    splines: np.ndarray
    terms: np.ndarray
    n_splines: int

    @staticmethod
    def of(layout: Layout, scaled: np.ndarray, conditions: Mapping[str, np.ndarray]) -> Basis:
        """The functions at energies ``scaled`` (n,), 0 to 1, and conditions (n,) by name."""
        position = scaled * layout.intervals
        first = np.minimum(position.astype(np.int64), layout.intervals - 1)
        splines = _uniform_cubic(position - first)
        features = []
        for item in _features(layout):
            middle, half = (item.high + item.low) / 2, (item.high - item.low) / 2
            features.append(np.clip((conditions[item.name] - middle) / half, -1.0, 1.0))
        monomials = [a * b for i, a in enumerate(features) for b in features[i:]]
        plain = [*features, *monomials]
        terms = [*plain, *(term * (2 * scaled - 1) for term in plain)]
        others = np.array(terms).reshape(len(terms), len(scaled))
        return Basis(first, splines, others, layout.intervals + DEGREE)

    def dense(self) -> np.ndarray:
        """(n, K) all values."""
        found = np.zeros((len(self.first), self.n_splines + len(self.terms)))
        rows = np.arange(len(self.first))
        for i, values in enumerate(self.splines):
            found[rows, self.first + i] = values
        found[:, self.n_splines :] = self.terms.T
        return found

    def combine(self, coefficients: np.ndarray) -> np.ndarray:
        """(n, T) the functions times ``coefficients`` (K, T).

        Element by element, so that no particle's numbers depend on how many others are there.
        """
        found = np.zeros((len(self.first), coefficients.shape[1]))
        for i, values in enumerate(self.splines):
            found += coefficients[self.first + i] * values[:, None]
        for term, row in zip(self.terms, coefficients[self.n_splines :], strict=True):
            found += term[:, None] * row
        return found


def basis_size(layout: Layout) -> int:
    """K, the number of functions."""
    count = len(_features(layout))
    return layout.intervals + DEGREE + 2 * (count + count * (count + 1) // 2)


def _uniform_cubic(t: np.ndarray) -> np.ndarray:
    """(4, n) the cubic B-splines that reach into an interval, at ``t`` (n,), 0 to 1, of its length."""
    parts = (1 - t) ** 3, (3 * t - 6) * t**2 + 4, ((3 - 3 * t) * t + 3) * t + 1, t**3
    return np.stack(parts) / 6


def _features(layout: Layout) -> list[ConditionSpan]:
    varied = [item for item in layout.conditions if item.high > item.low]
    whole = set(DIRECTION) <= {item.name for item in layout.conditions}
    return [item for item in varied if not (whole and item.name == DIRECTION[2])]
