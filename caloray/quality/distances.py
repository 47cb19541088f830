"""Shifts between production and reference in units of the reference's width, with what chance would give."""

from __future__ import annotations

__all__ = ["Shifts", "histogram_shifts", "mean_shifts", "voxel_shifts"]

from dataclasses import dataclass

import numpy as np

from caloray.quality.counter import WEIGHT
from caloray.quality.counts import POSITIONS, QualityCounts
from caloray.quality.reference import QualityReference
from caloray.quality.samples import Pair

LEAST_WIDTH = 0.1
"""Of a pull, in units of its fitted spread; for what is all but constant in the reference."""
LEAST_VOXEL = 0.1
"""Of a voxel's being lit or not: that of a voxel that is lit in one shower of a hundred."""
FEWEST_FILLED = 25
"""Showers of the production that must have an entry on one side or the other."""
USUAL, NEVER, NEW = 0.8, 0.01, 0.1
"""Shares of showers that have an entry: where it belongs to most of them; where it belongs to none; and where
an entry of that kind has appeared. In between it comes up with the energy faster than the maps can follow."""
LEAST_LIT = 0.02
"""Share of showers in which a voxel must be lit, or expected to be."""


@dataclass(frozen=True)
class Shifts:
    """Shifts of some entries in some places, all (D, T).

    Args:
        shift: In reference widths, above zero, beyond what chance gives on average.
        error: Its standard deviation if nothing had shifted.
        compared: Where both sides have enough to compare.
    """

    shift: np.ndarray
    error: np.ndarray
    compared: np.ndarray

    def part(self, entries: slice) -> Shifts:
        """Some of the entries."""
        return Shifts(self.shift[:, entries], self.error[:, entries], self.compared[:, entries])


def histogram_shifts(pair: Pair) -> Shifts:
    """Wasserstein distances of the pulls of all scalars, over their standard deviation in the reference.

    Between two samples of one distribution F, sqrt(n m / (n + m)) times the difference of their distribution
    functions is nearly a Brownian bridge in F; mean and variance of the area under its modulus follow from
    those of the modulus of two correlated normal numbers.
    """
    steps = np.diff(POSITIONS)
    below = np.cumsum(pair.shapes, axis=3)[..., :-1]
    distance = (np.abs(below[0] - below[1]) * steps).sum(axis=2)
    mean = pair.shapes[1] @ POSITIONS
    width = np.sqrt((pair.shapes[1] @ POSITIONS**2 - mean**2).clip(LEAST_WIDTH**2))
    made, known = pair.made[:, None], pair.known[:, None]
    pooled = (below[0] * made[..., None] + below[1] * known[..., None]) / (made + known)[..., None]
    chance, variance = _bridge(pooled.clip(0, 1), steps)
    size = 1 / made + 1 / known
    shift = (distance - chance * np.sqrt(size)).clip(0) / width
    error = np.sqrt(variance * size / width**2 + pair.leverage[:, None])
    return Shifts(shift, error, np.ones_like(shift, dtype=bool))


def _bridge(below: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the integral of |bridge| for distribution functions ``below`` (..., B)."""
    spread = np.sqrt(below * (1 - below))
    inner, outer = below[..., :, None], below[..., None, :]
    low, high = np.minimum(inner, outer), np.maximum(inner, outer)
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.sqrt(low * (1 - high) / (high * (1 - low)))
    rho = np.nan_to_num(rho, nan=0.0, posinf=0.0).clip(0, 1)
    share = (2 / np.pi) * (np.sqrt(1 - rho**2) + rho * np.arcsin(rho) - 1)
    weights = spread * steps
    mean = np.sqrt(2 / np.pi) * weights.sum(axis=-1)
    return mean, np.einsum("...j,...jk,...k->...", weights, share, weights).clip(0)


def mean_shifts(pair: Pair) -> Shifts:
    """Differences of the mean pulls of all profiles' entries, over their standard deviation in the reference.

    Compared are entries that most showers of the reference have, and those that none should have.
    """
    made, known = pair.moments
    count, reference = pair.made[:, None], pair.known[:, None]
    width = np.sqrt(known.variance).clip(LEAST_WIDTH)
    wide = np.maximum(known.variance, made.variance)
    error = np.sqrt((wide / count + known.variance / reference) / width**2 + pair.leverage[:, None])
    new = (known.filled <= NEVER) & (made.filled >= NEW) & (made.filled * count >= FEWEST_FILLED)
    compared = (known.filled >= USUAL) | new
    return Shifts(np.abs(made.mean - known.mean) / width, error.clip(1e-9), compared)


def voxel_shifts(counts: QualityCounts, reference: QualityReference) -> Shifts:
    """(1, V) differences between how often each voxel is lit and how often it should be for these particles.

    The width is that of a voxel's being lit or not, sqrt(p (1 - p)).
    """
    showers = max(1, counts.showers)
    functions = counts.arrays["basis"].sum(axis=0) / (showers * WEIGHT)
    expected = (functions @ reference.occupancy.astype(np.float64)).clip(0, 1)
    found = counts.arrays["voxels"] / showers
    width = np.sqrt(expected * (1 - expected)).clip(LEAST_VOXEL)
    leverage = float(functions @ reference.leverage @ functions)
    variance = np.maximum(expected * (1 - expected), found * (1 - found)) + 1 / showers
    error = np.sqrt(variance / showers / width**2 + max(leverage, 0.0))
    filled = np.maximum(expected, found)
    compared = (filled >= LEAST_LIT) & (filled * showers >= FEWEST_FILLED)
    return Shifts((np.abs(found - expected) / width)[None], error[None], compared[None])
