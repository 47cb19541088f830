"""The spectrum of voxel energies in very fine bins: small, exact to merge, the same on every machine."""

from __future__ import annotations

__all__ = ["FineSpectrum"]

import numpy as np

SHIFT = 13
"""Bits of a float32 that a bin does not look at: 1024 bins are left to each factor of two in energy."""
BINS = 0x7F800000 >> SHIFT


class FineSpectrum:
    """Counts of voxel energies at and above a threshold; 2 MB whatever the number of showers.

    The bin of an energy is the upper part of the bits of its float32, so that no arithmetic takes part and
    neither order, pieces nor machine matter.

    Args:
        threshold: Voxels below it [MeV] do not count.

    Attributes:
        largest: Largest energy seen [MeV]; 0 at first.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.largest = 0.0
        self._counts = np.zeros(BINS, dtype=np.int64)

    def add(self, voxels: np.ndarray) -> None:
        """Count voxels [MeV], any shape; infinite ones and NaN do not count."""
        energies = np.asarray(voxels, dtype=np.float32).reshape(-1)
        lit = (energies >= np.float32(self.threshold)) & (energies > 0) & np.isfinite(energies)
        energies = np.ascontiguousarray(energies[lit])
        bins = (energies.view(np.uint32) >> SHIFT).astype(np.int64)
        self._counts += np.bincount(bins, minlength=BINS)
        self.largest = max(self.largest, float(energies.max(initial=0.0)))

    def merge(self, other: FineSpectrum) -> None:
        """Take in the counts of another one with the same threshold."""
        self._counts += other._counts
        self.largest = max(self.largest, other.largest)

    @property
    def total(self) -> int:
        """Voxels counted."""
        return int(self._counts.sum())

    def above(self) -> tuple[np.ndarray, np.ndarray]:
        """Energies [MeV], ascending from the threshold to the largest, and how many voxels lie above each.

        Only energies between which voxels lie: the second array, (B + 1,) int64, falls strictly, from the
        total to 0.
        """
        filled = np.flatnonzero(self._counts)
        ends = ((filled + 1).astype(np.uint32) << SHIFT).view(np.float32).astype(np.float64)
        energies = np.append(self.threshold, np.minimum(ends, self.largest))
        counts = np.append(0, np.cumsum(self._counts[filled]))
        return energies, counts[-1] - counts
