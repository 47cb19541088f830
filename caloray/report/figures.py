"""All figures of an evaluation, drawn from results.json alone."""

from __future__ import annotations

__all__ = ["draw"]

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec

from caloray.report.overview import draw_average_shower, draw_overview
from caloray.report.panels import Curve, curves_of_histogram, draw_panel, panel_axes
from caloray.report.style import RC, axis_label, layer_title, new_figure, save

QUANTILES = (0.03, 0.2, 0.5, 0.8, 0.95, 0.99)  # of the longitudinal energy profile: which layers to show

Labels = tuple[str, str]
Painter = Callable[[dict[str, Any], Labels], Figure]


def draw(results: dict[str, Any], directory: Path, labels: Labels = ("Geant4", "caloray")) -> list[Path]:
    """Draw every figure as PNG.

    Args:
        results: The content of results.json.
        directory: Where the files go.
        labels: Names of reference and generated sample in the legends.

    Returns:
        The paths, in reading order.
    """
    painters: dict[str, Painter] = {
        "00_first_look": draw_first_look,
        "01_overview": draw_overview,
        "02_response": draw_response,
        "03_longitudinal": draw_longitudinal,
        "04_radial": draw_radial,
        "05_layer_energies": draw_layer_energies,
        "06_voxel_spectrum": draw_voxel_spectrum,
        "07_hits": draw_hits,
        "08_centres": lambda r, lab: draw_shapes(r, lab, "centre"),
        "09_widths": lambda r, lab: draw_shapes(r, lab, "width"),
        "10_average_shower": draw_average_shower,
    }
    with_size = _with_sizes(results, labels)
    paths = []
    for name, painter in painters.items():
        with rc_context(RC):
            figure = painter(results, with_size)
        paths.append(save(figure, directory / f"{name}.png"))
    return paths


def draw_first_look(results: dict[str, Any], labels: Labels) -> Figure:
    """One page to show: response, longitudinal profile, voxel spectrum and number of hits."""
    figure = new_figure(11, 8.4)
    grid = figure.add_gridspec(2, 2)
    _histogram(figure, grid[0, 0], results, "e_ratio", labels, legend=True)
    _per_layer(figure, grid[0, 1], results, "layer_energy", "mean energy per layer [MeV]", labels)
    _histogram(figure, grid[1, 0], results, "voxel_energy", labels, log_y=True)
    _histogram(figure, grid[1, 1], results, "hits", labels)
    return figure


def draw_response(results: dict[str, Any], labels: Labels) -> Figure:
    """E_tot / E_inc, and the incident energies behind it."""
    figure = new_figure(10.5, 4.8)
    grid = figure.add_gridspec(1, 2)
    for place, name in zip(_cells(grid), ("e_ratio", "incident_energy"), strict=True):
        _histogram(figure, place, results, name, labels, legend=True)
    return figure


def draw_longitudinal(results: dict[str, Any], labels: Labels) -> Figure:
    """Mean energy per layer."""
    n = len(results["geometry"]["layers"])
    curves = _profile(results, "layer_energy", np.arange(n + 1) - 0.5, np.ones(n))
    figure = new_figure(11, 4.8)
    grid = figure.add_gridspec(1, 2)
    for place, log in zip(_cells(grid), (False, True), strict=True):
        axes = panel_axes(figure, place)
        draw_panel(
            axes, curves, x_label="layer", y_label="mean energy per layer [MeV]", labels=labels, log_y=log
        )
        axes[0].legend(loc="upper right")
    return figure


def draw_radial(results: dict[str, Any], labels: Labels) -> Figure:
    """Mean energy per ring and area."""
    edges = np.array(results["radial_edges"])
    area = np.pi * np.diff(edges**2)
    curves = _profile(results, "radial_energy", edges, area)
    figure = new_figure(6, 4.8)
    axes = panel_axes(figure)
    label = r"mean energy density [MeV / mm$^2$]"
    draw_panel(axes, curves, x_label=r"$r$ [mm]", y_label=label, labels=labels, log_y=True)
    axes[0].legend(loc="upper right")
    return figure


def draw_layer_energies(results: dict[str, Any], labels: Labels) -> Figure:
    """Energy histograms of six layers along the shower."""
    layers = _layers_to_show(results)
    figure = new_figure(13, 7.6)
    grid = figure.add_gridspec(2, 3)
    for i, (place, layer) in enumerate(zip(_cells(grid), layers, strict=False)):
        _histogram(figure, place, results, f"layer_energy/{layer:02d}", labels, legend=i == 0)
    return figure


def draw_voxel_spectrum(results: dict[str, Any], labels: Labels) -> Figure:
    """Number of voxels per shower over their energy."""
    figure = new_figure(6.4, 5)
    _histogram(figure, figure.add_gridspec(1, 1)[0], results, "voxel_energy", labels, legend=True, log_y=True)
    return figure


