"""Pictures of the mean shower: over layer and radius, and the transverse plane layer by layer."""

from __future__ import annotations

__all__ = ["draw_average_shower", "draw_every_image", "draw_images"]

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from caloray.geometry import Geometry, Layer
from caloray.report.comparison import Comparison
from caloray.report.style import new_figure

ENERGY_MAP, RATIO_MAP = "viridis", "RdBu_r"
DEPTH = 1e-5  # of the largest mean energy, where the colours begin
RATIO = 0.2  # from one, where the colours end
RATIOS = (0.1, 0.5)  # the same for single voxels, as the statistics allow
VISIBLE = 1e-4  # of the largest, below which a ratio is noise
TILE, TALL = 2.2, 1.18  # distance of small pictures in units of their half width; taller for the titles
SMOOTH = 64  # straight pieces of a full circle, at least


def draw_average_shower(comparison: Comparison) -> Figure:
    """Mean energy density over layer and radius for all samples, and the ratios."""
    edges = np.array(comparison.first["radial_edges"])
    area = np.pi * np.diff(edges**2)
    sides = [np.array(comparison.first["average_shower"]["reference"]) / area]
    sides += [np.array(model.record["average_shower"]["generated"]) / area for model in comparison.models]
    layers = np.arange(len(sides[0]) + 1) - 0.5
    number = len(comparison.models)
    figure = new_figure(14.5 if number == 1 else 3.6 + 4.0 * number, 4.4 if number == 1 else 7.6)
    panels = figure.subplots(
        1 if number == 1 else 2, 3 if number == 1 else number + 1, sharey=True, squeeze=False
    )
    above = panels[0, : number + 1]
    below = panels[0, 2:] if number == 1 else panels[1, 1:]
    if number > 1:
        panels[1, 0].set_axis_off()
    top = max(float(sides[0].max()), 1e-12)
    labels = [comparison.reference_label, *(model.label for model in comparison.models)]
    for axes, values, label in zip(above, sides, labels, strict=True):
        shown = np.where(values > 0, values, np.nan).T
        mesh = axes.pcolormesh(layers, edges, shown, norm=LogNorm(top * DEPTH, top), cmap=ENERGY_MAP)
        axes.set_title(label, loc="left")
    figure.colorbar(mesh, ax=list(above), label=r"mean energy density [MeV / mm$^2$]", extend="min", pad=0.01)
    for axes, values, model in zip(below, sides[1:], comparison.models, strict=True):
        ratio = _ratio(sides[0], values, VISIBLE * top).T
        mesh = axes.pcolormesh(layers, edges, ratio, norm=Normalize(1 - RATIO, 1 + RATIO), cmap=RATIO_MAP)
        axes.set_title(f"{model.short} / {comparison.reference_short}", loc="left")
    figure.colorbar(mesh, ax=list(below), extend="both", label="ratio", pad=0.01)
    for axes in (*above, *below):
        axes.set_xlabel("layer")
        axes.tick_params(which="both", direction="out", top=False, right=False)
    for axes in panels[:, 0]:
        axes.set_ylabel(r"$r$ [mm]")
    return figure


