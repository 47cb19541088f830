"""From showers to an image of cells, and from an image to its local maxima."""

from __future__ import annotations

__all__ = ["Readout"]

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caloray.errors import ConfigError
from caloray.evaluation.diphoton.bank import Bank
from caloray.evaluation.diphoton.settings import PairSettings
from caloray.geometry import Geometry
from caloray.placement.grid import cells_per_readout, square_pitch

CELLS_AT_ONCE = 600_000


@dataclass(frozen=True)
class Readout:
    """Cells of f x f sub-cells, wide enough for the second photon of the largest distance.

    Args:
        layers: Number of layers.
        bins: Sub-cells of the geometry along x and y.
        pitch: Width of a sub-cell [mm].
        origin: The shower axis x = y = 0 in sub-cells from the grid's corner.
        granularity: f, sub-cells per cell.
        reach: Sub-cells along x and y by which the second photon may be moved.
        threshold: Least energy of a cell of a layer [MeV].
        layer_weights: Factors of the sum over layers, or None for 1.
        smoothing: Standard deviation of the Gaussian [cells].
        share: Of the highest maximum, that a maximum must exceed.
    """

    layers: int
    bins: tuple[int, int]
    pitch: float
    origin: tuple[float, float]
    granularity: int
    reach: tuple[int, int]
    threshold: float
    layer_weights: tuple[float, ...] | None
    smoothing: float
    share: float

    @staticmethod
    def of(geometry: Geometry, settings: PairSettings) -> Readout:
        """The readout of a geometry.

        Raises:
            GeometryError: Not a grid of equal square sub-cells, the same in all layers.
            ConfigError: A granularity or a number of layer weights that does not fit.
        """
        pitch = square_pitch(geometry, "be overlaid")
        bins = geometry.layers[0].shape
        weights = settings.layer_weights
        if weights is not None and (len(weights) != geometry.n_layers or not any(weights)):
            raise ConfigError(
                f"{len(weights)} layer weights, expected {geometry.n_layers} that are not all zero",
                hint=f"geometry {geometry.name} has {geometry.n_layers} layers",
            )
        granularity = settings.granularity or cells_per_readout(pitch)
        if granularity > min(bins) // 3:
            raise ConfigError(
                f"granularity {granularity}: fewer than 3 cells remain of {bins[0]} x {bins[1]} sub-cells",
                hint="choose a smaller --granularity",
            )
        farthest = math.floor(max(settings.distances) / pitch) + 1
        reach = (0 if settings.direction == "y" else farthest, 0 if settings.direction == "x" else farthest)
        first, second = geometry.layers[0].first, geometry.layers[0].second
        return Readout(
            geometry.n_layers,
            bins,
            pitch,
            (-first[0] / pitch, -second[0] / pitch),
            granularity,
            reach,
            settings.threshold,
            weights,
            settings.smoothing,
            settings.share,
        )

    @cached_property
    def cells(self) -> tuple[int, int]:
        """Cells of the image along x and y."""
        f = self.granularity
        x, y = (math.ceil((n + far + f - 1) / f) for n, far in zip(self.bins, self.reach, strict=True))
        return x, y

    @cached_property
    def table(self) -> np.ndarray:
        """(f * f, V) int32: the cell of each sub-cell for each phase (x, y) of the grid of cells."""
        f, (nx, ny), (cx, cy) = self.granularity, self.bins, self.cells
        phase = np.arange(f)[:, None]
        x, y = (phase + np.arange(nx)) // f, (phase + np.arange(ny)) // f
        plane = x[:, None, :, None] * cy + y[None, :, None, :]
        layer = np.arange(self.layers)[:, None, None] * (cx * cy)
        whole = plane.reshape(f * f, 1, nx, ny) + layer
        return whole.reshape(f * f, -1).astype(np.int32)

    def count(self, bank: Bank, rows: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count the maxima of events of one or more photons; an event's result depends on it alone.

        Args:
            bank: Where the showers are.
            rows: (n, k) showers of each event.
            shifts: (n, k, 2) int, sub-cells by which each is moved along x and y.

        Returns:
            (n,) number of local maxima, and (n, 2, 2) x and y of the first two [cells, at the centre]; NaN
            where there are fewer.
        """
        step = max(1, CELLS_AT_ONCE // (self.layers * math.prod(self.cells)))
        counts, places = np.zeros(len(rows), dtype=np.int64), np.full((len(rows), 2, 2), np.nan)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            found = self.maxima(self.images(bank, rows[part], shifts[part]))
            counts[part] = found.sum(axis=(1, 2))
            event, x, y = np.nonzero(found)
            rank = np.arange(len(event)) - np.searchsorted(event, event)
            early = rank < 2
            places[start + event[early], rank[early]] = np.stack([x[early], y[early]], axis=1) + 0.5
        return counts, places

    def images(self, bank: Bank, rows: np.ndarray, shifts: np.ndarray) -> np.ndarray:
        """(n, X, Y) smoothed energies [MeV] of (n, k) showers moved by (n, k, 2) sub-cells.

        Cells are summed over the photons, cut at the threshold in each layer, and summed over the layers.
        """
        from scipy.ndimage import gaussian_filter1d

        cells = self.layers * math.prod(self.cells)
        places, energies = self._deposits(bank, rows, shifts)
        deposits = np.bincount(places, energies, minlength=len(rows) * cells)
        deposits *= deposits >= self.threshold
        by_layer = deposits.reshape(len(rows), self.layers, -1)
        if self.layer_weights is None:
            summed = by_layer.sum(axis=1)
        else:
            summed = np.einsum("nlc,l->nc", by_layer, np.array(self.layer_weights))
        image: np.ndarray = summed.reshape(len(rows), *self.cells)
        if self.smoothing > 0:
            for axis in (1, 2):
                image = gaussian_filter1d(image, self.smoothing, axis=axis, mode="constant")
        return image

    def maxima(self, images: np.ndarray) -> np.ndarray:
        """(n, X, Y) bool: cells that none of the 8 neighbours exceeds, above the share of the highest.

        Of two equal neighbours the one that comes first in flat order counts.
        """
        n, nx, ny = images.shape
        padded = np.zeros((n, nx + 2, ny + 2))
        padded[:, 1:-1, 1:-1] = images
        found: np.ndarray = images > self.share * images.max(axis=(1, 2), keepdims=True, initial=0.0)
        for dx, dy in ((0, 0), (0, 1), (0, 2), (1, 0)):
            found &= images > padded[:, dx : dx + nx, dy : dy + ny]
        for dx, dy in ((1, 2), (2, 0), (2, 1), (2, 2)):
            found &= images >= padded[:, dx : dx + nx, dy : dy + ny]
        return found

    def _deposits(self, bank: Bank, rows: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Place and energy of every hit, events one behind the other."""
        f, (cx, cy) = self.granularity, self.cells
        moved, phase = np.divmod(shifts, f)
        event = np.arange(len(rows))[:, None] * (self.layers * cx * cy)
        bases = (event + moved[..., 0] * cy + moved[..., 1]).ravel()
        phases = (phase[..., 0] * f + phase[..., 1]).ravel()
        places, energies = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
        for row, base, which in zip(rows.ravel(), bases, phases, strict=True):
            hits = slice(bank.starts[row], bank.starts[row + 1])
            places.append(self.table[which][bank.voxels[hits]] + base)
            energies.append(bank.energies[hits])
        return np.concatenate(places), np.concatenate(energies)
