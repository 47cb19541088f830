"""Showers in memory, offered like a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloray.geometry import Geometry, load_geometry
from caloray.showers import Showers

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"


@dataclass
class MemorySource:
    """A ShowerSource of one array; ``rows`` overrides the chunk size that the reader asks for."""

    showers: Showers
    geometry: Geometry
    rows: int | None = None

    @property
    def n_showers(self) -> int:
        return len(self.showers)

    @property
    def conditions(self) -> dict[str, str]:
        return dict.fromkeys(self.showers.conditions, "")

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.showers.voxels.tobytes()).hexdigest()

    def chunks(self, rows: int = 1000) -> Iterator[Showers]:
        step = self.rows or rows
        for start in range(0, len(self.showers), step):
            yield self.showers.select(slice(start, start + step))


Halves = tuple[MemorySource, MemorySource]


@pytest.fixture(scope="session")
def source() -> Callable[..., MemorySource]:
    return MemorySource


@pytest.fixture(scope="session")
def halves() -> Halves:
    """Two disjoint samples of 750 Geant4 showers."""
    geometry = load_geometry("ds2")
    with h5py.File(SAMPLE) as file:
        voxels, energies = file["showers"][:], file["incident_energies"][:, 0].astype(np.float64)
    ids = np.arange(len(voxels))
    first, second = (Showers(energies[s], voxels[s], ids[s]) for s in (slice(0, 750), slice(750, 1500)))
    return MemorySource(first, geometry), MemorySource(second, geometry)
