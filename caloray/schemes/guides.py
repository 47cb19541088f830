"""Planes that show the particle's vectors to convolutions, which do not know where in the layer they are."""

from __future__ import annotations

__all__ = ["Guides"]

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from caloray.geometry import Geometry
from caloray.preprocess.conditions import ParticleMap
from caloray.schemes.symmetry import TURNED

SCALE = 4.0
"""Value at the layer's edge along the largest vector; voxels in flow space reach 4.6."""


@dataclass(frozen=True)
class Guides:
    """Coordinates of the voxels along and across each vector (direction, place of entry) of the particle.

    A constant plane per component leaves the network to find out where "along" is from the padding at the
    layer's edges; then the few inclined showers of a small sample do not move at all (measured:
    docs/ild_l2l.md). Only (x, y) layers have guides. This is ours, the published networks know no directions.

    Args:
        geometry: The readout.
        particle: The conditions, among them perhaps the x and y of vectors.
    """

    geometry: Geometry
    particle: ParticleMap

    @cached_property
    def vectors(self) -> tuple[tuple[int, int, float], ...]:
        """Columns of x and y of every vector that is there whole, and the largest component in training."""
        if self.geometry.kind != "cartesian":
            return ()
        names, found = self.particle.names, []
        for pair in TURNED:
            if {*pair} <= {*names}:
                columns = [names.index(name) for name in pair]
                ends = [
                    abs(end)
                    for i in columns
                    for end in (self.particle.conditions[i].low, self.particle.conditions[i].high)
                ]
                found.append((columns[0], columns[1], max(ends) or 1.0))
        return tuple(found)

    @property
    def count(self) -> int:
        """Number of planes: two per vector."""
        return 2 * len(self.vectors)

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """Coordinates x and y of the voxels of a layer (D,) float64, in half widths of the layer."""
        layer = self.geometry.layers[0]
        x, y = (torch.tensor(edges, dtype=torch.float64) for edges in (layer.first, layer.second))
        x, y = ((axis[1:] + axis[:-1]) / (axis[-1] - axis[0]) for axis in (x, y))
        return x.repeat_interleave(len(y)), y.repeat(len(x))

    def planes(self, conditions: Tensor | None) -> list[Tensor]:
        """Coordinates (n, D) along and across every vector, for conditions (n, P) in their own units."""
        if conditions is None:
            return []
        x, y = (axis.to(conditions) for axis in self.places)
        found = []
        for first, second, largest in self.vectors:
            vx, vy = (SCALE / largest * conditions[:, [column]] for column in (first, second))
            found += [vx * x + vy * y, vx * y - vy * x]
        return found
