"""Toy photons on a small grid: hits strewn around the axis, their number proportional to the energy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caloray.geometry import Geometry
from caloray.showers import Showers

LAYERS, BINS, PITCH = 2, 30, 1.7


def square_grid(layers: int, bins: int, pitch: float) -> Geometry:
    edges = [pitch * (i - bins / 2) for i in range(bins + 1)]
    layer = {"first": edges, "second": edges, "depth": None}
    return Geometry.from_dict(
        {
            "name": "toy_grid",
            "kind": "cartesian",
            "particle": "photon",
            "layers": [{"id": i, **layer} for i in range(layers)],
        }
    )


@pytest.fixture(scope="session")
def make_grid() -> Callable[[int, int, float], Geometry]:
    return square_grid


@pytest.fixture(scope="session")
def grid() -> Geometry:
    return square_grid(LAYERS, BINS, PITCH)


@pytest.fixture(scope="session")
def photons() -> Callable[..., Showers]:
    """photons(n, seed, width): n showers, half near 20 GeV and half near 5 GeV; width in sub-cells."""

    def make(n: int, seed: int, width: float = 2.2) -> Showers:
        rng = np.random.default_rng(seed)
        energies = np.where(np.arange(n) % 2, 5000.0, 20_000.0) * rng.uniform(0.96, 1.04, n)
        voxels = np.zeros((n, LAYERS, BINS, BINS), dtype=np.float32)
        for shower, energy in zip(voxels, energies, strict=True):
            hits = int(energy / 40)
            places = BINS / 2 + width * rng.standard_normal((hits, 2)) + rng.normal(0, 0.3, 2)
            x, y = np.clip(places, 0, BINS - 1).astype(int).T
            np.add.at(shower, (rng.integers(0, LAYERS, hits), x, y), rng.exponential(1.0, hits))
        return Showers(energies, voxels.reshape(n, -1), np.arange(n))

    return make
