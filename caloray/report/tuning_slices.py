"""Slices: the objective against each searched parameter, the learning-rate schedule and the splines first."""

from __future__ import annotations

__all__ = ["draw_slices"]

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from caloray.report.style import COLOURS, MARKERS, REFERENCE_EDGE, new_figure, plain
from caloray.report.tuning_figures import set_limits
from caloray.report.tuning_view import Campaign, Objective, Record, place_of, ticks_of

BEST, POINT = COLOURS[0], COLOURS[1]
COLUMNS = 4
SIDE = 0.06


def draw_slices(campaign: Campaign, objective: Objective) -> Figure:
    """One panel per parameter; markers tell the budget, the star is the best, dashes are the baseline."""
    parameters = campaign.parameters
    columns = min(COLUMNS, len(parameters))
    rows = -(-len(parameters) // columns)
    figure = new_figure(max(3.1 * columns, 6.0), 2.9 * rows + 0.5)
    panels = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for i, (axes, parameter) in enumerate(zip(panels, parameters, strict=False)):
        _draw_slice(axes, campaign, objective, parameter)
        if i % columns == 0:
            axes.set_ylabel(objective.short if rows > 1 else objective.label, loc="center")
    for axes in panels[len(parameters) :]:
        axes.set_visible(False)
    before = None if campaign.baseline is None else float(campaign.baseline["values"][objective.name])
    set_limits(panels[0], campaign.values(objective.name), before)
    figure.legend(handles=_legend(campaign), loc="outside upper center", ncols=6, frameon=False)
    return figure


def _draw_slice(axes: Axes, campaign: Campaign, objective: Objective, parameter: Record) -> None:
    name = str(parameter["name"])
    for trial in campaign.searched:
        if name not in trial["assignment"]:
            continue
        at = place_of(parameter, trial["assignment"][name]) + _aside(parameter, int(trial["number"]))
        full, value = bool(trial["full"]), trial["values"][objective.name]
        axes.scatter(at, value, s=22, linewidth=0.9, **_style(campaign, trial, full=full))
        if trial["number"] == campaign.record["chosen"]:
            axes.scatter(at, value, s=120, marker="*", color=BEST, edgecolor="white", linewidth=0.6, zorder=5)
    baseline = place_of(parameter, parameter["baseline"])
    if math.isfinite(baseline) and -SIDE < baseline < 1 + SIDE:
        axes.axvline(baseline, color=REFERENCE_EDGE, linestyle=(0, (4, 2)), linewidth=1.1, zorder=1)
    elif math.isfinite(baseline):
        _point_outside(axes, beyond=baseline > 1)
    if campaign.baseline is not None:
        value = campaign.baseline["values"][objective.name]
        axes.axhline(value, color=REFERENCE_EDGE, linestyle=(0, (4, 2)), linewidth=1.1, zorder=1)
    places, texts = zip(*ticks_of(parameter), strict=True)
    axes.set_xticks(places, [plain(text) for text in texts])
    axes.minorticks_off()
    axes.tick_params(axis="x", labelsize=9)
    margin = 0.3 / max(1, len(places) - 1) if parameter["choices"] else SIDE
    axes.set_xlim(-margin, 1 + margin)
    scale = " (log)" if parameter["log"] else ""
    axes.set_xlabel(plain(campaign.labels[name]) + scale, loc="center")


def _aside(parameter: Record, number: int) -> float:
    """A step aside for points that would lie on each other: those of choices and of few integers."""
    choices = parameter["choices"]
    count = len(choices) if choices else (parameter["high"] - parameter["low"] if parameter["whole"] else 99)
    return ((number * 7) % 11 - 5) / 5 * min(0.12 / max(1, count), 0.05) if count < 20 else 0.0


def _style(campaign: Campaign, trial: Record, *, full: bool) -> dict[str, Any]:
    marker = MARKERS[campaign.levels.index(trial["level"]) % len(MARKERS)]
    return {
        "marker": marker,
        "facecolor": POINT if full else "none",
        "edgecolor": POINT,
        "zorder": 3 if full else 2,
    }


def _point_outside(axes: Axes, *, beyond: bool) -> None:
    """Say on which side of the panel the baseline lies."""
    arrow = r"$\rightarrow$" if beyond else r"$\leftarrow$"
    text, at, side = (f"baseline {arrow}", 0.97, "right") if beyond else (f"{arrow} baseline", 0.03, "left")
    axes.text(at, 0.03, text, transform=axes.transAxes, fontsize=8.5, ha=side, color="#444")


def _legend(campaign: Campaign) -> list[Line2D]:
    def handle(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **style)

    points = [
        handle(
            plain(level),
            linestyle="none",
            marker=MARKERS[i % len(MARKERS)],
            markerfacecolor=POINT if campaign.filled(level) else "none",
            markeredgecolor=POINT,
            markersize=5.5,
        )
        for i, level in enumerate(campaign.levels)
    ]
    star = handle("best", linestyle="none", marker="*", color=BEST, markersize=11)
    dashes = handle("baseline", color=REFERENCE_EDGE, linestyle=(0, (4, 2)), linewidth=1.1)
    return [*points, star, dashes]
