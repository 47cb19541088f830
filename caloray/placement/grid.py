"""Grids of square cells: which geometries are one, and the geometry of a box of cells around a point."""

from __future__ import annotations

__all__ = ["CELL", "box_geometry", "cells_per_readout", "require_depths", "square_pitch"]

import numpy as np

from caloray.errors import GeometryError
from caloray.geometry import Geometry, Layer, load_geometry, names

CELL = 5.09  # width of a readout cell that sub-cells are meant for [mm]
UNEVEN = 1e-3
DECIMALS = 9
HINT = "use showers of a grid such as ild_30x30x30 or ild_30x90x90"


def square_pitch(geometry: Geometry, work: str) -> float:
    """Width of the cells [mm] of a Cartesian grid of square cells, the same in all layers.

    Args:
        geometry: The grid.
        work: What cannot be done on another geometry ("be placed"), for the message.

    Raises:
        GeometryError: Not such a grid.
    """
    if geometry.kind != "cartesian":
        raise GeometryError(
            f"geometry {geometry.name} is {geometry.kind}: showers can only {work} on a Cartesian grid",
            hint=HINT,
        )
    layers = {(layer.first, layer.second) for layer in geometry.layers}
    widths = np.concatenate([np.diff(axis) for layer in layers for axis in layer])
    if len(layers) > 1 or np.ptp(widths) > UNEVEN * widths.max():
        raise GeometryError(
            f"geometry {geometry.name}: showers can only {work} on square cells of one size, the same in all "
            f"layers; found {len(layers)} kinds of layer, widths from {widths.min():.4g} to "
            f"{widths.max():.4g} mm",
            hint=HINT,
        )
    return float(round(widths.mean(), DECIMALS))


def cells_per_readout(pitch: float) -> int:
    """How many cells of ``pitch`` [mm] along x or y come nearest to a readout cell of 5.09 mm, at least 1."""
    return max(1, round(CELL / pitch))


def require_depths(geometry: Geometry) -> np.ndarray:
    """(L,) distance of each layer's front from the calorimeter's face [mm].

    Raises:
        GeometryError: The geometry does not know them.
    """
    depths = [layer.depth for layer in geometry.layers]
    known = [depth for depth in depths if depth is not None]
    if len(known) < len(depths):
        raise GeometryError(
            f"geometry {geometry.name}: {len(depths) - len(known)} layers without a depth, "
            "so a shower cannot be sheared",
            hint="give the layers `bottoms` in the geometry's file, or use --no-shear",
        )
    return np.array(known)


def box_geometry(geometry: Geometry, bins: int, width: float) -> Geometry:
    """``bins`` x ``bins`` cells of ``width`` [mm] around the axis, in the layers of ``geometry``.

    A shipped geometry with the same cells is returned under its own name.
    """
    edges = tuple(round((i - 0.5 * bins) * width, DECIMALS) for i in range(bins + 1))
    layers = tuple(Layer(layer.id, edges, edges, layer.depth) for layer in geometry.layers)
    name = f"box_{len(layers)}x{bins}x{bins}"
    made = Geometry.from_dict(Geometry(name, "cartesian", layers, geometry.particle).to_dict())
    shipped = (load_geometry(known) for known in names())
    return next((one for one in shipped if one.digest == made.digest), made)
