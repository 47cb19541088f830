"""Do both samples have the same incident energies? Without that no other comparison means much."""

from __future__ import annotations

__all__ = ["P_LIMIT", "SpectrumComparison", "compare_spectra"]

from dataclasses import dataclass

import numpy as np

P_LIMIT = 0.01
ROUNDING = 1e-6  # float32 files round the energies


@dataclass(frozen=True)
class SpectrumComparison:
    """Two-sample Kolmogorov-Smirnov test of the incident energies.

    Args:
        distance: Largest difference of the two cumulative distributions.
        probability: Of a distance at least as large for equal spectra (asymptotic).
        identical: The same energies, shower for shower, in any order; one sample may repeat them all.
    """

    distance: float
    probability: float
    identical: bool

    @property
    def warning(self) -> str | None:
        """One line for the reader when the spectra differ."""
        if self.probability >= P_LIMIT:
            return None
        return (
            f"incident energy spectra differ (KS distance {self.distance:.4f}, p = {self.probability:.1e}): "
            "differences below may come from that and not from the model"
        )


def compare_spectra(reference: np.ndarray, generated: np.ndarray) -> SpectrumComparison:
    """Compare two sorted arrays of incident energies [MeV] (Numerical Recipes, 3rd ed., section 14.3)."""
    both = np.concatenate([reference, generated])
    first = np.searchsorted(reference, both, side="right") / len(reference)
    second = np.searchsorted(generated, both, side="right") / len(generated)
    distance = float(np.abs(first - second).max())
    size = np.sqrt(len(reference) * len(generated) / len(both))
    probability = _kolmogorov((size + 0.12 + 0.11 / size) * distance)
    if _repeated(*sorted((reference, generated), key=len)):
        return SpectrumComparison(0.0, 1.0, identical=True)
    return SpectrumComparison(distance, probability, identical=False)


def _repeated(short: np.ndarray, long: np.ndarray) -> bool:
    times, rest = divmod(len(long), len(short))
    return not rest and np.allclose(np.repeat(short, times), long, rtol=ROUNDING, atol=0)


def _kolmogorov(value: float) -> float:
    """Probability of a scaled Kolmogorov-Smirnov distance above ``value``."""
    if value < 0.2:
        return 1.0
    k = np.arange(1, 101)
    return float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * k**2 * value**2)), 0.0, 1.0))
