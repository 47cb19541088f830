"""The few quantities of a whole shower that are profiled against the particle's scalars."""

from __future__ import annotations

__all__ = ["Shape", "shower_shapes"]

from dataclasses import dataclass

import numpy as np

from caloray.evaluation.conditions import COVARIANCE, has_direction
from caloray.evaluation.quantities import columns_of
from caloray.evaluation.scalars import slopes
from caloray.evaluation.table import Table
from caloray.observables import angular_layers, axis_names, depth_unit


@dataclass(frozen=True)
class Shape:
    """One quantity of every shower.

    Args:
        name: Stable key.
        label: For a reader.
        unit: "" where it has none.
        values: (N,) in the order of the table.
    """

    name: str
    label: str
    unit: str
    values: np.ndarray


def shower_shapes(table: Table) -> list[Shape]:
    """Response, centre, lateral width, mean depth and hits of every shower of a table.

    The centre is the energy-weighted mean of the transverse coordinates over all voxels. The lateral width is
    that within the layers: the root of the energy-weighted mean of the layers' variances, so that it does not
    grow when the layers of an inclined shower lie beside each other. With directions both are also given
    along the transverse part of the direction and across it (a quarter turn from x to y).
    """
    found = [Shape("e_ratio", "E_tot / E_inc", "", table.column("e_ratio"))]
    found += _transverse(table)
    unit = depth_unit(table.geometry)
    depth = Shape(
        "depth_mean", "mean depth", "layers" if unit == "layer" else unit, table.column("depth_mean")
    )
    return [*found, depth, Shape("hits", "hit voxels", "", table.column("hits"))]


def _transverse(table: Table) -> list[Shape]:
    """Centres and widths; none where no layer has two transverse axes."""
    layers = list(angular_layers(table.geometry))
    if not layers:
        return []
    spans, axes = columns_of(table.geometry).spans, axis_names(table.geometry)[:2]
    energies = table.rows[:, spans["layer_energy"]][:, layers]
    total = energies.sum(axis=1)
    shares = energies / np.where(total > 0, total, 1.0)[:, None]
    x, y = (np.sum(shares * table.layered(f"centre_{axis}"), axis=1) for axis in axes)
    xx, yy = (np.sum(shares * table.layered(f"width_{axis}") ** 2, axis=1) for axis in axes)
    found = [
        Shape(f"centre_{axis}", f"centre in {axis}", "mm", values)
        for axis, values in zip(axes, (x, y), strict=True)
    ]
    if not has_direction(table.conditions):
        return found + [
            Shape(f"width_{axis}", f"width in {axis}", "mm", np.sqrt(values))
            for axis, values in zip(axes, (xx, yy), strict=True)
        ]
    u, v = _towards(table)
    mixed = 2 * u * v * table.column(COVARIANCE)
    along = np.sqrt(np.clip(u**2 * xx + v**2 * yy + mixed, 0.0, None))
    across = np.sqrt(np.clip(v**2 * xx + u**2 * yy - mixed, 0.0, None))
    return [
        *found,
        Shape("centre_along", "centre along the direction", "mm", u * x + v * y),
        Shape("centre_across", "centre across the direction", "mm", u * y - v * x),
        Shape("width_along", "width along the direction", "mm", along),
        Shape("width_across", "width across the direction", "mm", across),
    ]


def _towards(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,): unit vector in the transverse plane; along x for particles without inclination."""
    x, y = slopes(table)
    length = np.hypot(x, y)
    return np.where(length > 0, x / np.where(length > 0, length, 1.0), 1.0), np.where(
        length > 0, y / np.where(length > 0, length, 1.0), 0.0
    )
