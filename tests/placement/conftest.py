"""Small grids, random showers in them, and slow readouts written from the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caloray.geometry import Geometry, Layer
from caloray.showers import Showers

PITCH = 1.5
DEPTHS = (6.6, 9.8, 19.1)


def grid_of(bins: int, pitch: float = PITCH, depths: tuple[float | None, ...] = DEPTHS) -> Geometry:
    edges = tuple(round((i - bins / 2) * pitch, 9) for i in range(bins + 1))
    layers = tuple(Layer(i, edges, edges, depth) for i, depth in enumerate(depths))
    return Geometry("small", "cartesian", layers)


def showers_of(geometry: Geometry, n: int = 4, seed: int = 1, middle: float = 1.0) -> Showers:
    """Sparse showers; ``middle`` < 1 keeps the outer part of the grid empty."""
    rng = np.random.default_rng(seed)
    voxels = rng.exponential(1.0, (n, *(geometry.n_layers, *geometry.layers[0].shape)))
    voxels *= rng.random(voxels.shape) < 0.3
    bins = geometry.layers[0].shape[0]
    rim = round(bins * (1 - middle) / 2)
    if rim:
        inner = np.zeros((bins, bins))
        inner[rim:-rim, rim:-rim] = 1
        voxels *= inner
    theta, phi = rng.uniform(0, 0.9, n), rng.uniform(-3, 3, n)
    flight = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], axis=1)
    names = ("direction_x", "direction_y", "direction_z")
    return Showers(
        rng.uniform(1e3, 4e4, n),
        voxels.reshape(n, -1),
        np.arange(n) + 10,
        {name: flight[:, axis] for axis, name in enumerate(names)},
    )


def slow_readout(geometry, voxels, shifts, width, offsets=None):
    """{(layer, cell x, cell y): MeV} of one shower, sub-cell by sub-cell, the cells endless squares."""
    offsets = np.zeros((geometry.n_layers, 2)) if offsets is None else offsets
    cells: dict[tuple[int, int, int], float] = {}
    edges = geometry.layers[0].first
    cube = voxels.reshape(geometry.n_layers, len(edges) - 1, len(edges) - 1).astype(float)
    for layer, ix, iy in zip(*np.nonzero(cube), strict=True):
        for cx, fx in slow_parts(edges[ix], edges[ix + 1], shifts[layer][0] - offsets[layer][0], width):
            for cy, fy in slow_parts(edges[iy], edges[iy + 1], shifts[layer][1] - offsets[layer][1], width):
                key = (int(layer), cx, cy)
                cells[key] = cells.get(key, 0.0) + cube[layer, ix, iy] * fx * fy
    return cells


def slow_parts(low: float, high: float, shift: float, width: float) -> list[tuple[int, float]]:
    """Cells that an interval reaches, with the part of its length in each."""
    low, high = low + shift, high + shift
    parts = []
    for cell in range(math.floor(low / width) - 1, math.floor(high / width) + 2):
        common = min(high, (cell + 1) * width) - max(low, cell * width)
        if common > 1e-6 * (high - low):
            parts.append((cell, common / (high - low)))
    return parts


def as_cells(hits, row: int) -> dict[tuple[int, int, int], float]:
    """The hits of one shower in the detector's count of cells."""
    one = hits.select(row, row + 1)
    corners = one.corners[0][one.layers]
    numbers = zip(one.layers, one.x + corners[:, 0], one.y + corners[:, 1], strict=True)
    return {
        tuple(int(i) for i in key): float(energy) for key, energy in zip(numbers, one.energies, strict=True)
    }


@pytest.fixture(scope="session")
def slow():
    """The slow readout and what compares with it."""
    return slow_readout, as_cells


@pytest.fixture(scope="session")
def grids():
    """Makers of grids and showers."""
    return grid_of, showers_of
