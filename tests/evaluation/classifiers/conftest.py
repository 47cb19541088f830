"""Showers of a tiny readout for the classifiers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from caloray.evaluation.classifiers.inputs import ClassifierData
from caloray.evaluation.features import feature_vector
from caloray.geometry import Geometry, Layer
from caloray.observables import observe

EDGES = tuple(np.linspace(-np.pi, np.pi, 4))
TINY = Geometry(
    "tiny", "cylindrical", tuple(Layer(i, EDGES, (0.0, 5.0, 10.0), None) for i in range(4)), "electron"
)


@pytest.fixture(scope="session")
def tiny() -> Geometry:
    """Four layers of 3 x 2 voxels."""
    return TINY


@pytest.fixture(scope="session")
def make() -> Callable[..., ClassifierData]:
    """Random showers: ``make(n, seed, scale, geometry, threshold)``."""

    def showers(
        n: int, seed: int, scale: float = 1.0, geometry: Geometry = TINY, threshold: float = 1.0
    ) -> ClassifierData:
        generator = np.random.default_rng(seed)
        energies = 10 ** generator.uniform(2, 3, n)
        voxels = energies[:, None] * generator.gamma(0.5, 0.02, size=(n, geometry.n_voxels))
        voxels[:, : geometry.n_voxels // 2] *= scale
        voxels = voxels.astype(np.float32)
        features = feature_vector(observe(voxels, geometry, threshold), energies, geometry)
        return ClassifierData(voxels, energies, features, np.arange(n) + 1000 * seed)

    return showers
