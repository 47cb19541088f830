"""The range of incident energies that a model was trained on."""

from __future__ import annotations

__all__ = ["EDGE", "outside"]

import numpy as np

EDGE = 1e-6
"""Relative slack at the edges of the trained range: float32 files do not hold 1e3 exactly."""


def outside(energies: np.ndarray, trained: tuple[float, float]) -> np.ndarray:
    """Which energies (n,) [MeV] lie outside the trained range by more than :data:`EDGE`; NaN does."""
    low, high = trained
    return np.asarray(~((energies >= low * (1 - EDGE)) & (energies <= high * (1 + EDGE))))
