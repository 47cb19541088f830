"""Figures of histograms and of means over layers and radius."""

from __future__ import annotations

__all__ = [
    "draw_every_layer",
    "draw_first_look",
    "draw_hits",
    "draw_layer_energies",
    "draw_longitudinal",
    "draw_moments",
    "draw_per_energy",
    "draw_radial",
    "draw_response",
    "draw_shapes",
    "draw_voxel_spectrum",
    "has_energies",
    "has_shapes",
]

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec

from caloray.report.comparison import Comparison
from caloray.report.panels import curves_of_histogram, curves_of_profile, draw_panel, panel_axes
from caloray.report.style import REFERENCE, axis_label, new_figure

MOMENTS = ("depth_mean", "depth_width", "start", "r50", "r90")
AXES = ("eta", "phi", "r", "x", "y")


def draw_first_look(comparison: Comparison) -> Figure:
    """One page to show: response, longitudinal profile, voxel spectrum and number of hits."""
    figure = new_figure(11, 8.4)
    grid = figure.add_gridspec(2, 2)
    _histogram(figure, grid[0, 0], comparison, "e_ratio", legend=True)
    _per_layer(figure, grid[0, 1], comparison, "layer_energy", "mean energy per layer [MeV]")
    _histogram(figure, grid[1, 0], comparison, "voxel_energy", log_y=True)
    _histogram(figure, grid[1, 1], comparison, "hits")
    return figure


def draw_response(comparison: Comparison) -> Figure:
    """E_tot / E_inc, and the incident energies behind it."""
    figure = new_figure(11, 4.8)
    grid = figure.add_gridspec(1, 2)
    for place, name in zip(_cells(grid), ("e_ratio", "incident_energy"), strict=True):
        _histogram(figure, place, comparison, name, legend=name == "e_ratio")
    return figure


def draw_per_energy(comparison: Comparison) -> Figure:
    """E_tot / E_inc at each of the discrete incident energies."""
    names = _filled_panels(comparison)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(3.7 * columns, 3.1 * rows)
    grid = figure.add_gridspec(rows, columns)
    for i, (place, name) in enumerate(zip(_cells(grid), names, strict=False)):
        _histogram(figure, place, comparison, name, legend=i == 0, small=True)
    return figure


def draw_longitudinal(comparison: Comparison) -> Figure:
    """Mean energy per layer, on both scales."""
    n = len(comparison.first["geometry"]["layers"])
    curves = curves_of_profile(comparison, "layer_energy", np.arange(n + 1) - 0.5, np.ones(n))
    figure = new_figure(11, 4.8)
    grid = figure.add_gridspec(1, 2)
    for place, log in zip(_cells(grid), (False, True), strict=True):
        axes = panel_axes(figure, place)
        text: dict[str, Any] = {"x_label": "layer", "y_label": "mean energy per layer [MeV]"}
        draw_panel(axes, curves, reference_label=comparison.reference_label, log_y=log, **text)
        if not log:
            _legend(axes[0], "upper right")
    return figure


def draw_radial(comparison: Comparison) -> Figure:
    """Mean energy per ring and area."""
    edges = np.array(comparison.first["radial_edges"])
    curves = curves_of_profile(comparison, "radial_energy", edges, np.pi * np.diff(edges**2))
    figure = new_figure(6.4, 5)
    axes = panel_axes(figure)
    label = r"mean energy density [MeV / mm$^2$]"
    text: dict[str, Any] = {"x_label": r"$r$ [mm]", "y_label": label}
    draw_panel(axes, curves, reference_label=comparison.reference_label, log_y=True, **text)
    _legend(axes[0], "upper right")
    return figure


def draw_layer_energies(comparison: Comparison) -> Figure:
    """Energy histograms of six layers along the shower."""
    names = [f"layer_energy/{layer:02d}" for layer in comparison.layers_to_show]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(4.4 * columns, 3.8 * rows)
    grid = figure.add_gridspec(rows, columns)
    for i, (place, name) in enumerate(zip(_cells(grid), names, strict=False)):
        _histogram(figure, place, comparison, name, legend=i == 0)
    return figure


