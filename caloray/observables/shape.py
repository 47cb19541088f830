"""The shape of a whole shower: how deep, how wide, and where it begins."""

from __future__ import annotations

__all__ = [
    "START_SHARE",
    "containment_radius",
    "depth_unit",
    "layer_depths",
    "longitudinal_moments",
    "shower_start",
]

from typing import Literal

import numpy as np

from caloray.geometry import Geometry

GUARD = 1e-16  # MeV, as for the centres within a layer
START_SHARE = 0.01
"""A shower starts in the first layer that holds more than this share of its energy."""


def depth_unit(geometry: Geometry) -> Literal["mm", "layer"]:
    """What longitudinal moments are measured in: mm where the depth of every layer is known."""
    return "layer" if any(layer.depth is None for layer in geometry.layers) else "mm"


def layer_depths(geometry: Geometry) -> np.ndarray:
    """(L,) depth of each layer's front [mm], or its position 0, 1, ... where depths are not known."""
    if depth_unit(geometry) == "layer":
        return np.arange(geometry.n_layers, dtype=np.float64)
    return np.array([layer.depth for layer in geometry.layers], dtype=np.float64)


def longitudinal_moments(energies: np.ndarray, depths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energy-weighted mean depth and standard deviation, each (N,); 0 for an empty shower.

    Args:
        energies: (N, L) layer energies [MeV].
        depths: (L,) from :func:`layer_depths`.
    """
    total = energies.sum(axis=1) + GUARD
    mean = (energies * depths).sum(axis=1) / total
    variance = (energies * (depths - mean[:, None]) ** 2).sum(axis=1) / total
    return mean, np.sqrt(variance)


def shower_start(energies: np.ndarray) -> np.ndarray:
    """(N,) first layer with more than 1 % (:data:`START_SHARE`) of the shower's energy; -1 if empty.

    Args:
        energies: (N, L) layer energies [MeV].
    """
    over = energies > START_SHARE * energies.sum(axis=1, keepdims=True)
    return np.where(over.any(axis=1), over.argmax(axis=1), -1)


def containment_radius(rings: np.ndarray, edges: np.ndarray, share: float) -> np.ndarray:
    """(N,) radius [mm] around the axis within which ``share`` of the energy lies; 0 for an empty shower.

    The energy of a ring is taken to be spread evenly over its area.

    Args:
        rings: (N, R) energy per ring [MeV], all layers together.
        edges: (R + 1,) ring edges [mm].
        share: Between 0 and 1.
    """
    inside = np.cumsum(rings, axis=1)
    wanted = share * inside[:, -1:]
    ring = np.minimum((inside < wanted).sum(axis=1, keepdims=True), rings.shape[1] - 1)
    energy = np.take_along_axis(rings, ring, axis=1)[:, 0]
    missing = (wanted - np.take_along_axis(inside, ring, axis=1))[:, 0] + energy
    part = np.divide(missing, energy, out=np.zeros(len(rings)), where=energy > 0)
    low, high = edges[ring[:, 0]] ** 2, edges[ring[:, 0] + 1] ** 2
    radius = np.sqrt(low + np.clip(part, 0.0, 1.0) * (high - low))
    return np.where(inside[:, -1] > 0, radius, 0.0)
