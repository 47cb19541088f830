"""What a fit needs of the reference, read in one pass: its fine spectrum, its particles, its extremes."""

from __future__ import annotations

__all__ = ["Reference", "Tell", "read_reference"]

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from caloray.calibration.particles import Particles, is_held_out
from caloray.errors import DataError
from caloray.io.source import ShowerSource
from caloray.postprocess.histogram import FineSpectrum
from caloray.showers import Showers

VOXELS_AT_ONCE = 4_000_000
FEWEST = 40

Tell = Callable[[str, int], None]
"""Takes what has been worked on and how many more showers of it are done."""


@dataclass(frozen=True)
class Reference:
    """Reference showers, as far as a fit needs them.

    Args:
        source: Where they are.
        spectrum: Voxels of the showers of the fit.
        largest: Largest voxel energy [MeV] of all showers.
        fit: Particles of the showers of the fit.
        held_out: Particles of the other ones.
    """

    source: ShowerSource
    spectrum: FineSpectrum
    largest: float
    fit: Particles
    held_out: Particles


def read_reference(source: ShowerSource, threshold: float, tell: Tell) -> Reference:
    """Read all showers once; memory holds a piece of them and the particles.

    Args:
        source: Reference showers, none of which a model will be judged by.
        threshold: Voxels below it [MeV] do not count.
        tell: Is told about the progress.

    Raises:
        DataError: Too few showers to fit to and to hold out.
    """
    spectrum, largest = FineSpectrum(threshold), 0.0
    parts: tuple[list[Showers], list[Showers]] = ([], [])
    position = 0
    for showers in source.chunks(max(1, VOXELS_AT_ONCE // source.geometry.n_voxels)):
        away = is_held_out(position, len(showers))
        spectrum.add(showers.voxels[~away])
        largest = max(largest, float(showers.voxels.max(initial=0.0)))
        for rows, kept in zip((~away, away), parts, strict=True):
            kept.append(_without_voxels(showers.select(rows)))
        position += len(showers)
        tell("reference", len(showers))
    if position < FEWEST:
        raise DataError(
            f"{position} reference showers, at least {FEWEST} are needed to fit and to hold some out",
            hint="give more showers; some thousands are a good number",
        )
    return Reference(source, spectrum, largest, Particles.of(parts[0]), Particles.of(parts[1]))


def _without_voxels(showers: Showers) -> Showers:
    empty = np.empty((len(showers), 0), dtype=np.float32)
    return Showers(showers.incident_energies, empty, showers.ids, showers.conditions)
