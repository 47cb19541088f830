"""What all post-processing steps are: frozen records; and the cut in the number type of showers."""

from __future__ import annotations

__all__ = ["StepRecord", "to_float32"]

import numpy as np
from pydantic import BaseModel, ConfigDict


class StepRecord(BaseModel):
    """A step as it stands in ``bundle.json``: nothing but numbers, no unknown keys, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def to_float32(energies: np.ndarray, threshold: float) -> np.ndarray:
    """Float32 energies [MeV] of any shape: what is below ``threshold`` is 0, nothing is rounded below it.

    Rounding to float32 could take a voxel that passed the threshold to just under it; such a voxel gets the
    smallest float32 number that passes. NaN stays NaN.
    """
    least = np.float32(threshold)
    if float(least) < threshold:
        least = np.nextafter(least, np.float32(np.inf))
    dark = (energies < threshold) | (energies <= 0)
    return np.where(dark, np.float32(0), np.maximum(energies.astype(np.float32), least))
