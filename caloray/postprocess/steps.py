"""The steps that a bundle may carry, and how they are worked off."""

from __future__ import annotations

__all__ = ["VERSIONS", "PostProcessing", "Step", "apply", "require_known"]

from typing import Annotated

import numpy as np
from pydantic import Field

from caloray.errors import BundleError
from caloray.geometry import Geometry
from caloray.postprocess.renormalise import Renormalise
from caloray.postprocess.spectrum import SpectrumCorrection

Step = Annotated[Renormalise | SpectrumCorrection, Field(discriminator="kind")]
"""One step; a union over ``kind``."""

PostProcessing = tuple[Step, ...]
"""Steps in the order in which they are applied."""

VERSIONS = {"renormalise": 1, "spectrum": 1}
"""Newest version of each kind that this caloray knows."""


def apply(
    steps: PostProcessing, voxels: np.ndarray, layer_energies: np.ndarray, geometry: Geometry
) -> np.ndarray:
    """Work off the steps, in their order, on showers as the scheme drew them.

    A row with a fault (a voxel or layer energy that is not finite, a negative voxel) comes out as NaN
    throughout, so that no step can hide it. Every row depends on itself alone, to the last bit.

    Args:
        steps: What to do; nothing where there are none.
        voxels: (n, V) float32 [MeV]; not changed.
        layer_energies: (n, L) float64 sampled layer energies [MeV].
        geometry: The readout.

    Returns:
        (n, V) float32 [MeV]; ``voxels`` itself where there are no steps.
    """
    if not steps:
        return voxels
    sound = np.isfinite(voxels).all(axis=1) & (voxels >= 0).all(axis=1)
    sound &= np.isfinite(layer_energies).all(axis=1)
    done = np.ascontiguousarray(voxels, dtype=np.float32)
    for step in steps:
        done = step.apply(done, layer_energies, geometry)
    return np.where(sound[:, None], done, np.float32(np.nan))


def require_known(value: object, where: str) -> None:
    """Refuse steps that only a newer caloray can carry out, before they are parsed.

    Args:
        value: What stands under ``postprocess`` in a bundle.
        where: The file, for the message.

    Raises:
        BundleError: An unknown kind or a newer version of a known one.
    """
    for position, step in enumerate(value if isinstance(value, list) else [], start=1):
        kind, version = (step.get("kind"), step.get("version")) if isinstance(step, dict) else (None, None)
        newest = VERSIONS.get(kind) if isinstance(kind, str) else None
        known = ", ".join(f"{name} {number}" for name, number in VERSIONS.items())
        if newest is None or (isinstance(version, int) and version > newest):
            raise BundleError(
                f"{where}: post-processing step {position} is {str(kind)[:40]!r} {str(version)[:9]}, "
                f"this caloray knows {known}",
                hint="update caloray",
            )
