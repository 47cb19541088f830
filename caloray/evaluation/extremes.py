"""What histogram ranges need to know of the reference: largest energies, and quantiles of some quantities."""

from __future__ import annotations

__all__ = ["RANGED", "Extremes"]

import numpy as np

from caloray.evaluation.quantities import Seen, columns_of
from caloray.evaluation.table import Table
from caloray.geometry import Geometry

TAIL = 0.001
RANGE_ROWS = 50_000
RANGED = ("depth_mean", "depth_width", "r50", "r90")
"""Quantities whose range is always taken from quantiles."""
FROM_ZERO = ("width", "depth_width", "r50", "r90")


class Extremes:
    """Largest values of a sample, and up to 50,000 of its showers for quantiles; independent of their order.

    Args:
        geometry: The readout.
        keep_shapes: Centres, widths and response get their ranges from quantiles, too.
        seed: Seed of the choice of showers where there are more.

    Attributes:
        voxel: Largest voxel energy [MeV].
        hits: Largest number of lit voxels.
        incident: Smallest and largest incident energy [MeV].
        layers: (L,) largest layer energies [MeV].
        layer_hits: (L,) largest number of lit voxels of each layer.
    """

    def __init__(self, geometry: Geometry, *, keep_shapes: bool = False, seed: int = 0) -> None:
        columns = columns_of(geometry)
        shapes = [name for name in columns.names if name.startswith(("centre", "width", "e_ratio"))]
        self.voxel = 0.0
        self.hits = 0.0
        self.incident = (np.inf, 0.0)
        self.layers = np.zeros(geometry.n_layers)
        self.layer_hits = np.zeros(geometry.n_layers)
        self._kept = Table(geometry, seed, RANGE_ROWS, [*RANGED, *(shapes if keep_shapes else [])])

    def add(self, seen: Seen) -> None:
        """Take in showers."""
        if not len(seen):
            return
        self.voxel = max(self.voxel, float(seen.lit.values.max(initial=0.0)))
        self.hits = max(self.hits, float(seen.observables.total_hits.max()))
        low, high = self.incident
        self.incident = min(low, float(seen.energies.min())), max(high, float(seen.energies.max()))
        self.layers = np.maximum(self.layers, seen.observables.layer_energies.max(axis=0))
        self.layer_hits = np.maximum(self.layer_hits, seen.observables.hits.max(axis=0))
        self._kept.add(seen.ids, seen.rows)

    def merge(self, other: Extremes) -> None:
        """Take in the showers of another one of the same settings."""
        self.voxel = max(self.voxel, other.voxel)
        self.hits = max(self.hits, other.hits)
        self.incident = min(self.incident[0], other.incident[0]), max(self.incident[1], other.incident[1])
        self.layers = np.maximum(self.layers, other.layers)
        self.layer_hits = np.maximum(self.layer_hits, other.layer_hits)
        self._kept.merge(other._kept)

    def range(self, quantity: str) -> tuple[float, float]:
        """Range without the outermost 0.1 % on either side, widened by a tenth; widths and radii from 0."""
        if not len(self._kept):
            return 0.0, 1.0
        low, high = (float(q) for q in np.quantile(self._kept.column(quantity), [TAIL, 1 - TAIL]))
        margin = 0.1 * (high - low) or 1.0
        return (0.0 if quantity.startswith(FROM_ZERO) else low - margin), high + margin
