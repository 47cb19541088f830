"""One sample of showers, boiled down to integer counts and exact sums."""

from __future__ import annotations

__all__ = ["COLUMNS", "Sample", "column_spans"]

from collections.abc import Sequence

import numpy as np

from caloray.evaluation.axes import Axis
from caloray.evaluation.counts import Counts
from caloray.evaluation.halves import NO_HALVES, Halves
from caloray.evaluation.moments import COLUMNS, Moments, column_spans
from caloray.evaluation.quantities import Seen
from caloray.geometry import Geometry


class Sample:
    """Histograms and sums of one sample; independent of the order and the chunks in which showers come.

    Args:
        geometry: The readout.
        axes: The histograms to fill.
        threshold: Voxel threshold [MeV] that the showers were observed with.
        halves: Halvings to count separately.
    """

    def __init__(
        self, geometry: Geometry, axes: Sequence[Axis], threshold: float, halves: Halves = NO_HALVES
    ) -> None:
        self.geometry = geometry
        self.axes = tuple(axes)
        self.threshold = threshold
        self.moments = Moments(geometry)
        self.histograms = Counts(geometry, axes, halves)

    @staticmethod
    def of(moments: Moments, histograms: Counts, threshold: float) -> Sample:
        """The sample whose two parts were filled apart."""
        sample = Sample(moments.geometry, histograms.axes, threshold)
        sample.moments, sample.histograms = moments, histograms
        return sample

    def add(self, seen: Seen) -> None:
        """Take in showers.

        Raises:
            NumericalError: A value is not finite.
        """
        self.moments.add(seen)
        self.histograms.add(seen.ids, seen.rows)
        self.histograms.add_spectrum(seen.ids, seen.lit.values, seen.lit.per_shower)

    def merge(self, other: Sample) -> None:
        """Add another sample that was made with the same settings."""
        self.moments.merge(other.moments)
        self.histograms.merge(other.histograms)

    @property
    def n(self) -> int:
        """Number of showers."""
        return self.moments.n

    @property
    def n_half(self) -> np.ndarray:
        """(halvings,) showers in each first half."""
        self.histograms.of(0)
        return self.histograms.n_half

    @property
    def voxel_squares(self) -> np.ndarray:
        """(B + 2,) sum over showers of the squared number of voxels in a bin of the spectrum."""
        return self.histograms.voxel_squares

    def counts(self, axis: int) -> np.ndarray:
        """(B + 2,) entries of histogram number ``axis``; first underflow, last overflow."""
        return self.histograms.of(axis)

    def half_counts(self, axis: int) -> np.ndarray:
        """(halvings, B + 2) entries of the first half of each halving."""
        return self.histograms.of_halves(axis)

    @property
    def energies(self) -> np.ndarray:
        """(n,) incident energies [MeV], ascending."""
        return self.moments.energies

    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums of x, x^2 and x E_inc, each (columns,), of the quantities of :func:`column_spans`."""
        return self.moments.sums()

    def incident_sums(self) -> tuple[float, float]:
        """Sums of E_inc [MeV] and E_inc^2."""
        return self.moments.incident_sums()

    def ratio_moments(self) -> tuple[float, float, float]:
        """Mean, second and fourth central moment of E_tot / E_inc."""
        return self.moments.ratio_moments()

    def average_shower(self) -> np.ndarray:
        """(L, R) mean energy [MeV] per layer and ring."""
        return self.moments.average_shower()

    def average_voxels(self) -> np.ndarray:
        """(V,) mean energy [MeV] of each voxel."""
        return self.moments.average_voxels()
