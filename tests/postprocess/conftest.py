"""Real Geant4 showers, and a smooth map that distorts their voxels and leaves the threshold alone."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from caloray.geometry import load_geometry

FILE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"
THRESHOLD = 0.5e-3 / 0.033


@pytest.fixture(scope="session")
def threshold() -> float:
    """Readout threshold of the showers [MeV]."""
    return THRESHOLD


@pytest.fixture(scope="session")
def geant4():
    """(1500, 6480) float32 voxels [MeV] of Geant4 showers after the threshold, in random order."""
    with h5py.File(FILE) as file:
        voxels = file["showers"][:].astype(np.float32)
    order = np.random.default_rng(1).permutation(len(voxels))
    return np.where(voxels < np.float32(THRESHOLD), np.float32(0), voxels)[order]


@pytest.fixture(scope="session")
def ds2():
    """Their readout."""
    return load_geometry("ds2")


def distorted(energies):
    """A monotone map of energies [MeV] with factors from 0.77 to 1.19; the threshold stays where it is."""
    u = np.log(np.maximum(energies, THRESHOLD) / THRESHOLD)
    bent = u + 0.25 * np.sin(u / 2.5) - 0.02 * u
    return np.where(energies > 0, THRESHOLD * np.exp(bent), 0.0).astype(np.float32)


@pytest.fixture(scope="session")
def distort():
    """The function :func:`distorted`."""
    return distorted