def draw_images(comparison: Comparison) -> Figure:
    """Mean energy per voxel in the transverse plane of some layers: reference, every model, ratios.

    Cylindrical readouts are drawn as discs (angles from -pi, counted as the centres are: eta to the right,
    phi upwards), Cartesian ones as squares.
    """
    geometry = comparison.geometry
    shown = comparison.layers_to_show[1:6] or comparison.layers_to_show
    sides = [np.array(comparison.first["average_voxels"]["reference"])]
    sides += [np.array(model.record["average_voxels"]["generated"]) for model in comparison.models]
    names = [comparison.reference_short, *(model.short for model in comparison.models)]
    rows = 1 + 2 * len(comparison.models)
    figure = new_figure(2.5 * len(shown) + 1.6, 2.55 * rows + 0.3)
    polar = geometry.kind == "cylindrical"
    projection = {"projection": "polar"} if polar else {}
    panels = figure.subplots(rows, len(shown), subplot_kw=projection, squeeze=False)
    top = max(float(max(sides[0][geometry.span(layer)].max() for layer in shown)), 1e-12)
    norm = LogNorm(top * DEPTH, top)
    for row, (values, name) in enumerate(zip(sides, names, strict=True)):
        for axes, layer in zip(panels[row], shown, strict=True):
            mean = values[geometry.span(layer)]
            mesh = _draw_layer(axes, geometry, layer, np.where(mean > 0, mean, np.nan), norm, ENERGY_MAP)
        _name_row(panels[row, 0], name, polar=polar)
    figure.colorbar(
        mesh, ax=panels[: len(sides)], label="mean energy per voxel [MeV]", extend="min", pad=0.02
    )
    ratios = [_ratio(sides[0], values, VISIBLE * top) for values in sides[1:]]
    limit = _limit([ratio[geometry.span(layer)] for ratio in ratios for layer in shown])
    for row, (ratio, name) in enumerate(zip(ratios, names[1:], strict=True), start=len(sides)):
        for axes, layer in zip(panels[row], shown, strict=True):
            values = ratio[geometry.span(layer)]
            mesh = _draw_layer(axes, geometry, layer, values, Normalize(1 - limit, 1 + limit), RATIO_MAP)
        _name_row(panels[row, 0], f"{name} /\n{names[0]}", polar=polar)
    figure.colorbar(mesh, ax=panels[len(sides) :], label="ratio", extend="both", pad=0.02)
    for axes, layer in zip(panels[0], shown, strict=True):
        axes.set_title(
            comparison.layer(layer) + (f"\n{_radius(geometry.layers[layer])}" if polar else ""), fontsize=10.5
        )
    if not polar:
        for axes in panels[-1]:
            axes.set_xlabel(r"$x$ [mm]")
    return figure


