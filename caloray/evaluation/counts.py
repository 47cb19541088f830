"""Integer histograms of a sample, and of its random halves."""

from __future__ import annotations

__all__ = ["Counts"]

from collections.abc import Sequence
from typing import Any

import numpy as np

from caloray.evaluation.axes import Axis
from caloray.evaluation.halves import NO_HALVES, Halves
from caloray.evaluation.quantities import columns_of
from caloray.geometry import Geometry
from caloray.observables import find_bins, lit_spectrum

ROWS = 4096


class Counts:
    """Histograms that do not depend on the order or the chunks in which showers come.

    Args:
        geometry: The readout.
        axes: The histograms to fill.
        halves: Halvings to count separately.

    Attributes:
        n_half: (halvings,) showers in each first half.
        voxel_squares: (B + 2,) sum over showers of the squared number of voxels in a bin of the spectrum:
            the variance of that bin's count, as the voxels of one shower are not independent.
        half_voxel_squares: (halvings, B + 2) the same for each first half.
    """

    def __init__(self, geometry: Geometry, axes: Sequence[Axis], halves: Halves = NO_HALVES) -> None:
        self.axes = tuple(axes)
        self._columns = columns_of(geometry).index
        self._halves = halves
        n_halvings = halves.number
        ends = np.cumsum([axis.n_bins + 2 for axis in self.axes])
        self._starts = ends - [axis.n_bins + 2 for axis in self.axes]
        self._size = int(ends[-1])
        self._counts = np.zeros(self._size, dtype=np.int64)
        self._half = np.zeros((n_halvings, self._size), dtype=np.int64)
        self.n_half = np.zeros(n_halvings, dtype=np.int64)
        self._spectrum = next(i for i, axis in enumerate(self.axes) if axis.observable == "voxel_energy")
        width = self.axes[self._spectrum].n_bins + 2
        self.voxel_squares = np.zeros(width, dtype=np.int64)
        self.half_voxel_squares = np.zeros((n_halvings, width), dtype=np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Count N showers in all histograms but the voxel spectrum: ids (N,), quantities (N, Q)."""
        self._waiting.append((ids, rows))
        if sum(len(waiting) for waiting, _ in self._waiting) >= ROWS:
            self._flush()

    def add_spectrum(self, ids: np.ndarray, values: np.ndarray, per_shower: np.ndarray) -> None:
        """Count the lit voxels of N showers, see :func:`caloray.observables.lit_spectrum`."""
        span = self._span(self._spectrum)
        spectrum = lit_spectrum(values, per_shower, self.axes[self._spectrum].edges)
        squares = spectrum**2
        self._counts[span] += spectrum.sum(axis=0)
        self.voxel_squares += squares.sum(axis=0)
        if len(self._half):
            half = self._halves.of(ids).T.astype(np.float64)
            self._half[:, span] += (half @ spectrum).astype(np.int64)  # whole numbers far below 2**53
            self.half_voxel_squares += (half @ squares).astype(np.int64)

    def merge(self, other: Counts) -> None:
        """Add the counts of another sample that was made with the same settings."""
        self._flush()
        other._flush()
        self.n_half += other.n_half
        self._counts += other._counts
        self._half += other._half
        self.voxel_squares += other.voxel_squares
        self.half_voxel_squares += other.half_voxel_squares

    def of(self, axis: int) -> np.ndarray:
        """(B + 2,) entries of histogram number ``axis``; first underflow, last overflow."""
        self._flush()
        return self._counts[self._span(axis)]

    def of_halves(self, axis: int) -> np.ndarray:
        """(halvings, B + 2) entries of the first half of each halving."""
        self._flush()
        return self._half[:, self._span(axis)]

    def __getstate__(self) -> dict[str, Any]:
        """Everything that was added is counted before it travels."""
        self._flush()
        return self.__dict__

    def _span(self, axis: int) -> slice:
        start = int(self._starts[axis])
        return slice(start, start + self.axes[axis].n_bins + 2)

    def _flush(self) -> None:
        if not self._waiting:
            return
        ids = np.concatenate([part for part, _ in self._waiting])
        rows = np.concatenate([part for _, part in self._waiting])
        self._waiting = []
        for start in range(0, len(ids), 2 * ROWS):
            self._count(ids[start : start + 2 * ROWS], rows[start : start + 2 * ROWS])

    def _count(self, ids: np.ndarray, rows: np.ndarray) -> None:
        bins = self._find(rows)
        self._counts += np.bincount(bins.ravel(), minlength=self._size + 1)[:-1]
        if not len(self._half):
            return
        from scipy.sparse import csc_array

        half = self._halves.of(ids)
        self.n_half += half.sum(axis=0)
        starts = np.arange(len(ids) + 1) * bins.shape[1]
        entries = np.ones(bins.size), bins.ravel(), starts
        # Column n has a one for each bin that shower n falls into.
        per_half = csc_array(entries, shape=(self._size + 1, len(ids))) @ half.astype(np.float64)
        self._half += per_half[:-1].T.astype(np.int64)

    def _find(self, rows: np.ndarray) -> np.ndarray:
        """(N, axes) global bin numbers; what is not counted goes into one more bin at the end."""
        columns = np.ascontiguousarray(rows.T)
        incident = columns[self._columns["incident_energy"]]
        bins = np.full((len(self.axes), len(rows)), self._size, dtype=np.int32)
        for i, axis in enumerate(self.axes):
            if i == self._spectrum:
                continue
            values = columns[self._columns[axis.quantity]]
            if axis.observable == "layer_energy":
                values = values.astype(np.float32)  # as the official code, see build_axes
            bins[i] = find_bins(values, axis.edges) + self._starts[i]
            if axis.window is not None:
                bins[i, (incident < axis.window[0]) | (incident >= axis.window[1])] = self._size
        return np.ascontiguousarray(bins.T)
