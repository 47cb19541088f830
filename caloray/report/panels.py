"""One panel: reference filled grey, generated as a line, and their ratio below, with statistical bands."""

from __future__ import annotations

__all__ = ["Curve", "curves_of_histogram", "draw_panel", "panel_axes"]

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter

from caloray.report.style import GENERATED, REFERENCE, REFERENCE_EDGE

SIDES = ("reference", "generated")
ENOUGH = 50  # entries in the bin of a typical entry
TAIL = 0.004  # of the entries on either side that a picture may leave out
WORST = 0.4  # relative error of the reference beyond which a ratio says nothing
RATIO_RANGE = (0.75, 1.25)


@dataclass(frozen=True)
class Curve:
    """Bin contents (B,) with errors (B,) over edges (B + 1,)."""

    edges: np.ndarray
    values: np.ndarray
    errors: np.ndarray


def curves_of_histogram(record: dict[str, Any], showers: tuple[int, int]) -> tuple[Curve, Curve]:
    """Entries per shower and bin of both samples with statistical errors; fine bins joined, far tails cut."""
    edges = np.array(record["edges"])
    counts = [np.array(record[side]["counts"], dtype=float) for side in SIDES]
    squares = [np.array(record[side].get("sum_squares", record[side]["counts"])) for side in SIDES]
    factor = _joining_factor(counts[0])
    edges = edges[::factor]
    counts = [part.reshape(-1, factor).sum(axis=1) for part in counts]
    errors = [np.sqrt(part.reshape(-1, factor).sum(axis=1)) for part in squares]
    cut = _bulk(counts, TAIL if record["observable"] != "voxel_energy" else 0.0)
    kept = edges[cut.start : cut.stop + 1]
    reference, generated = (
        Curve(kept, part[cut] / n, error[cut] / n)
        for part, error, n in zip(counts, errors, showers, strict=True)
    )
    return reference, generated


def panel_axes(figure: Figure, place: SubplotSpec | None = None) -> tuple[Axes, Axes]:
    """Main and ratio axes with a common x axis."""
    options = {"height_ratios": [3, 1], "hspace": 0.04}
    grid = figure.add_gridspec(2, 1, **options) if place is None else place.subgridspec(2, 1, **options)
    main = figure.add_subplot(grid[0])
    ratio = figure.add_subplot(grid[1], sharex=main)
    main.tick_params(labelbottom=False)
    return main, ratio


def draw_panel(
    axes: tuple[Axes, Axes],
    curves: tuple[Curve, Curve],
    *,
    x_label: str,
    y_label: str,
    labels: tuple[str, str],
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> None:
    """Fill main and ratio axes."""
    main, ratio = axes
    reference, generated = curves
    edges = reference.edges
    base = _baseline(reference, generated) if log_y else 0.0
    main.stairs(
        np.maximum(reference.values, base), edges, baseline=base, fill=True, color=REFERENCE, label=labels[0]
    )
    main.stairs(np.maximum(reference.values, base), edges, baseline=None, color=REFERENCE_EDGE, linewidth=0.9)
    _band(main, reference, REFERENCE_EDGE, 0.45)
    main.stairs(generated.values, edges, baseline=None, color=GENERATED, linewidth=1.5, label=labels[1])
    _band(main, generated, GENERATED, 0.25)
    main.set_ylabel(y_label)
    if log_x:
        main.set_xscale("log")
        _log_ticks(ratio, edges)
    if log_y:
        main.set_yscale("log")
        top = max(float(reference.values.max(initial=base)), float(generated.values.max(initial=base)))
        main.set_ylim(base, top * 8)
    else:
        main.set_ylim(0, None)
        main.set_ylim(0, main.get_ylim()[1] * 1.22)
    main.set_xlim(edges[0], edges[-1])
    if title:
        main.set_title(title, loc="left", fontsize=9.5, pad=4)
    draw_ratio(ratio, reference, generated)
    ratio.set_xlabel(x_label)


def draw_ratio(axes: Axes, reference: Curve, generated: Curve) -> None:
    """Generated over reference: grey band for the reference's error, bars for the generated sample's."""
    filled = reference.values > 0
    safe = np.where(filled, reference.values, 1.0)
    relative = np.where(filled, reference.errors / safe, 0.0)
    known = filled & (relative < WORST)
    axes.axhline(1.0, color=REFERENCE_EDGE, linewidth=0.9)
    _band(axes, Curve(reference.edges, np.ones_like(safe), relative), REFERENCE_EDGE, 0.35)
    centres, ratio = _centres(reference.edges), generated.values / safe
    for marker, place, beyond in (("^", 0.975, ratio > RATIO_RANGE[1]), ("v", 0.025, ratio < RATIO_RANGE[0])):
        level = RATIO_RANGE[0] + place * (RATIO_RANGE[1] - RATIO_RANGE[0])
        out = centres[known & beyond]
        axes.plot(out, np.full(len(out), level), marker, color=GENERATED, markersize=3, alpha=0.6)
    axes.errorbar(
        centres[known],
        ratio[known],
        yerr=(generated.errors / safe)[known],
        fmt="o",
        markersize=2.8,
        linewidth=0.9,
        color=GENERATED,
    )
    axes.set_ylim(*RATIO_RANGE)
    for level in (0.8, 1.2):
        axes.axhline(level, color=REFERENCE_EDGE, linewidth=0.6, linestyle=":")
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_ylabel("ratio")


def _band(axes: Axes, curve: Curve, colour: str, alpha: float) -> None:
    low = curve.values - curve.errors
    axes.stairs(
        curve.values + curve.errors,
        curve.edges,
        baseline=low,
        fill=True,
        color=colour,
        alpha=alpha,
        linewidth=0,
    )


def _baseline(reference: Curve, generated: Curve) -> float:
    values = np.concatenate([reference.values, generated.values])
    positive = values[values > 0]
    return 0.5 * float(positive.min()) if len(positive) else 1e-3


def _centres(edges: np.ndarray) -> np.ndarray:
    logarithmic = edges[0] > 0 and len(edges) > 2 and not np.allclose(np.diff(edges), edges[1] - edges[0])
    return np.sqrt(edges[1:] * edges[:-1]) if logarithmic else 0.5 * (edges[1:] + edges[:-1])


def _log_ticks(axes: Axes, edges: np.ndarray) -> None:
    """Label 1, 2, 5 of each decade on a short axis, decades on a long one."""
    if edges[-1] / edges[0] < 300:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bulk(counts: list[np.ndarray], tail: float) -> slice:
    """The bins between the outermost ``tail`` of either sample (all filled ones for tail 0)."""
    starts, stops = [], []
    for part in counts:
        total = float(part.sum())
        if total:
            reached = np.cumsum(part) / total
            starts.append(int(np.argmax(reached > tail)))
            stops.append(int(np.argmax(reached >= 1.0 - max(tail, 1e-12))) + 1)
    return slice(min(starts), max(stops)) if starts else slice(0, len(counts[0]))


def _joining_factor(counts: np.ndarray) -> int:
    """By how much to coarsen: the least divisor that puts a typical entry among enough others."""
    total = float(counts.sum())
    factors = [factor for factor in (1, 2, 4, 5) if len(counts) % factor == 0]
    for factor in factors:
        joined = counts.reshape(-1, factor).sum(axis=1)
        if total and float((joined**2).sum()) / total >= ENOUGH:
            return factor
    return 1 if not total else factors[min(1, len(factors) - 1)]