def draw_every_image(comparison: Comparison) -> Figure:
    """Mean energy per voxel of all layers as small pictures: the reference, and the ratio of every model."""
    geometry = comparison.geometry
    reference = np.array(comparison.first["average_voxels"]["reference"])
    top = max(float(reference.max()), 1e-12)
    ratios = [
        _ratio(reference, np.array(model.record["average_voxels"]["generated"]), VISIBLE * top)
        for model in comparison.models
    ]
    limit = _limit(ratios)
    columns = min(geometry.n_layers, 9 if geometry.n_layers > 20 else 7)
    rows = -(-geometry.n_layers // columns)
    blocks: list[tuple[np.ndarray, Normalize, str]]
    blocks = [(np.where(reference > 0, reference, np.nan), LogNorm(top * DEPTH, top), ENERGY_MAP)]
    blocks += [(ratio, Normalize(1 - limit, 1 + limit), RATIO_MAP) for ratio in ratios]
    titles = [comparison.reference_label]
    titles += [f"{model.short} / {comparison.reference_short}" for model in comparison.models]
    figure = new_figure(max(1.18 * columns + 1.2, 6.0), len(blocks) * (1.3 * rows + 0.4))
    panels = figure.subplots(len(blocks), 1, squeeze=False)[:, 0]
    for axes, (values, norm, colours), title in zip(panels, blocks, titles, strict=True):
        for layer in range(geometry.n_layers):
            across, down = layer % columns, layer // columns
            centre = TILE * across, -TILE * TALL * down
            mesh = _draw_tile(axes, geometry, layer, values[geometry.span(layer)], centre, norm, colours)
            label = comparison.layer(layer)
            axes.text(centre[0], centre[1] + 1.08, label, fontsize=7.5, ha="center", va="bottom")
        axes.set_xlim(-1.1, TILE * columns - 1.1)
        axes.set_ylim(-TILE * TALL * (rows - 1) - 1.1, 1.5)
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(title, loc="left", fontsize=10.5)
        energy = colours == ENERGY_MAP
        label = "mean energy per voxel [MeV]" if energy else "ratio"
        figure.colorbar(mesh, ax=axes, label=label, extend="min" if energy else "both", pad=0.01)
    return figure


def _draw_tile(
    axes: Axes,
    geometry: Geometry,
    number: int,
    values: np.ndarray,
    centre: tuple[float, float],
    norm: Normalize,
    colours: str,
) -> QuadMesh:
    """One layer's voxels, scaled to lie between -1 and 1 around ``centre``."""
    layer = geometry.layers[number]
    first, second = np.array(layer.first), np.array(layer.second)
    cells = values.reshape(layer.shape)
    if geometry.kind == "cylindrical":
        first, cells = _rounded(first, cells)
        x, y = np.cos(first)[:, None] * second, np.sin(first)[:, None] * second
        middle, size = np.zeros(2), second[-1]
        ring = np.linspace(0, 2 * np.pi, SMOOTH + 1)
        outline = np.cos(ring), np.sin(ring)
    else:
        x, y = np.meshgrid(first, second, indexing="ij")
        middle = np.array([first[0] + first[-1], second[0] + second[-1]]) / 2
        size = max(np.ptp(first), np.ptp(second)) / 2
        half = np.array([np.ptp(first), np.ptp(second)]) / 2 / size
        outline = half[0] * np.array([-1, 1, 1, -1, -1]), half[1] * np.array([-1, -1, 1, 1, -1])
    place = [(grid - middle[i]) / size + centre[i] for i, grid in enumerate((x, y))]
    edge = [line + centre[i] for i, line in enumerate(outline)]
    axes.fill(*edge, facecolor="#d6d6d6", edgecolor="#6e6e6e", linewidth=0.5, zorder=0)
    return axes.pcolormesh(*place, cells, norm=norm, cmap=colours, rasterized=True)


def _draw_layer(
    axes: Axes, geometry: Geometry, number: int, values: np.ndarray, norm: Normalize, colours: str
) -> QuadMesh:
    """One layer's voxels, (size,) in flat order, as coloured cells."""
    layer = geometry.layers[number]
    first, second = np.array(layer.first), np.array(layer.second)
    cells = values.reshape(layer.shape)
    if geometry.kind == "cylindrical":
        first, cells = _rounded(first, cells)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_ylim(0, second[-1])
        axes.spines["polar"].set_linewidth(0.6)
    else:
        axes.set_aspect("equal")
        axes.tick_params(which="both", direction="out", top=False, right=False, labelsize=8)
    axes.set_facecolor("#f2f2f2")
    return axes.pcolormesh(first, second, cells.T, norm=norm, cmap=colours, rasterized=True)


def _rounded(edges: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angular bins cut into pieces so narrow that their outlines look round."""
    pieces = np.maximum(1, np.ceil(np.diff(edges) * SMOOTH / (2 * np.pi)).astype(int))
    cut = [
        np.linspace(low, high, n + 1)[:-1] for low, high, n in zip(edges[:-1], edges[1:], pieces, strict=True)
    ]
    return np.concatenate([*cut, edges[-1:]]), np.repeat(cells, pieces, axis=0)


def _ratio(reference: np.ndarray, values: np.ndarray, least: float) -> np.ndarray:
    filled = reference > least
    return np.where(filled, values / np.where(filled, reference, 1.0), np.nan)


def _limit(ratios: Sequence[np.ndarray]) -> float:
    """Where colours of ratios end: beyond three quarters of them, in steps of 0.1."""
    known = np.concatenate([np.abs(ratio[np.isfinite(ratio)] - 1.0) for ratio in ratios])
    widest = float(np.quantile(known, 0.75)) if known.size else 0.0
    return float(np.clip(np.ceil(10 * widest) / 10, *RATIOS))


def _radius(layer: Layer) -> str:
    return f"$r$ < {layer.second[-1]:g} mm"


def _name_row(axes: Axes, name: str, *, polar: bool) -> None:
    axes.set_ylabel(
        name if polar else f"{name}\n$y$ [mm]", fontsize=10.5, labelpad=18 if polar else 4, loc="center"
    )
