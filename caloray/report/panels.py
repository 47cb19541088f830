"""One panel: reference filled grey, generated as a line, and their ratio below, both with statistical bands."""

from __future__ import annotations

__all__ = ["Curve", "curves_of_histogram", "draw_panel", "panel_axes"]

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MultipleLocator

from caloray.report.style import GENERATED, REFERENCE, REFERENCE_EDGE

ENOUGH = 20  # entries that a typical bin should hold in a picture
RATIO_RANGE = (0.75, 1.25)


@dataclass(frozen=True)
class Curve:
    """Bin contents (B,) with errors (B,) over edges (B + 1,)."""

    edges: np.ndarray
    values: np.ndarray
    errors: np.ndarray


def curves_of_histogram(record: dict[str, Any], showers: tuple[int, int]) -> tuple[Curve, Curve]:
    """Entries per shower and bin of both samples, with Poisson errors; fine bins joined and empty ends cut off."""
    edges = np.array(record["edges"])
    counts = [np.array(record[side]["counts"], dtype=float) for side in ("reference", "generated")]
    factor = _joining_factor(counts[0])
    edges = edges[::factor]
    counts = [part.reshape(-1, factor).sum(axis=1) for part in counts]
    filled = np.flatnonzero(counts[0] + counts[1])
    first, last = (filled[0], filled[-1] + 1) if len(filled) else (0, len(counts[0]))
    cut = slice(first, last)
    kept = edges[first : last + 1]
    reference, generated = (
        Curve(kept, part[cut] / n, np.sqrt(part[cut]) / n) for part, n in zip(counts, showers, strict=True)
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
    main.stairs(np.maximum(reference.values, base), edges, baseline=base, fill=True, color=REFERENCE, label=labels[0])
    main.stairs(np.maximum(reference.values, base), edges, baseline=None, color=REFERENCE_EDGE, linewidth=0.9)
    _band(main, reference, REFERENCE_EDGE, 0.45)
    main.stairs(generated.values, edges, baseline=None, color=GENERATED, linewidth=1.5, label=labels[1])
    _band(main, generated, GENERATED, 0.25)
    main.set_ylabel(y_label)
    if log_x:
        main.set_xscale("log")
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
    """Generated over reference: grey band for the reference's error, points with the generated sample's error."""
    known = reference.values > 0
    safe = np.where(known, reference.values, 1.0)
    relative = np.where(known, reference.errors / safe, 0.0)
    axes.axhline(1.0, color=REFERENCE_EDGE, linewidth=0.9)
    _band(axes, Curve(reference.edges, np.ones_like(safe), relative), REFERENCE_EDGE, 0.35)
    centres = _centres(reference.edges)
    axes.errorbar(
        centres[known],
        (generated.values / safe)[known],
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
        curve.values + curve.errors, curve.edges, baseline=low, fill=True, color=colour, alpha=alpha, linewidth=0
    )


def _baseline(reference: Curve, generated: Curve) -> float:
    values = np.concatenate([reference.values, generated.values])
    positive = values[values > 0]
    return 0.5 * float(positive.min()) if len(positive) else 1e-3


def _centres(edges: np.ndarray) -> np.ndarray:
    logarithmic = edges[0] > 0 and len(edges) > 2 and not np.allclose(np.diff(edges), edges[1] - edges[0])
    return np.sqrt(edges[1:] * edges[:-1]) if logarithmic else 0.5 * (edges[1:] + edges[:-1])


def _joining_factor(counts: np.ndarray) -> int:
    """By how much to coarsen, a divisor of the number of bins that leaves at least 10 filled bins."""
    for factor in (1, 2, 4, 5):
        if len(counts) % factor:
            continue
        joined = counts.reshape(-1, factor).sum(axis=1)
        filled = joined[joined > 0]
        if len(filled) and np.median(filled) >= ENOUGH:
            return factor
        if len(filled) <= 20:
            return factor
    return 1