def draw_hits(results: dict[str, Any], labels: Labels) -> Figure:
    """Number of hit voxels, their mean per layer, and the fraction of empty voxels in four layers."""
    figure = new_figure(13, 7.6)
    grid = figure.add_gridspec(2, 3)
    _histogram(figure, grid[0, 0], results, "hits", labels, legend=True)
    _per_layer(figure, grid[0, 1], results, "layer_hits", "mean hit voxels per layer", labels)
    places = [grid[0, 2], grid[1, 0], grid[1, 1], grid[1, 2]]
    for place, layer in zip(places, _layers_to_show(results)[1:5], strict=False):
        _histogram(figure, place, results, f"sparsity/{layer:02d}", labels)
    return figure


def draw_shapes(results: dict[str, Any], labels: Labels, kind: str) -> Figure:
    """Centres or widths along every axis, in three layers."""
    known = {record["name"] for record in results["histograms"]}
    axes = [a for a in ("eta", "phi", "r", "x", "y") if any(n.startswith(f"{kind}_{a}/") for n in known)]
    layers = _layers_to_show(results)[1:4]
    figure = new_figure(4.3 * len(layers) + 0.3, 3.7 * len(axes))
    grid = figure.add_gridspec(len(axes), len(layers))
    for row, axis in enumerate(axes):
        for column, layer in enumerate(layers):
            name = f"{kind}_{axis}/{layer:02d}"
            if name in known:
                _histogram(figure, grid[row, column], results, name, labels, legend=row == column == 0)
    return figure


def _cells(grid: GridSpec) -> list[SubplotSpec]:
    return [grid[i] for i in range(grid.nrows * grid.ncols)]


def _per_layer(
    figure: Figure, place: SubplotSpec, results: dict[str, Any], name: str, y_label: str, labels: Labels
) -> None:
    """Mean of an observable over the layer number."""
    n = len(results["geometry"]["layers"])
    curves = _profile(results, name, np.arange(n + 1) - 0.5, np.ones(n))
    draw_panel(panel_axes(figure, place), curves, x_label="layer", y_label=y_label, labels=labels)


def _histogram(
    figure: Figure,
    place: Any,
    results: dict[str, Any],
    name: str,
    labels: Labels,
    *,
    legend: bool = False,
    log_y: bool = False,
) -> tuple[Axes, Axes]:
    record = next(record for record in results["histograms"] if record["name"] == name)
    axes = panel_axes(figure, place)
    sizes = results["reference"]["showers"], results["generated"]["showers"]
    draw_panel(
        axes,
        curves_of_histogram(record, sizes),
        x_label=axis_label(record["observable"]),
        y_label="voxels per shower and bin" if name == "voxel_energy" else "fraction of showers",
        labels=labels,
        title=_caption(record),
        log_x=record["scale"] == "log",
        log_y=log_y,
    )
    if legend:
        axes[0].legend(loc="upper left" if record["scale"] == "log" and not log_y else "upper right")
    return axes


def _caption(record: dict[str, Any]) -> str:
    parts = [layer_title(record["layer"])]
    if record["separation"] is not None and record["floor"] is not None:
        parts.append(f"separation {record['separation']:.2g}, floor {record['floor']:.2g}")
    return ":  ".join(part for part in parts if part)


def _profile(results: dict[str, Any], name: str, edges: np.ndarray, area: np.ndarray) -> tuple[Curve, Curve]:
    mean = results["means"][name]
    reference, generated = (
        Curve(edges, np.array(mean[side]["mean"]) / area, np.array(mean[side]["error"]) / area)
        for side in ("reference", "generated")
    )
    return reference, generated


def _layers_to_show(results: dict[str, Any]) -> list[int]:
    """Six different layers spread over the longitudinal profile (all, if there are fewer)."""
    energies = np.array(results["means"]["layer_energy"]["reference"]["mean"])
    n = len(energies)
    if n <= len(QUANTILES):
        return list(range(n))
    reached = np.cumsum(energies) / max(float(energies.sum()), 1e-300)
    chosen: list[int] = []
    for quantile in QUANTILES:
        layer = int(np.searchsorted(reached, quantile))
        chosen.append(max(min(layer, n - 1), chosen[-1] + 1 if chosen else 0))
    return [layer for layer in chosen if layer < n]


def _with_sizes(results: dict[str, Any], labels: Labels) -> Labels:
    sizes = results["reference"]["showers"], results["generated"]["showers"]
    return f"{labels[0]} ({sizes[0]:,} showers)", f"{labels[1]} ({sizes[1]:,} showers)"
