"""A quick model of showers without any network: a grid of 6 layers, energies over two decades, directions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from caloray.geometry import Geometry, Layer
from caloray.quality.build import ReferenceBuilder
from caloray.quality.counter import QualityCounter
from caloray.quality.layout import ConditionSpan, Layout
from caloray.showers import DIRECTION, Showers

EDGES = tuple(float(10 * i) for i in range(-3, 4))
GEOMETRY = Geometry("grid", "cartesian", tuple(Layer(i, EDGES, EDGES) for i in range(6)))
ENERGIES = (1e3, 1e5)
TILT = 0.6  # largest sine of the polar angle
BLOCK = 32
THRESHOLD = 1.0


@dataclass(frozen=True)
class Model:
    """Showers whose depth grows with the energy and whose axis follows the direction.

    Args:
        tilted: Whether it takes a direction.
        stuck: Whether every block is made from the same noise.
    """

    tilted: bool = False
    stuck: bool = False
    geometry = GEOMETRY

    def layout(self) -> Layout:
        """Ranges of the model."""
        spans = ((-TILT, TILT), (-TILT, TILT), (np.sqrt(1 - TILT**2), 1.0))
        named = (
            ConditionSpan(name=n, low=low, high=high) for n, (low, high) in zip(DIRECTION, spans, strict=True)
        )
        conditions = tuple(named) if self.tilted else ()
        return Layout(energies=ENERGIES, conditions=conditions, block_size=BLOCK)

    def directions(self, rng, count: int, theta: float | None = None, phi: float | None = None) -> dict:
        """Directions inside the ranges, or of given angles."""
        if not self.tilted:
            return {}
        sine = TILT * np.sqrt(rng.random(count)) if theta is None else np.full(count, np.sin(theta))
        around = 2 * np.pi * rng.random(count) if phi is None else np.full(count, phi)
        parts = sine * np.cos(around), sine * np.sin(around), np.sqrt(1 - sine**2)
        return dict(zip(DIRECTION, parts, strict=True))

    def make(self, energies, seed: int = 0, first: int = 0, **angles: float) -> Showers:
        """Showers of given incident energies [MeV]."""
        rng = np.random.default_rng(seed)
        count = len(energies)
        conditions = self.directions(rng, count, **angles)
        noise = self._noise(rng, count)
        scale = np.log(energies / 1e3)
        depth = 1.2 + 0.5 * scale + 0.5 * noise["depth"]
        layers = np.arange(6)
        profile = np.exp(-0.5 * ((layers - depth[:, None]) / 1.3) ** 2)
        profile *= np.exp(0.3 * noise["layers"])
        shares = profile / profile.sum(axis=1, keepdims=True)
        total = energies * 0.8 * (1 + 0.15 * np.sqrt(1e3 / energies) * noise["total"] + 0.01 * noise["rest"])
        lean = np.stack([conditions.get(n, np.zeros(count)) for n in DIRECTION[:2]], axis=1)
        centre = 15 * lean[:, None] * (layers[:, None] / 5) + 1.5 * noise["centre"][:, None]
        middles = (np.array(EDGES[1:]) + np.array(EDGES[:-1])) / 2
        x, y = (np.exp(-np.abs(middles - centre[:, :, i : i + 1]) / 7) for i in (0, 1))
        spread = x[:, :, :, None] * y[:, :, None, :] * noise["voxels"]
        spread /= spread.sum(axis=(2, 3), keepdims=True)
        voxels = (spread * (shares * total[:, None])[:, :, None, None]).reshape(count, -1)
        voxels[voxels < THRESHOLD] = 0
        return Showers(energies, voxels.astype(np.float32), first + np.arange(count), conditions)

    def _noise(self, rng, count: int) -> dict[str, np.ndarray]:
        rows = BLOCK if self.stuck else count
        found = {name: rng.normal(size=rows) for name in ("depth", "total", "rest")}
        found["layers"] = rng.normal(size=(rows, 6))
        found["centre"] = rng.normal(size=(rows, 2))
        found["voxels"] = rng.gamma(2.0, 0.5, size=(rows, 6, 6, 6))
        return {name: values[np.arange(count) % rows] for name, values in found.items()}

    def spectrum(self, count: int, seed: int = 0) -> np.ndarray:
        """Log-uniform energies of the whole range [MeV]."""
        low, high = np.log(ENERGIES)
        return np.exp(np.random.default_rng((seed, 1)).uniform(low, high, count))

    def showers(self, count: int, seed: int = 0, **angles: float) -> Showers:
        """Showers of such energies."""
        return self.make(self.spectrum(count, seed), seed, **angles)


@cache
def reference_of(model: Model, count: int = 6000):
    """The frozen reference of a model."""
    builder = ReferenceBuilder(GEOMETRY, model.layout())
    for i in range(6):
        builder.add(model.showers(count // 6, seed=1000 + i))
    return replace(builder.build(), digest="d" * 64)


@pytest.fixture(scope="session")
def plain() -> Model:
    """Energies only."""
    return Model()


@pytest.fixture(scope="session")
def tilted() -> Model:
    """With directions."""
    return Model(tilted=True)


@pytest.fixture(scope="session")
def model_type() -> type[Model]:
    """The class of both."""
    return Model


@pytest.fixture(scope="session")
def reference():
    """Function from a model to its reference."""
    return reference_of


@pytest.fixture(scope="session")
def count():
    """Function from showers and a reference to counts."""

    def counted(showers: Showers, reference):
        counter = QualityCounter(reference)
        for start in range(0, len(showers), 512):
            counter.add(showers.select(slice(start, start + 512)))
        return counter.counts

    return counted
