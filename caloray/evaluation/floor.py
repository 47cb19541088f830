"""The separation power that Geant4 has against itself: the floor under every value."""

from __future__ import annotations

__all__ = ["Floor", "floor_of"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caloray.evaluation.sample import Sample
from caloray.evaluation.separation import occupancy_growth, separation_power, size_factor

BIAS = 0.25


@dataclass(frozen=True)
class Floor:
    """Separation powers of random halves of the reference, scaled to the sample sizes of the comparison.

    Args:
        values: One number per halving; empty where the reference has no entry in range.
        bias: Absolute uncertainty of their scale, common to all of them: a quarter of the correction for bins
            that only larger samples fill.
    """

    values: np.ndarray
    bias: float = 0.0

    @property
    def mean(self) -> float | None:
        """The expected separation power of two samples of the reference's distribution."""
        return float(self.values.mean()) if len(self.values) else None

    @property
    def spread(self) -> float | None:
        """Standard deviation from one pair of samples to the next, with the uncertainty of the scale."""
        return float(np.hypot(self.values.std(ddof=1), self.bias)) if len(self.values) > 1 else None

    def significance(self, value: float | None) -> float | None:
        """By how many spreads ``value`` lies above the mean."""
        if value is None or self.mean is None or not self.spread:
            return None
        return (value - self.mean) / self.spread

    def ratio(self, value: float | None) -> float | None:
        """``value`` in units of the mean."""
        return None if value is None or not self.mean else value / self.mean

    @staticmethod
    def average(floors: Sequence[Floor]) -> Floor:
        """The floor of the mean over several histograms of the same showers, halving by halving."""
        filled = [floor for floor in floors if len(floor.values)]
        if not filled:
            return Floor(np.zeros(0))
        fewest = min(len(floor.values) for floor in filled)
        values = np.mean([floor.values[:fewest] for floor in filled], axis=0)
        return Floor(values, float(np.mean([floor.bias for floor in filled])))


def floor_of(reference: Sample, axis: int, n_generated: int) -> Floor:
    """The floor of histogram number ``axis`` for a comparison with ``n_generated`` showers."""
    total = reference.counts(axis)[1:-1]
    halves = reference.half_counts(axis)[:, 1:-1]
    values = []
    for n_first, first in zip(reference.n_half, halves, strict=True):
        second, n_second = total - first, reference.n - int(n_first)
        value = separation_power(first, second)
        if value is None or not n_first or not n_second:
            continue
        factor = size_factor(int(n_first), n_second, reference.n, n_generated)
        values.append(value * factor)
    growth = occupancy_growth(total, halves, n_generated / max(1, reference.n))
    scaled = np.array(values) * growth
    return Floor(scaled, BIAS * (growth - 1.0) * float(scaled.mean()) if len(scaled) else 0.0)
