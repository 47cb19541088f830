"""Pages that show everything at once: separation powers against their floors, and the average shower."""

from __future__ import annotations

__all__ = ["draw_average_shower", "draw_overview"]

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from caloray.report.style import GENERATED, REFERENCE, REFERENCE_EDGE, new_figure

Labels = tuple[str, str]

TITLES = {
    "e_ratio": r"$E_\mathrm{tot}/E_\mathrm{inc}$",
    "incident_energy": r"$E_\mathrm{inc}$",
    "hits": "hit voxels",
    "voxel_energy": "voxel energy",
    "layer_energy": "layer energies",
    "sparsity": "sparsity",
    "centre_eta": r"centres $\eta$",
    "centre_phi": r"centres $\varphi$",
    "centre_r": r"centres $r$",
    "centre_x": r"centres $x$",
    "centre_y": r"centres $y$",
    "width_eta": r"widths $\eta$",
    "width_phi": r"widths $\varphi$",
    "width_r": r"widths $r$",
    "width_x": r"widths $x$",
    "width_y": r"widths $y$",
}


def draw_overview(results: dict[str, Any], labels: Labels) -> Figure:
    """All separation powers beside their floors: one row per observable, one panel per layered observable."""
    layered = [row["observable"] for row in results["separations"] if row["worst_layer"] is not None]
    rows = -(-len(layered) // 4)
    figure = new_figure(14, 4.2 + 2.9 * rows)
    figure.suptitle(f"Separation power: {labels[1]} against {labels[0]}", fontsize=13)
    grid = figure.add_gridspec(rows + 1, 4, height_ratios=[1.35] + [1.0] * rows)
    _table_panel(figure.add_subplot(grid[0, :]), results["separations"])
    for i, observable in enumerate(layered):
        axes = figure.add_subplot(grid[1 + i // 4, i % 4])
        _layer_panel(axes, [r for r in results["histograms"] if r["observable"] == observable], legend=i == 0)
        axes.set_title(TITLES.get(observable, observable), loc="left", fontsize=10.5)
    return figure


def draw_average_shower(results: dict[str, Any], labels: Labels) -> Figure:
    """Mean energy density over layer and radius for both samples, and their ratio."""
    edges = np.array(results["radial_edges"])
    area = np.pi * np.diff(edges**2)
    maps = [np.array(results["average_shower"][side]) / area for side in ("reference", "generated")]
    layers = np.arange(len(maps[0]) + 1) - 0.5
    figure = new_figure(14.5, 4.4)
    panels = figure.subplots(1, 3, sharey=True)
    top = max(float(maps[0].max()), 1e-12)
    for axes, values, label in zip(panels, maps, labels, strict=False):
        shown = np.where(values > 0, values, np.nan).T
        mesh = axes.pcolormesh(layers, edges, shown, norm=LogNorm(top * 1e-5, top), cmap="viridis")
        axes.set_title(label, loc="left")
    figure.colorbar(mesh, ax=panels[1], label=r"mean energy density [MeV / mm$^2$]")
    filled = maps[0] > top * 1e-4
    ratio = np.where(filled, maps[1] / np.where(filled, maps[0], 1.0), np.nan).T
    mesh = panels[2].pcolormesh(layers, edges, ratio, vmin=0.8, vmax=1.2, cmap="RdBu_r")
    panels[2].set_title("ratio", loc="left")
    figure.colorbar(mesh, ax=panels[2], extend="both")
    for axes in panels:
        axes.set_xlabel("layer")
        axes.grid(visible=False)
    panels[0].set_ylabel(r"$r$ [mm]")
    return figure


def _table_panel(axes: Axes, rows: list[dict[str, Any]]) -> None:
    """Values and floors of all observables side by side on a logarithmic axis."""
    shown = [row for row in rows if row["separation"] is not None]
    positions = [float(i) for i in range(len(shown))]
    floors = np.array([row["floor"] or np.nan for row in shown])
    spread = np.array([row["floor_spread"] or 0.0 for row in shown])
    values = np.array([row["separation"] for row in shown])
    axes.bar(
        positions, floors, width=0.6, color=REFERENCE, edgecolor=REFERENCE_EDGE, label="floor (Geant4 halves)"
    )
    axes.errorbar(positions, floors, yerr=spread, fmt="none", color=REFERENCE_EDGE, capsize=3)
    axes.plot(positions, values, "D", color=GENERATED, markersize=6, label="separation power")
    for position, row in zip(positions, shown, strict=True):
        if row["ratio"] is not None:
            height = 1.25 * max(row["separation"], (row["floor"] or 0) + (row["floor_spread"] or 0))
            axes.text(position, height, f"×{row['ratio']:.2f}", ha="center", va="bottom", fontsize=9)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 3)
    axes.set_xticks(positions, [TITLES.get(row["observable"], row["observable"]) for row in shown])
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.set_ylabel("separation power\n(mean over layers)")
    axes.legend(loc="upper right", ncols=2)


def _layer_panel(axes: Axes, records: list[dict[str, Any]], *, legend: bool) -> None:
    layers = np.array([record["layer"] for record in records])
    floor, spread, value = (
        np.array([np.nan if record[key] is None else record[key] for record in records], dtype=float)
        for key in ("floor", "floor_spread", "separation")
    )
    finite = np.concatenate([value[value > 0], floor[floor > 0]])
    top = float(finite.max(initial=1e-9))
    bottom = max(0.4 * float(finite.min(initial=top)), 3e-4 * top)
    low, high = np.maximum(floor - spread, bottom), np.maximum(floor + spread, bottom)
    axes.fill_between(layers, low, high, color=REFERENCE, label="floor ± spread")
    axes.plot(layers, np.maximum(floor, bottom), color=REFERENCE_EDGE, linewidth=1)
    shown = np.where(value > bottom, value, np.nan)
    axes.plot(layers, shown, ".-", color=GENERATED, linewidth=0.9, markersize=4, label="separation power")
    axes.set_yscale("log")
    axes.set_ylim(bottom, 4 * top)
    axes.set_xlabel("layer")
    if legend:
        axes.legend(loc="upper left")
