"""Production and reference side by side, cell by cell and all cells together."""

from __future__ import annotations

__all__ = ["Pair", "pair_of"]

from dataclasses import dataclass

import numpy as np

from caloray.quality.counter import FINE, WEIGHT
from caloray.quality.counts import QualityCounts
from caloray.quality.reference import QualityReference

FEWEST = 100
"""Showers that a cell must have on either side."""


@dataclass(frozen=True)
class Moments:
    """Of the profiles' entries in D places.

    Args:
        mean: (D, P) of the pulls.
        variance: (D, P) of the pulls.
        filled: (D, P) share of showers in which the entry is not 0.
    """

    mean: np.ndarray
    variance: np.ndarray
    filled: np.ndarray


@dataclass(frozen=True)
class Pair:
    """D places where both sides have enough showers: all cells together first, then single ones.

    Args:
        names: (D) of each place.
        made: (D,) showers of the production.
        known: (D,) showers of the reference; for all cells together as many as would know as much.
        leverage: (D,) variance of a fitted mean for the production's particles.
        shapes: (2, D, S, BINS) shares of the production and of the reference in each bin.
        moments: Of the production and of the reference.
    """

    names: tuple[str, ...]
    made: np.ndarray
    known: np.ndarray
    leverage: np.ndarray
    shapes: np.ndarray
    moments: tuple[Moments, Moments]


def pair_of(counts: QualityCounts, reference: QualityReference) -> Pair:
    """The two sides of a comparison.

    All cells together, the reference's are weighted as the production has filled them.
    """
    made, known = counts.arrays["cells"], reference.counts.arrays["cells"]
    cells = np.flatnonzero((made >= FEWEST) & (known >= FEWEST))
    shared = np.flatnonzero((made > 0) & (known > 0))
    weights = np.zeros((1 + len(cells), len(made)))
    weights[0, shared] = made[shared] / max(1, made[shared].sum())
    weights[1 + np.arange(len(cells)), cells] = 1.0
    names = ("all showers", *(reference.layout.cell_name(int(cell)) for cell in cells))
    functions = weights @ (counts.arrays["basis"] / (np.maximum(made, 1) * WEIGHT)[:, None])
    sides = [_side(item, weights) for item in (counts, reference.counts)]
    return Pair(
        names,
        np.append(made[shared].sum(), made[cells]),
        1 / (weights**2 / np.maximum(known, 1)).sum(axis=1).clip(1e-30),
        np.einsum("dk,kl,dl->d", functions, reference.leverage, functions).clip(0),
        np.stack([shape for shape, _ in sides]),
        (sides[0][1], sides[1][1]),
    )


def _side(counts: QualityCounts, weights: np.ndarray) -> tuple[np.ndarray, Moments]:
    """Histograms (D, S, BINS) and moments of one side."""
    number = np.maximum(counts.arrays["cells"], 1)
    shapes = np.tensordot(weights, counts.arrays["scalars"] / number[:, None, None], axes=1)
    sums = np.tensordot(weights, counts.arrays["profiles"] / number[:, None, None], axes=1)
    mean, square = sums[..., 0] / FINE, sums[..., 1] / FINE**2
    return shapes, Moments(mean, (square - mean**2).clip(0), sums[..., 2])
