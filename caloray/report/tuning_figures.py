"""Figures of a tuning campaign: history, importance, parallel coordinates, trade-off, confirmation."""

from __future__ import annotations

__all__ = [
    "SHADES",
    "draw_confirmation",
    "draw_history",
    "draw_importance",
    "draw_parallel",
    "draw_trade_off",
]

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from caloray.report.style import COLOURS, MARKERS, REFERENCE_EDGE, new_figure, plain
from caloray.report.tuning_view import Campaign, Objective, Record, ticks_of

BEST, BASELINE, POINTS = COLOURS[0], REFERENCE_EDGE, COLOURS[1]
SHADES = "viridis"
FAR = 3.0
"""Distances from the lowest value to the median, above which a value is only counted at the edge."""
BLIND = 0.1
"""R^2 on unseen trials below which bars are grey: the shares are mostly noise."""
PALE = "#c8c8c8"
BOX = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}


def draw_history(campaign: Campaign, objective: Objective) -> Figure:
    """Every complete trial against its number; those of the full budget, enlarged, against CPU hours."""
    figure = new_figure(10.5, 4.4)
    left, right = figure.subplots(1, 2)
    hours = [float(h) for h in campaign.record["history"]["cpu_hours"]]
    numbers = [float(trial["number"]) for trial in campaign.record["trials"]]
    for axes, places in ((left, numbers), (right, hours)):
        _draw_trials(axes, campaign, objective, places, only_full=axes is right)
        _draw_best(axes, campaign, objective, places)
    before = None if campaign.baseline is None else float(campaign.baseline["values"][objective.name])
    set_limits(left, campaign.values(objective.name), before)
    set_limits(right, [float(trial["values"][objective.name]) for trial in campaign.whole], before)
    left.set_title("all trials", loc="left", fontsize=10)
    right.set_title("full budget", loc="left", fontsize=10)
    left.set_xlabel("trial")
    right.set_xlabel("CPU time spent by then [h]")
    left.set_ylabel(objective.label)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(5, len(labels)), frameon=False)
    return figure


def _draw_trials(
    axes: Axes, campaign: Campaign, objective: Objective, places: Sequence[float], *, only_full: bool
) -> None:
    for i, level in enumerate(campaign.levels):
        chosen = [
            (places[j], trial["values"][objective.name])
            for j, trial in enumerate(campaign.record["trials"])
            if trial in campaign.searched and trial["level"] == level and trial["full"] >= only_full
        ]
        if chosen:
            full = campaign.filled(level)
            axes.scatter(
                [x for x, _ in chosen],
                [y for _, y in chosen],
                marker=MARKERS[i % len(MARKERS)],
                s=26,
                facecolor=POINTS if full else "none",
                edgecolor=POINTS,
                linewidth=0.9,
                label=level_label(level),
                zorder=2,
            )
    baseline = campaign.baseline
    if baseline is not None:
        value = baseline["values"][objective.name]
        axes.axhline(value, color=BASELINE, linestyle=(0, (5, 2)), linewidth=1.2, label="baseline", zorder=1)


def _draw_best(axes: Axes, campaign: Campaign, objective: Objective, places: Sequence[float]) -> None:
    best = campaign.record["history"]["best"][objective.name]
    known = [(x, y) for x, y in zip(places, best, strict=True) if y is not None]
    if known:
        x, y = zip(*known, strict=True)
        axes.step(x, y, where="post", color=BEST, linewidth=1.6, label="best so far", zorder=3)


def level_label(level: str) -> str:
    """Of one training budget, in a legend."""
    return plain(level)


