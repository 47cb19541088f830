"""Exact sums of the energy of each voxel over many showers."""

from __future__ import annotations

__all__ = ["VoxelSums"]

import numpy as np

SHIFT = 36
LARGEST = 2.0**36  # MeV; what no shower holds counts as this much


class VoxelSums:
    """Sums per voxel to a resolution of 2**-36 MeV, independent of the order of the showers.

    Each energy is split into whole MeV and a rest, and both are added as integers: at most 2**16 showers at
    a time keep the float64 sums of ``bincount`` exact.
    """

    def __init__(self, voxels: int) -> None:
        self._whole = np.zeros(voxels, dtype=np.int64)
        self._rest = np.zeros(voxels, dtype=np.int64)

    def add(self, columns: np.ndarray, values: np.ndarray) -> None:
        """Add (K,) energies [MeV], not negative, to the voxels at (K,) ``columns``."""
        energies = np.minimum(values.astype(np.float64), LARGEST)
        whole = np.floor(energies)
        rest = np.rint((energies - whole) * 2.0**SHIFT)
        self._whole += np.bincount(columns, weights=whole, minlength=len(self._whole)).astype(np.int64)
        self._rest += np.bincount(columns, weights=rest, minlength=len(self._rest)).astype(np.int64)

    def merge(self, other: VoxelSums) -> None:
        """Add the sums of another accumulator of the same readout."""
        self._whole += other._whole
        self._rest += other._rest

    def floats(self) -> np.ndarray:
        """(V,) sums [MeV]."""
        return self._whole + self._rest * 2.0**-SHIFT
