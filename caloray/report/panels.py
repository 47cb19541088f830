"""One panel: the reference filled grey, every model as a line, the ratios below; statistical bands."""

from __future__ import annotations

__all__ = ["Curve", "Curves", "curves_of_histogram", "curves_of_profile", "draw_panel", "panel_axes"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, MultipleLocator, NullFormatter
from mplhep.error_estimation import poisson_interval

from caloray.report.comparison import Comparison, Model, Record
from caloray.report.style import REFERENCE, REFERENCE_EDGE

ENOUGH = 50  # entries in the bin of a typical entry
TAIL = 0.004  # of the entries on either side that a picture may leave out
WORST = 0.4  # relative error of the reference beyond which a ratio says nothing
RATIO_RANGE = (0.75, 1.25)
STEPS = (1, 2, 5, 10)
SPREAD = 0.5  # of a bin, over which the ratio's points of several models are spread


@dataclass(frozen=True)
class Curve:
    """Bin contents (B,) over edges (B + 1,), with the ends of their 68 % intervals."""

    edges: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def scaled(self, factor: np.ndarray | float) -> Curve:
        """Contents and intervals times ``factor``."""
        return Curve(self.edges, self.values * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class Curves:
    """The reference and every model in the same bins."""

    reference: Curve
    models: tuple[tuple[Model, Curve], ...]
    name: str = ""

    @property
    def all(self) -> list[Curve]:
        """The reference first."""
        return [self.reference, *(curve for _, curve in self.models)]


def curves_of_histogram(comparison: Comparison, name: str) -> Curves:
    """Entries per shower and bin with statistical intervals; fine bins joined, far tails cut.

    The intervals are Garwood's for small counts (Biometrika 28 (1936) 437); where several voxels of one
    shower may fall into a bin, the count is first scaled to the number of independent entries.
    """
    records = [model.histogram(name) for model in comparison.models]
    filled = [record for record in records if record is not None]
    one = filled[0]
    sides = [one["reference"], *(record["generated"] for record in filled)]
    showers = [comparison.reference_showers, *(model.showers for model in comparison.models)]
    if one.get("window"):  # only some of the showers were counted, each of them once
        showers = [max(1, sum(side["counts"]) + side["underflow"] + side["overflow"]) for side in sides]
    counts = [np.array(side["counts"], dtype=float) for side in sides]
    squares = [np.array(side.get("sum_squares", side["counts"]), dtype=float) for side in sides]
    factor = _joining_factor(counts[0])
    edges = np.array(one["edges"])[::factor]
    counts = [part.reshape(-1, factor).sum(axis=1) for part in counts]
    squares = [part.reshape(-1, factor).sum(axis=1) for part in squares]
    cut = _bulk(counts, TAIL if one["observable"] != "voxel_energy" else 0.0)
    kept = edges[cut.start : cut.stop + 1]
    made = [
        _counted(kept, part[cut], square[cut], n)
        for part, square, n in zip(counts, squares, showers, strict=True)
    ]
    return Curves(made[0], tuple(zip(comparison.models, made[1:], strict=True)), name)


def curves_of_profile(comparison: Comparison, name: str, edges: np.ndarray, area: np.ndarray) -> Curves:
    """Means of an observable in bins, divided by ``area``, plus and minus their errors."""

    def curve(record: Record, side: str) -> Curve:
        mean, error = (
            np.array(record["means"][name][side][key], dtype=float) / area for key in ("mean", "error")
        )
        return Curve(edges, mean, mean - error, mean + error)

    models = tuple((model, curve(model.record, "generated")) for model in comparison.models)
    return Curves(curve(comparison.first, "reference"), models, name)


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
    curves: Curves,
    *,
    x_label: str,
    y_label: str,
    reference_label: str,
    title: str = "",
    log_x: bool = False,
    log_y: bool = False,
    room: float = 1.25,
) -> None:
    """Fill main and ratio axes.

    Args:
        axes: From :func:`panel_axes`.
        curves: What is drawn.
        x_label: Below.
        y_label: At the left.
        reference_label: For a legend; the models bring their own.
        title: Above, small.
        log_x: Logarithmic bins.
        log_y: Logarithmic contents.
        room: Height of the axis in units of the highest content; a legend needs 1.25 and more.
    """
    main, ratio = axes
    edges = curves.reference.edges
    base = _baseline(curves) if log_y else 0.0
    _draw_contents(main, curves, base, reference_label)
    main.set_ylabel(y_label)
    if log_x:
        main.set_xscale("log")
        _log_ticks(ratio, edges)
    else:
        ratio.xaxis.set_major_locator(MaxNLocator(6, integer=x_label == "layer", steps=STEPS))
    top = max([base, *(float(np.nanmax(curve.high, initial=0.0)) for curve in curves.all)]) or 1.0
    if log_y:
        main.set_yscale("log")
    main.set_ylim(base, top * (12 if log_y else room))
    main.set_xlim(edges[0], edges[-1])
    if title:
        main.set_title(title, loc="left", fontsize=9.5, pad=4)
    _draw_ratio(ratio, curves)
    ratio.set_xlabel(x_label)


def _draw_contents(axes: Axes, curves: Curves, base: float, reference_label: str) -> None:
    """The reference filled, the models as lines, bands for all; nothing below ``base``."""
    reference, edges = curves.reference, curves.reference.edges
    shown = np.maximum(reference.values, base)
    axes.stairs(shown, edges, baseline=base, fill=True, color=REFERENCE, label=reference_label)
    axes.stairs(shown, edges, baseline=None, color=REFERENCE_EDGE, linewidth=0.9)
    _band(axes, reference, REFERENCE_EDGE, 0.45)
    for model, curve in curves.models:
        values = np.where(curve.values > 0, curve.values, np.nan) if base else curve.values
        line = {"color": model.colour, "linestyle": model.dash, "linewidth": 1.5}
        axes.stairs(values, edges, baseline=None, label=model.label, **line)
        _band(axes, curve, model.colour, 0.22)


def _draw_ratio(axes: Axes, curves: Curves) -> None:
    """Models over reference: grey band for the reference's interval, bars for the models'."""
    reference = curves.reference
    filled = reference.values > 0
    safe = np.where(filled, reference.values, 1.0)
    ends = [np.where(filled, end / safe, 1.0) for end in (reference.low, reference.high)]
    known = filled & (np.maximum(ends[1] - 1.0, 1.0 - ends[0]) < WORST)
    axes.axhline(1.0, color=REFERENCE_EDGE, linewidth=0.9)
    _band(axes, Curve(reference.edges, np.ones_like(safe), ends[0], ends[1]), REFERENCE_EDGE, 0.35)
    for model, curve in curves.models:
        shift = SPREAD * ((model.number + 0.5) / len(curves.models) - 0.5)
        _draw_points(axes, model, _places(reference.edges, shift), curve.scaled(1.0 / safe), known)
    axes.set_ylim(*RATIO_RANGE)
    for level in (0.8, 1.2):
        axes.axhline(level, color=REFERENCE_EDGE, linewidth=0.6, linestyle=":")
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.set_ylabel("ratio", loc="center")


def _draw_points(axes: Axes, model: Model, places: np.ndarray, ratio: Curve, known: np.ndarray) -> None:
    low, high = RATIO_RANGE
    marks = (("^", 0.96, ratio.values > high), ("v", 0.04, ratio.values < low))
    for marker, height, beyond in marks:
        out = places[known & beyond]
        level = np.full(len(out), low + height * (high - low))
        axes.plot(out, level, marker, color=model.colour, markersize=3.4, alpha=0.8)
    inside = known & (ratio.values <= high) & (ratio.values >= low)
    values = ratio.values[inside]
    axes.errorbar(
        places[inside],
        values,
        yerr=np.maximum([values - ratio.low[inside], ratio.high[inside] - values], 0.0),
        fmt=model.marker,
        markersize=2.8,
        linewidth=0.9,
        color=model.colour,
    )


def _counted(edges: np.ndarray, counts: np.ndarray, squares: np.ndarray, showers: int) -> Curve:
    if not counts.any():
        return Curve(edges, counts, counts, counts)
    low, high = np.asarray(poisson_interval(counts, squares))
    empty = counts == 0
    low, high = np.where(empty, 0.0, low), np.where(empty, 0.0, high)
    return Curve(edges, counts, low, high).scaled(1.0 / showers)


def _band(axes: Axes, curve: Curve, colour: str, alpha: float) -> None:
    axes.stairs(
        curve.high, curve.edges, baseline=curve.low, fill=True, color=colour, alpha=alpha, linewidth=0
    )


def _baseline(curves: Curves) -> float:
    values = np.concatenate([curve.values for curve in curves.all])
    positive = values[values > 0]
    return 0.5 * float(positive.min()) if len(positive) else 1e-3


def _places(edges: np.ndarray, shift: float) -> np.ndarray:
    """A point in each bin, ``shift`` bins away from its middle."""
    logarithmic = edges[0] > 0 and len(edges) > 2 and not np.allclose(np.diff(edges), edges[1] - edges[0])
    part = 0.5 + shift
    if logarithmic:
        return np.asarray(edges[:-1] * (edges[1:] / edges[:-1]) ** part)
    return np.asarray(edges[:-1] + part * np.diff(edges))


def _log_ticks(axes: Axes, edges: np.ndarray) -> None:
    """Label 1, 2, 5 of each decade on a short axis, decades on a long one."""
    if edges[-1] / edges[0] < 300:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _bulk(counts: Sequence[np.ndarray], tail: float) -> slice:
    """The bins between the outermost ``tail`` of any sample (all filled ones for tail 0)."""
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
