"""Showers as lists of the cells that were hit, and back to dense arrays."""

from __future__ import annotations

__all__ = ["Hits"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.showers import Showers


@dataclass(frozen=True, eq=False)
class Hits:
    """The K hits of n showers, one behind the other, each shower in the order of layer, x, y.

    Args:
        incident_energies: (n,) float64 [MeV].
        ids: (n,) int64 event numbers.
        starts: (n + 1,) int64; the hits of shower i are ``starts[i]`` to ``starts[i + 1] - 1``.
        layers: (K,) position of the layer.
        x: (K,) cell along x, counted from the corner of the layer's box.
        y: (K,) cell along y, likewise.
        energies: (K,) float32 [MeV].
        corners: (n, L, 2) int32 number (x, y) of the cell in the corner of the box, in the detector's own
            count of cells. Detector cell = corner + (x, y).
        conditions: (n,) float64 of each further scalar of the particle, by name.

    Raises:
        DataError: The arrays do not belong together.
    """

    incident_energies: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    layers: np.ndarray
    x: np.ndarray
    y: np.ndarray
    energies: np.ndarray
    corners: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compare the lengths."""
        n, hits = len(self.ids), len(self.energies)
        rows = {len(self.incident_energies), len(self.corners), *map(len, self.conditions.values())}
        if rows != {n} or len(self.starts) != n + 1 or {len(self.layers), len(self.x), len(self.y)} != {hits}:
            raise DataError(f"hits: columns of different lengths for {n} showers with {hits} hits")

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.ids)

    @property
    def events(self) -> np.ndarray:
        """(K,) row of the shower that each hit belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def select(self, start: int, stop: int) -> Hits:
        """The showers of rows ``start`` to ``stop`` (excluded)."""
        rows, hits = slice(start, stop), slice(int(self.starts[start]), int(self.starts[stop]))
        return Hits(
            incident_energies=self.incident_energies[rows],
            ids=self.ids[rows],
            starts=self.starts[start : stop + 1] - self.starts[start],
            layers=self.layers[hits],
            x=self.x[hits],
            y=self.y[hits],
            energies=self.energies[hits],
            corners=self.corners[rows],
            conditions={name: values[rows] for name, values in self.conditions.items()},
        )

    def dense(self, geometry: Geometry) -> Showers:
        """The same showers as voxels of a Cartesian box with equal layers.

        Raises:
            DataError: A hit lies outside the geometry.
        """
        layers, (nx, ny) = geometry.n_layers, geometry.layers[0].shape
        if not _within(self.layers, layers) or not _within(self.x, nx) or not _within(self.y, ny):
            raise DataError(
                f"hits outside {layers} layers of {nx} x {ny} cells", hint="the hits have another geometry"
            )
        shape = (len(self), layers, nx, ny)
        voxels = np.zeros(shape, dtype=np.float32)
        voxels[self.events, self.layers, self.x, self.y] = self.energies
        return Showers(self.incident_energies, voxels.reshape(len(self), -1), self.ids, self.conditions)

    @staticmethod
    def concatenate(parts: Sequence[Hits]) -> Hits:
        """Join showers (at least one part with the same conditions in all) in the given order."""
        counts = np.concatenate([np.diff(part.starts) for part in parts])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

        names = ("incident_energies", "ids", "layers", "x", "y", "energies", "corners")
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        of_particles = {
            name: np.concatenate([part.conditions[name] for part in parts]) for name in parts[0].conditions
        }
        return Hits(starts=starts, conditions=of_particles, **columns)


def _within(numbers: np.ndarray, end: int) -> bool:
    return not len(numbers) or bool(numbers.min() >= 0 and numbers.max() < end)
