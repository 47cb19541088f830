"""One sample of showers, boiled down to integer counts and exact sums in a single pass."""

from __future__ import annotations

__all__ = ["COLUMNS", "Sample", "column_spans"]

from collections.abc import Sequence

import numpy as np

from caloray.evaluation.axes import Axis
from caloray.evaluation.exact import ExactSums
from caloray.evaluation.separation import halvings
from caloray.geometry import Geometry
from caloray.observables import Observables, find_bins, radial_edges, voxel_spectrum

COLUMNS = ("layer_energy", "layer_hits", "radial_energy", "total_energy", "e_ratio", "hits", "sparsity")


def column_spans(geometry: Geometry) -> dict[str, slice]:
    """Where each averaged quantity of :data:`COLUMNS` stands in the table of means."""
    rings = len(radial_edges(geometry)) - 1
    widths = (geometry.n_layers, geometry.n_layers, rings, 1, 1, 1, 1)
    ends = np.cumsum(widths)
    return {
        name: slice(int(end - width), int(end))
        for name, width, end in zip(COLUMNS, widths, ends, strict=True)
    }


class Sample:
    """Histograms and sums of one sample; independent of the order and the chunks in which showers come.

    Args:
        geometry: The readout.
        axes: The histograms to fill.
        threshold: Voxel threshold [MeV].
        seed: Seed of the halvings.
        n_halvings: Number of random halvings to count separately (0: none).

    Attributes:
        n: Number of showers.
        n_half: (halvings,) of them in each first half.
        voxel_squares: (B + 2,) sum over showers of the squared number of voxels in a bin of the spectrum:
            the variance of that bin's count, as the voxels of one shower are not independent.
    """

    def __init__(
        self, geometry: Geometry, axes: Sequence[Axis], threshold: float, seed: int = 0, n_halvings: int = 0
    ) -> None:
        self.geometry = geometry
        self.axes = tuple(axes)
        self.threshold = threshold
        self.seed = seed
        self.n = 0
        self.n_half = np.zeros(n_halvings, dtype=np.int64)
        ends = np.cumsum([axis.n_bins + 2 for axis in self.axes])
        self._starts = ends - [axis.n_bins + 2 for axis in self.axes]
        self._counts = np.zeros(int(ends[-1]), dtype=np.int64)
        self._half = np.zeros((n_halvings, int(ends[-1])), dtype=np.int64)
        width = max(span.stop for span in column_spans(geometry).values())
        self._sums = ExactSums(width)
        self._squares = ExactSums(width)
        self._crossed = ExactSums(width)
        self._incident = ExactSums(2)
        self._ratio = ExactSums(4)
        self._rings = ExactSums(geometry.n_layers * (len(radial_edges(geometry)) - 1))
        self._energies: list[np.ndarray] = []
        spectrum = next(axis for axis in self.axes if axis.observable == "voxel_energy")
        self.voxel_squares = np.zeros(spectrum.n_bins + 2, dtype=np.int64)

    def add(
        self, observables: Observables, voxels: np.ndarray, energies: np.ndarray, ids: np.ndarray
    ) -> None:
        """Take in N showers.

        Args:
            observables: Of these showers, made with this sample's threshold.
            voxels: (N, V) [MeV].
            energies: (N,) incident energies [MeV].
            ids: (N,) integers that name the showers for good.
        """
        self.n += len(ids)
        half = halvings(ids, self.seed, len(self.n_half))
        self.n_half += half.sum(axis=0)
        self._count(observables, voxels, energies, half)
        table = _table(observables, energies)
        self._sums.add(table)
        self._squares.add(table**2)
        self._crossed.add(table * energies[:, None])
        self._incident.add(np.stack([energies, energies**2], axis=1))
        ratio = observables.total / energies
        self._ratio.add(ratio[:, None] ** np.arange(1, 5))
        self._rings.add(observables.rings.reshape(len(ids), -1))
        self._energies.append(np.array(energies, dtype=np.float64))

    def merge(self, other: Sample) -> None:
        """Add another sample that was made with the same settings."""
        self.n += other.n
        self.n_half += other.n_half
        self._counts += other._counts
        self.voxel_squares += other.voxel_squares
        self._half += other._half
        for name in ("_sums", "_squares", "_crossed", "_incident", "_ratio", "_rings"):
            getattr(self, name).merge(getattr(other, name))
        self._energies.extend(other._energies)

    def counts(self, axis: int) -> np.ndarray:
        """(B + 2,) entries of histogram number ``axis``; first underflow, last overflow."""
        return self._counts[self._span(axis)]

    def half_counts(self, axis: int) -> np.ndarray:
        """(halvings, B + 2) entries of the first half of each halving."""
        return self._half[:, self._span(axis)]

    @property
    def energies(self) -> np.ndarray:
        """(n,) incident energies [MeV], ascending."""
        return np.sort(np.concatenate(self._energies)) if self._energies else np.zeros(0)

    def sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums of x, x^2 and x E_inc, each (columns,), of the quantities of :func:`column_spans`."""
        return self._sums.floats(), self._squares.floats(), self._crossed.floats()

    def incident_sums(self) -> tuple[float, float]:
        """Sums of E_inc [MeV] and E_inc^2."""
        first, second = self._incident.floats()
        return float(first), float(second)

    def ratio_moments(self) -> tuple[float, float, float]:
        """Mean, second and fourth central moment of E_tot / E_inc."""
        m1, m2, m3, m4 = (value / self.n for value in self._ratio.fractions())
        second = m2 - m1**2
        fourth = m4 - 4 * m3 * m1 + 6 * m2 * m1**2 - 3 * m1**4
        return float(m1), float(second), float(fourth)

    def average_shower(self) -> np.ndarray:
        """(L, R) mean energy [MeV] per layer and ring."""
        return (self._rings.floats() / max(1, self.n)).reshape(self.geometry.n_layers, -1)

    def _span(self, axis: int) -> slice:
        start = int(self._starts[axis])
        return slice(start, start + self.axes[axis].n_bins + 2)

    def _count(
        self, observables: Observables, voxels: np.ndarray, energies: np.ndarray, half: np.ndarray
    ) -> None:
        size = len(self._counts)
        bins = np.empty((len(energies), len(self.axes)), dtype=np.int64)
        keep = np.ones(len(self.axes), dtype=bool)
        for i, axis in enumerate(self.axes):
            if axis.observable == "voxel_energy":
                keep[i] = False
                spectrum = voxel_spectrum(voxels, axis.edges, self.threshold)
                self._counts[self._span(i)] += spectrum.sum(axis=0)
                self.voxel_squares += (spectrum**2).sum(axis=0)
                self._half[:, self._span(i)] += half.T.astype(np.int64) @ spectrum
            else:
                bins[:, i] = find_bins(_values(observables, energies, axis), axis.edges) + self._starts[i]
        bins = bins[:, keep]
        self._counts += np.bincount(bins.ravel(), minlength=size)
        for k in range(half.shape[1]):
            self._half[k] += np.bincount(bins[half[:, k]].ravel(), minlength=size)


def _values(observables: Observables, energies: np.ndarray, axis: Axis) -> np.ndarray:
    """(N,) the quantity that ``axis`` counts."""
    if axis.layer is None:
        whole = {"e_ratio": observables.total / energies, "hits": observables.total_hits}
        return np.asarray(whole.get(axis.observable, energies))
    match axis.observable.split("_", 1):
        case ["layer", _]:
            layers = observables.layer_energies.astype(np.float32)  # as the official code, see build_axes
        case ["centre", name]:
            layers = observables.centres[name]
        case ["width", name]:
            layers = observables.widths[name]
        case _:
            layers = observables.sparsity
    return np.asarray(layers[:, axis.layer])


def _table(observables: Observables, energies: np.ndarray) -> np.ndarray:
    """(N, columns) the quantities of COLUMNS, side by side."""
    total = observables.total[:, None]
    return np.concatenate(
        [
            observables.layer_energies,
            observables.hits,
            observables.rings.sum(axis=1),
            total,
            total / energies[:, None],
            observables.total_hits[:, None],
            observables.sparsity.mean(axis=1, keepdims=True),
        ],
        axis=1,
    )