def draw_every_layer(comparison: Comparison) -> Figure:
    """Energy histograms of all layers, small and without ratios."""
    names = comparison.histograms("layer_energy")
    columns = min(len(names), 7 if len(names) > 20 else 5)
    rows = -(-len(names) // columns)
    figure = new_figure(max(1.75 * columns, 7.0), 1.5 * rows + 0.9)
    grid = figure.add_gridspec(rows, columns)
    for i, (place, name) in enumerate(zip(_cells(grid), names, strict=False)):
        _small(figure.add_subplot(place), comparison, name)
        if i == 0:
            handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), fontsize=11)
    figure.supxlabel(axis_label("layer_energy"), fontsize=11)
    figure.supylabel("fraction of showers (each panel has its own scale)", fontsize=11)
    return figure


def draw_voxel_spectrum(comparison: Comparison) -> Figure:
    """Number of voxels per shower over their energy."""
    figure = new_figure(6.8, 5.2)
    _histogram(figure, figure.add_gridspec(1, 1)[0], comparison, "voxel_energy", legend=True, log_y=True)
    return figure


def draw_hits(comparison: Comparison) -> Figure:
    """Number of hit voxels, their mean per layer, hits in three layers, fraction of empty voxels in four."""
    figure = new_figure(13.2, 11.2 if comparison.histograms("layer_hits") else 7.6)
    layers = comparison.layers_to_show[1:5] or comparison.layers_to_show
    hits = [f"layer_hits/{layer:02d}" for layer in layers]
    known = [name for name in hits if name in comparison.histograms("layer_hits")][:3]
    known += [f"sparsity/{layer:02d}" for layer in layers]
    rows = -(-(2 + len(known)) // 3)
    grid = figure.add_gridspec(max(rows, 1), 3)
    cells = _cells(grid)
    _histogram(figure, cells[0], comparison, "hits", legend=True)
    _per_layer(figure, cells[1], comparison, "layer_hits", "mean hit voxels per layer")
    for place, name in zip(cells[2:], known, strict=False):
        _histogram(figure, place, comparison, name)
    return figure


def draw_moments(comparison: Comparison) -> Figure:
    """Mean depth, longitudinal width, first layer, and the radii that hold 50 and 90 % of the energy."""
    names = [name for name in MOMENTS if comparison.histograms(name)]
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(4.4 * columns, 3.8 * rows)
    grid = figure.add_gridspec(rows, columns)
    for i, (place, name) in enumerate(zip(_cells(grid), names, strict=False)):
        _histogram(figure, place, comparison, name, legend=i == 0)
    return figure


def has_energies(comparison: Comparison) -> bool:
    """Whether there is a panel per incident energy with something in it."""
    return bool(_filled_panels(comparison))


def has_shapes(comparison: Comparison, kind: str) -> bool:
    """Whether there are histograms of ``centre`` or ``width`` along some axis."""
    return any(comparison.histograms(f"{kind}_{axis}") for axis in AXES)


def draw_shapes(comparison: Comparison, kind: str) -> Figure:
    """Centres or widths along every axis, in three layers."""
    axes = [axis for axis in AXES if comparison.histograms(f"{kind}_{axis}")]
    rows = []
    for axis in axes:
        known = set(comparison.histograms(f"{kind}_{axis}"))
        wanted = [f"{kind}_{axis}/{layer:02d}" for layer in comparison.layers_to_show]
        there = [name for name in wanted if name in known and _filled(comparison, name)] or sorted(known)
        rows.append(there[1:4] if len(there) > 3 else there[:3])
    columns = max(len(row) for row in rows)
    figure = new_figure(4.3 * columns + 0.3, 3.7 * len(axes))
    grid = figure.add_gridspec(len(axes), columns)
    for i, names in enumerate(rows):
        for column, name in enumerate(names):
            _histogram(figure, grid[i, column], comparison, name, legend=i == column == 0)
    return figure


def _filled_panels(comparison: Comparison) -> list[str]:
    return [name for name in comparison.histograms("e_ratio_at") if _filled(comparison, name)]


def _filled(comparison: Comparison, name: str) -> bool:
    record = comparison.models[0].histogram(name)
    return record is not None and any(record["reference"]["counts"])


def _cells(grid: GridSpec) -> list[SubplotSpec]:
    return [grid[i] for i in range(grid.nrows * grid.ncols)]


def _per_layer(figure: Figure, place: SubplotSpec, comparison: Comparison, name: str, y_label: str) -> None:
    """Mean of an observable over the layer number."""
    n = len(comparison.first["geometry"]["layers"])
    curves = curves_of_profile(comparison, name, np.arange(n + 1) - 0.5, np.ones(n))
    text: dict[str, Any] = {"x_label": "layer", "y_label": y_label}
    draw_panel(panel_axes(figure, place), curves, reference_label=comparison.reference_label, **text)


def _histogram(
    figure: Figure,
    place: SubplotSpec,
    comparison: Comparison,
    name: str,
    *,
    legend: bool = False,
    log_y: bool = False,
    small: bool = False,
) -> tuple[Axes, Axes]:
    record = comparison.models[0].histogram(name)
    if record is None:
        raise KeyError(name)
    observable = record["observable"]
    axes = panel_axes(figure, place)
    lines = 1 + len(comparison.models)
    draw_panel(
        axes,
        curves_of_histogram(comparison, name),
        x_label=axis_label(observable, comparison.depth_unit if observable.startswith("depth") else ""),
        y_label="voxels per shower and bin" if name == "voxel_energy" else "fraction of showers",
        reference_label=comparison.reference_label,
        title=_caption(comparison, record),
        log_x=record["scale"] == "log",
        log_y=log_y,
        room=1.12 + 0.12 * lines if legend else 1.15,
    )
    if legend:
        _legend(axes[0], "upper left" if record["scale"] == "log" and not log_y else "best", small=small)
    return axes


def _legend(axes: Axes, place: Any, *, small: bool = False) -> None:
    axes.legend(loc=place, fontsize=8 if small else 9.5, borderaxespad=0.6, labelspacing=0.35)


def _small(axes: Axes, comparison: Comparison, name: str) -> None:
    """Reference and models without ratio or labels."""
    curves = curves_of_histogram(comparison, name)
    edges = curves.reference.edges
    record = comparison.models[0].histogram(name)
    axes.stairs(curves.reference.values, edges, fill=True, color=REFERENCE, label=comparison.reference_label)
    for model, curve in curves.models:
        axes.stairs(
            curve.values, edges, baseline=None, color=model.colour, linestyle=model.dash, label=model.label
        )
    if record is not None and record["scale"] == "log":
        axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=7, pad=2)
    axes.tick_params(axis="x", which="minor", labelbottom=False)
    axes.set_title(comparison.layer(int(name.split("/")[1])), loc="left", fontsize=8.5, pad=2)


def _caption(comparison: Comparison, record: Any) -> str:
    parts = ["" if record["layer"] is None else comparison.layer(record["layer"])]
    if record.get("window"):
        parts = [rf"$E_\mathrm{{inc}}$ = {record['window'][0] / 1000:.4g} GeV"]
    if comparison.single and record["separation"] is not None and record["floor"] is not None:
        short = bool(record.get("window"))
        value, floor = f"{record['separation']:.2g}", f"{record['floor']:.2g}"
        parts.append(f"S {value}, floor {floor}" if short else f"separation {value}, floor {floor}")
    return ":  ".join(part for part in parts if part)
