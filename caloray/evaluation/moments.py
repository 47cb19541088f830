"""Exact sums over the showers of a sample: what means, errors and average showers are made of."""

from __future__ import annotations

__all__ = ["COLUMNS", "Moments", "column_spans"]

import numpy as np

from caloray.evaluation.exact import ExactSums
from caloray.evaluation.exact_voxels import VoxelSums
from caloray.evaluation.quantities import Seen
from caloray.geometry import Geometry
from caloray.observables import radial_edges

SINGLE = ("total_energy", "e_ratio", "hits", "sparsity", "depth_mean", "depth_width", "r50", "r90")
COLUMNS = ("layer_energy", "layer_hits", "radial_energy", *SINGLE)


def column_spans(geometry: Geometry) -> dict[str, slice]:
    """Where each averaged quantity of :data:`COLUMNS` stands in the table of means."""
    rings = len(radial_edges(geometry)) - 1
    widths = (geometry.n_layers, geometry.n_layers, rings, *(1 for _ in SINGLE))
    ends = np.cumsum(widths)
    return {
        name: slice(int(end - width), int(end))
        for name, width, end in zip(COLUMNS, widths, ends, strict=True)
    }


class Moments:
    """Sums that do not depend on the order or the chunks in which showers come.

    Args:
        geometry: The readout.

    Attributes:
        n: Number of showers.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.n = 0
        width = max(span.stop for span in column_spans(geometry).values())
        self._sums = ExactSums(width)
        self._squares = ExactSums(width)
        self._crossed = ExactSums(width)
        self._incident = ExactSums(2)
        self._ratio = ExactSums(4)
        self._rings = ExactSums(geometry.n_layers * (len(radial_edges(geometry)) - 1))
        self._voxels = VoxelSums(geometry.n_voxels)
        self._energies: list[np.ndarray] = []

    def add(self, seen: Seen) -> None:
        """Take in N showers.

        Raises:
            NumericalError: A value is not finite.
        """
        self.n += len(seen)
        table, energies = _table(seen), seen.energies
        self._sums.add(table)
        self._squares.add(table**2)
        self._crossed.add(table * energies[:, None])
        self._incident.add(np.stack([energies, energies**2], axis=1))
        ratio = seen.observables.total / energies
        self._ratio.add(ratio[:, None] ** np.arange(1, 5))
        self._rings.add(seen.observables.rings.reshape(len(seen), -1))
        self._voxels.add(seen.lit.columns, seen.lit.values)
        self._energies.append(energies)

    def merge(self, other: Moments) -> None:
        """Add the showers of another sample of the same readout."""
        self.n += other.n
        for name in ("_sums", "_squares", "_crossed", "_incident", "_ratio", "_rings", "_voxels"):
            getattr(self, name).merge(getattr(other, name))
        self._energies.extend(other._energies)

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

    def average_voxels(self) -> np.ndarray:
        """(V,) mean energy [MeV] of each voxel."""
        return self._voxels.floats() / max(1, self.n)


def _table(seen: Seen) -> np.ndarray:
    """(N, columns) the quantities of COLUMNS, side by side."""
    observables, total = seen.observables, seen.observables.total
    single = {
        "total_energy": total,
        "e_ratio": total / seen.energies,
        "hits": observables.total_hits,
        "sparsity": observables.sparsity.mean(axis=1),
    }
    columns = [single[name] if name in single else getattr(observables, name) for name in SINGLE]
    rings = observables.rings.sum(axis=1)
    return np.concatenate(
        [observables.layer_energies, observables.hits, rings, np.stack(columns, axis=1)], axis=1
    )