def set_limits(axes: Axes, values: Sequence[float], keep: float | None = None) -> None:
    """A vertical range that shows the better half and what is near; what lies far above is only counted.

    Args:
        axes: Whose points are drawn already.
        values: All values that are drawn.
        keep: A value that is shown in any case.
    """
    if not values:
        return
    shown = _near(values, keep)
    bottom, top = min(shown), max(shown)
    margin = 0.06 * (top - bottom) or 0.05 * abs(top) or 1.0
    axes.set_ylim(bottom - margin, top + margin)
    above = len(values) - len(shown)
    if above:
        text = f"{above} trial{'s' if above > 1 else ''} above the range"
        axes.text(
            0.98,
            0.97,
            text,
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=9,
            color="#444",
            zorder=9,
            bbox=BOX,
        )


def _near(values: Sequence[float], keep: float | None = None) -> list[float]:
    """Values that are not far above the better half, and ``keep``'s like."""
    middle, lowest = float(np.median(values)), min(values)
    limit = max(middle + FAR * (middle - lowest) + 1e-12, lowest if keep is None else keep)
    return [value for value in values if value <= limit] or list(values)


def draw_importance(campaign: Campaign, objective: Objective) -> Figure:
    """Share of each parameter in the variance of the objective; bars are the spread between forests."""
    found = campaign.record["importance"][objective.name]
    shares = [(campaign.labels[one["parameter"]], one["share"], one["spread"]) for one in found["shares"]]
    shares.append(("interactions", found["interactions"], 0.0))
    names, values, errors = zip(*reversed(shares), strict=True)
    figure = new_figure(8.2, 1.2 + 0.36 * len(shares))
    axes = figure.add_subplot()
    colours = [PALE, *[POINTS if found["explained"] >= BLIND else PALE] * (len(shares) - 1)]
    axes.barh(range(len(shares)), values, xerr=errors, color=colours, height=0.66, error_kw={"capsize": 2})
    axes.set_yticks(range(len(shares)), [plain(name) for name in names])
    axes.tick_params(axis="y", which="both", length=0)
    axes.set_xlim(0, min(1.0, max(0.05, *(v + e for v, e in zip(values, errors, strict=True))) * 1.05))
    axes.set_xlabel(f"share of the variance of {objective.short}")
    return figure


def draw_parallel(campaign: Campaign, objective: Objective) -> Figure:
    """One line per trial through its settings; bright is good, the best one thick, the baseline dashed."""
    parameters = campaign.parameters
    figure = new_figure(max(7.0, 1.25 * len(parameters) + 1.8), 5.0)
    axes = figure.add_subplot()
    trials = sorted(campaign.crowd(objective.name), key=lambda trial: -trial["values"][objective.name])
    values = [trial["values"][objective.name] for trial in trials]
    shades = ScalarMappable(_norm(values), colormaps[f"{SHADES}_r"])
    for trial, value in zip(trials, values, strict=True):
        best = trial["assignment"] == campaign.best_assignment
        style: dict[str, Any] = {"linewidth": 3.0, "zorder": 5} if best else {"linewidth": 1.1, "alpha": 0.75}
        colour = shades.to_rgba(np.array([value]))[0]
        axes.plot(_places(campaign, trial["assignment"]), color=colour, **style)
        if best:
            axes.plot(_places(campaign, trial["assignment"]), color=BEST, linewidth=1.0, zorder=6)
    known = {p["name"]: p["baseline"] for p in parameters if p["baseline"] is not None}
    if len(known) == len(parameters):
        axes.plot(_places(campaign, known), color=BASELINE, linestyle=(0, (4, 2)), linewidth=1.6, zorder=4)
    for i, parameter in enumerate(parameters):
        _draw_axis(axes, i, parameter)
    names = [plain(campaign.labels[p["name"]]).replace(" · ", "\n") for p in parameters]
    axes.set_xticks(range(len(parameters)), names)
    axes.set_xlim(-0.15, len(parameters) - 0.45)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.tick_params(axis="x", length=0, pad=8)
    for side in ("top", "left", "right", "bottom"):
        axes.spines[side].set_visible(False)
    beyond = "max" if any(value > shades.norm.vmax for value in values) else "neither"
    figure.colorbar(shades, ax=axes, label=objective.label, pad=0.015, aspect=32, extend=beyond)
    return figure


