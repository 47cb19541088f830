"""What is known of a particle beside its energy, as columns that follow a shower's quantities."""

from __future__ import annotations

__all__ = ["CONDITION", "COVARIANCE", "extra_columns", "extra_values", "has_direction"]

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

from caloray.geometry import Geometry
from caloray.observables import LitVoxels, Observables, angular_layers, axis_names
from caloray.showers import DIRECTION

CONDITION = "condition/"
COVARIANCE = "covariance"


def has_direction(names: Iterable[str]) -> bool:
    """Whether these conditions give a direction."""
    return set(DIRECTION) <= set(names)


def extra_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Names of the columns that showers with these conditions have behind their quantities.

    ``condition/<name>`` in alphabetical order; with directions also ``covariance`` [mm^2], the
    energy-weighted covariance of x and y within the layers: with the widths it gives the width along any
    direction.
    """
    ordered = sorted(names)
    columns = tuple(f"{CONDITION}{name}" for name in ordered)
    return (*columns, COVARIANCE) if has_direction(ordered) else columns


def extra_values(
    conditions: Mapping[str, np.ndarray], lit: LitVoxels, observables: Observables, geometry: Geometry
) -> np.ndarray:
    """(N, E) the values of :func:`extra_columns`.

    Args:
        conditions: (N,) values by name.
        lit: Lit voxels of the N showers.
        observables: What was made of them.
        geometry: The readout.
    """
    columns = [conditions[name] for name in sorted(conditions)]
    if has_direction(conditions):
        columns.append(_covariance(lit, observables, geometry))
    return np.stack(columns, axis=1) if columns else np.empty((len(lit), 0))


def _covariance(lit: LitVoxels, observables: Observables, geometry: Geometry) -> np.ndarray:
    """(N,) energy-weighted mean over the layers of the covariance of the transverse coordinates [mm^2]."""
    layers = list(angular_layers(geometry))
    if not layers:
        return np.zeros(len(lit))
    rows = np.repeat(np.arange(len(lit.starts) - 1), np.diff(lit.starts))
    weights = lit.values.astype(np.float64) * _products(geometry)[lit.columns]
    sums = np.bincount(rows, weights, minlength=len(lit.starts) - 1).reshape(-1, lit.n_layers)
    first, second = (observables.centres[name][:, layers] for name in axis_names(geometry)[:2])
    energies = observables.layer_energies[:, layers]
    inside = np.sum(sums[:, layers] - energies * first * second, axis=1)
    total = energies.sum(axis=1)
    return np.asarray(np.where(total > 0, inside / np.where(total > 0, total, 1.0), 0.0))


@lru_cache(maxsize=16)
def _products(geometry: Geometry) -> np.ndarray:
    """(V,) x y [mm^2] of every voxel."""
    places = [geometry.centres(layer) for layer in range(geometry.n_layers)]
    first, second = (np.concatenate(axis) for axis in zip(*places, strict=True))
    if geometry.kind == "cartesian":
        return np.asarray(first * second)
    return np.asarray(second**2 * np.cos(first) * np.sin(first))
