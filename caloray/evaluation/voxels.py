"""The voxels of some showers of a sample, for metrics that look at whole showers."""

from __future__ import annotations

__all__ = ["VOXELS_AT_ONCE", "smallest", "take_showers"]

import numpy as np

from caloray.evaluation.halves import scramble
from caloray.io.source import ShowerSource
from caloray.showers import Showers

VOXELS_AT_ONCE = 4_000_000


def smallest(ids: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Positions of the ``most`` ids with the smallest seeded hash, ascending: a fair choice of any order."""
    return np.sort(np.argsort(scramble(ids, seed, "rows"), kind="stable")[:most])


def take_showers(source: ShowerSource, ids: np.ndarray) -> Showers:
    """The showers with these ids, in the order of their ids; memory holds them and one piece.

    Args:
        source: Where the showers are.
        ids: Which showers; all are in the source.
    """
    chosen = np.unique(ids)
    energies = np.empty(len(chosen))
    voxels = np.empty((len(chosen), source.geometry.n_voxels), dtype=np.float32)
    for showers in source.chunks(max(1, VOXELS_AT_ONCE // source.geometry.n_voxels)):
        places = np.minimum(np.searchsorted(chosen, showers.ids), len(chosen) - 1)
        wanted = chosen[places] == showers.ids
        energies[places[wanted]] = showers.incident_energies[wanted]
        voxels[places[wanted]] = showers.voxels[wanted]
    return Showers(energies, voxels, chosen)