def _norm(values: Sequence[float]) -> Normalize:
    """Colours for what is near the better half; what lies far above has the last of them."""
    near = _near(values) if values else [0.0, 1.0]
    low, high = min(near), max(near)
    return Normalize(low, high if high > low else low + 1e-9)


def _places(campaign: Campaign, assignment: Record) -> list[float]:
    return [campaign.place(p, assignment.get(p["name"])) for p in campaign.parameters]


def _draw_axis(axes: Axes, x: int, parameter: Record) -> None:
    """A vertical line with its ticks to the right."""
    axes.plot([x, x], [0, 1], color="#333", linewidth=1.0, zorder=7)
    for place, text in ticks_of(parameter):
        axes.plot([x, x + 0.04], [place, place], color="#333", linewidth=0.9, zorder=7)
        axes.text(x + 0.06, place, plain(text), fontsize=9, va="center", zorder=8, bbox=BOX)


def draw_trade_off(campaign: Campaign) -> Figure:
    """Two objectives against each other, with those trials joined that no other beats in both."""
    first, second = campaign.objectives[:2]
    figure = new_figure(7.4, 5.2)
    axes = figure.add_subplot()
    front = set(campaign.record["pareto"])
    points = [(t["values"][second.name], t["values"][first.name], t["number"]) for t in campaign.whole]
    beaten = [(x, y) for x, y, number in points if number not in front]
    kept = sorted((x, y, number) for x, y, number in points if number in front)
    if beaten:
        x, y = zip(*beaten, strict=True)
        axes.scatter(x, y, s=24, facecolor="none", edgecolor=POINTS, label="beaten by another")
    if kept:
        x, y, _ = zip(*kept, strict=True)
        axes.step(x, y, where="post", color=BEST, linewidth=1.2, zorder=3)
        axes.scatter(x, y, s=38, color=BEST, marker="D", label="Pareto front", zorder=4)
        for across, up, number in kept:
            place = (5, 5)
            axes.annotate(str(number), (across, up), place, textcoords="offset points", fontsize=9, zorder=5)
    baseline = campaign.baseline
    if baseline is not None:
        at = baseline["values"][second.name], baseline["values"][first.name]
        axes.scatter(*at, s=150, facecolor="none", edgecolor=BASELINE, label="baseline", zorder=5)
    spans = [x for x, *_ in points]
    if spans and min(spans) > 0 and max(spans) > 20 * min(spans):
        axes.set_xscale("log")
    set_limits(axes, [y for _, y, _ in points])
    axes.set_xlabel(second.label)
    axes.set_ylabel(first.label)
    axes.legend(loc="best", frameon=True, framealpha=0.85)
    return figure


def draw_confirmation(campaign: Campaign, objective: Objective) -> Figure:
    """Every repetition, and mean and standard error of each group."""
    groups = campaign.record["confirm"]["groups"]
    figure = new_figure(7.4, 1.5 + 0.55 * len(groups))
    axes = figure.add_subplot()
    names = []
    for i, group in enumerate(reversed(groups)):
        found = group["objectives"][objective.name]
        colour = BASELINE if group["baseline"] else BEST
        axes.scatter(
            found["values"], [i] * len(found["values"]), s=30, facecolor="none", edgecolor=colour, zorder=3
        )
        error = found["error"]
        axes.errorbar(
            found["mean"],
            i - 0.22,
            xerr=0.0 if error is None or not math.isfinite(error) else error,
            marker="D",
            markersize=5,
            capsize=4,
            color=colour,
            zorder=4,
        )
        names.append(plain(group["label"]))
    axes.set_yticks(range(len(groups)), names)
    axes.set_ylim(-0.7, len(groups) - 0.4)
    axes.tick_params(axis="y", which="both", length=0)
    split = campaign.record["confirm"]["split"]
    axes.set_xlabel(f"{objective.label}, {split} split")
    axes.ticklabel_format(axis="x", useOffset=False)
    return figure
