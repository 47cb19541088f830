"""Where voxels lie: the factors that turn voxel energies into sums, moments and rings."""

from __future__ import annotations

__all__ = ["Weights", "angular_layers", "axis_names", "radial_edges", "weights_of"]

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from caloray.geometry import Geometry, Layer

CARTESIAN_RINGS = 30


@dataclass(frozen=True)
class Weights:
    """Factors per kind of voxel; layers with equal edges share their kinds.

    Args:
        kinds: (V,) row of ``factors`` that belongs to each voxel, int32.
        factors: (kinds, 1 + 2 axes + R) float64: one, the axes, their squares, the share of each ring.
    """

    kinds: np.ndarray
    factors: np.ndarray


def axis_names(geometry: Geometry) -> tuple[str, ...]:
    """Axes along which centres and widths are measured: (eta, phi, r) or (x, y)."""
    return ("eta", "phi", "r") if geometry.kind == "cylindrical" else ("x", "y")


def angular_layers(geometry: Geometry) -> tuple[int, ...]:
    """Positions of the layers that have a centre in both transverse directions."""
    if geometry.kind == "cartesian":
        return tuple(range(geometry.n_layers))
    return tuple(i for i, layer in enumerate(geometry.layers) if layer.shape[0] > 1)


def radial_edges(geometry: Geometry) -> np.ndarray:
    """(R + 1,) edges [mm] of the rings of the radial profile.

    For cylindrical readouts the union of all layers' radial edges. For Cartesian ones 30 equal rings around
    the axis, out to the far corner.
    """
    if geometry.kind == "cylindrical":
        every = np.concatenate([np.asarray(layer.second, dtype=float) for layer in geometry.layers])
        return np.unique(np.round(every, 9))
    first = max(abs(edge) for layer in geometry.layers for edge in layer.first)
    second = max(abs(edge) for layer in geometry.layers for edge in layer.second)
    return np.linspace(0.0, float(np.hypot(first, second)), CARTESIAN_RINGS + 1)


@lru_cache(maxsize=16)
def weights_of(geometry: Geometry) -> Weights:
    """The weights of a readout, kept for the next call."""
    begins: dict[tuple[tuple[float, ...], tuple[float, ...]], int] = {}
    kinds, factors, total = [], [], 0
    for position, layer in enumerate(geometry.layers):
        key = layer.first, layer.second
        if key not in begins:
            begins[key] = total
            factors.append(_layer_factors(geometry, position))
            total += layer.size
        kinds.append(begins[key] + np.arange(layer.size, dtype=np.int32))
    return Weights(np.concatenate(kinds), np.concatenate(factors))


def _layer_factors(geometry: Geometry, position: int) -> np.ndarray:
    """(size, K): a voxel's factors in the sum, the first and second moments and the rings."""
    first, second = geometry.centres(position)
    layer = geometry.layers[position]
    if geometry.kind == "cylindrical":
        axes = np.stack([second * np.cos(first), second * np.sin(first), second], axis=1)
        rings = np.tile(_ring_shares(layer, radial_edges(geometry)), (layer.shape[0], 1))
    else:
        axes = np.stack([first, second], axis=1)
        edges = radial_edges(geometry)
        ring = np.clip(np.searchsorted(edges, np.hypot(first, second), side="right") - 1, 0, len(edges) - 2)
        rings = np.eye(len(edges) - 1)[ring]
    return np.ascontiguousarray(np.concatenate([np.ones((layer.size, 1)), axes, axes**2, rings], axis=1))


def _ring_shares(layer: Layer, edges: np.ndarray) -> np.ndarray:
    """(radial bins, R): share of each radial bin's area that lies in each ring."""
    own = np.round(np.asarray(layer.second, dtype=float), 9)
    low = np.maximum(own[:-1, None], edges[None, :-1])
    high = np.minimum(own[1:, None], edges[None, 1:])
    overlap = np.where(high > low, high**2 - low**2, 0.0)
    return np.asarray(overlap / (own[1:] ** 2 - own[:-1] ** 2)[:, None])
