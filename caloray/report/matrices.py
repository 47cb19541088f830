"""How the energies of the layers go together: correlation matrices."""

from __future__ import annotations

__all__ = ["draw_correlations"]

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caloray.report.comparison import Comparison
from caloray.report.style import new_figure

COLOURS = "RdBu_r"


def draw_correlations(comparison: Comparison) -> Figure:
    """Pearson correlations of the layer energies: reference, every model, and the differences."""
    models = comparison.having("correlations")
    first = _matrix(models[0].record["correlations"]["reference"])
    others = [_matrix(model.record["correlations"]["generated"]) for model in models]
    number = len(models)
    figure = new_figure(13.6 if number == 1 else 2.8 + 3.9 * number, 4.3 if number == 1 else 7.6)
    panels = figure.subplots(1 if number == 1 else 2, 3 if number == 1 else number + 1, squeeze=False)
    above = panels[0, : number + 1]
    below = panels[0, 2:] if number == 1 else panels[1, 1:]
    if number > 1:
        panels[1, 0].set_axis_off()
    names = [comparison.reference_label, *(model.label for model in models)]
    for axes, matrix, name in zip(above, [first, *others], names, strict=True):
        mesh = _draw(axes, matrix, 1.0)
        axes.set_title(name, loc="left", fontsize=10.5)
    figure.colorbar(mesh, ax=list(above), label="correlation", pad=0.01, shrink=0.86)
    differences = [matrix - first for matrix in others]
    widest = max(float(np.nanmax(np.abs(part), initial=0.0)) for part in differences)
    limit = max(0.05, np.ceil(20 * widest) / 20)
    for axes, part, model in zip(below, differences, models, strict=True):
        mesh = _draw(axes, part, limit)
        floor = model.record["correlations"].get("difference_floor")
        name = "difference" if comparison.single else model.short
        axes.set_title(_caption(name, part, floor), loc="left", fontsize=10.5)
    figure.colorbar(mesh, ax=list(below), label="difference", pad=0.01, shrink=0.86)
    return figure


def _draw(axes: Axes, matrix: np.ndarray, limit: float) -> QuadMesh:
    edges = np.arange(len(matrix) + 1) - 0.5
    mesh = axes.pcolormesh(edges, edges, matrix, vmin=-limit, vmax=limit, cmap=COLOURS, rasterized=True)
    axes.set_aspect("equal")
    axes.set_facecolor("#e4e4e4")
    axes.set_xlabel("layer")
    axes.set_ylabel("layer")
    axes.tick_params(which="both", direction="out", top=False, right=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
        axis.minorticks_off()
    return mesh


def _caption(name: str, difference: np.ndarray, floor: float | None) -> str:
    above = np.abs(difference[np.triu_indices(len(difference), k=1)])
    known = above[np.isfinite(above)]
    text = name if not known.size else f"{name}: mean |Δ| {known.mean():.3f}"
    return text if floor is None else f"{text}, floor {floor:.3f}"


def _matrix(rows: list[list[float | None]]) -> np.ndarray:
    return np.array([[np.nan if value is None else value for value in row] for row in rows], dtype=float)
