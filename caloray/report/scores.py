"""Classifiers' curves, and every metric beside its floor."""

from __future__ import annotations

__all__ = ["draw_classifiers", "draw_metrics"]

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from caloray.evaluation.limits import CLEAR, DOUBTFUL
from caloray.report.comparison import Comparison, Model, Record
from caloray.report.style import REFERENCE_EDGE, new_figure, plain

Key = tuple[str, str]
COLUMNS = 4


def draw_classifiers(comparison: Comparison) -> Figure:
    """ROC curves above, calibration below, one column per classifier."""
    found: dict[Key, list[tuple[Model, Record]]] = {}
    for model in comparison.having("classifiers"):
        for record in model.record["classifiers"]:
            found.setdefault((record["input"], record["model"]), []).append((model, record))
    columns = min(COLUMNS, len(found))
    blocks = -(-len(found) // COLUMNS)
    figure = new_figure(max(4.2 * columns, 5.0), 7.4 * blocks)
    grid = figure.add_gridspec(2 * blocks, columns, height_ratios=[1.25, 1.0] * blocks)
    for i, entries in enumerate(found.values()):
        row, column = 2 * (i // COLUMNS), i % COLUMNS
        _draw_roc(figure.add_subplot(grid[row, column]), entries, comparison)
        _draw_calibration(figure.add_subplot(grid[row + 1, column]), entries, comparison)
    if not all(record["comparable"] for entries in found.values() for _, record in entries):
        figure.supxlabel("* not comparable with published numbers", fontsize=9.5, x=0.01, ha="left")
    return figure


def _draw_roc(axes: Axes, entries: list[tuple[Model, Record]], comparison: Comparison) -> None:
    first = entries[0][1]
    axes.plot([0, 1], [0, 1], color=REFERENCE_EDGE, linewidth=0.8, linestyle=":")
    for model, record in entries:
        if record.get("roc"):
            auc = record["auc"]
            label = f"{model.short}: {_auc(auc)}\n{auc['matched']:.3f} at the floor's size"
            curve = record["roc"]
            axes.plot(
                curve["fpr"],
                curve["tpr"],
                color=model.colour,
                linestyle=model.dash,
                linewidth=1.6,
                label=label,
            )
    if first.get("floor_roc"):
        auc = first["auc"]
        label = f"floor ({auc['pair_showers']:,} showers): {auc['floor']:.3f} ± {_digits(auc['spread'])}"
        curve = first["floor_roc"]
        axes.plot(curve["fpr"], curve["tpr"], color=REFERENCE_EDGE, linewidth=1.3, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel(f"generated taken for {comparison.reference_short}")
    axes.set_ylabel(f"{comparison.reference_short} taken for {comparison.reference_short}")
    axes.set_title(plain(first["title"]) + ("" if first["comparable"] else " *"), loc="left", fontsize=10)
    axes.legend(loc="lower right", title="AUC of all showers", title_fontsize=9.5, alignment="left")


def _draw_calibration(axes: Axes, entries: list[tuple[Model, Record]], comparison: Comparison) -> None:
    axes.plot([0, 1], [0, 1], color=REFERENCE_EDGE, linewidth=0.8, linestyle=":")
    for model, record in entries:
        curve = record.get("calibration")
        if curve and curve["predicted"]:
            share, counts = np.array(curve["observed"]), np.maximum(np.array(curve["counts"]), 1)
            # Of the share pulled towards 1/2 (Agresti and Coull, Am. Stat. 52, 119): never zero.
            pulled = (share * counts + 2) / (counts + 4)
            error = np.sqrt(pulled * (1 - pulled) / (counts + 4))
            style: dict[str, Any] = {"fmt": model.marker, "markersize": 3.5, "linewidth": 0.9}
            axes.errorbar(curve["predicted"], share, yerr=error, color=model.colour, **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("answer of the classifier")
    axes.set_ylabel(f"share of {comparison.reference_short}")
    axes.set_title("calibration", loc="left", fontsize=10)


def draw_metrics(comparison: Comparison) -> Figure:
    """By how many spreads of the floor every metric lies above its floor, worst first."""
    rows: dict[str, dict[int, Record]] = {}
    for model in comparison.having("metrics"):
        for metric in model.record["metrics"]:
            rows.setdefault(metric["name"], {})[model.number] = metric
    order = sorted(rows.values(), key=lambda row: -max(_place(metric) for metric in row.values()))
    number = len(comparison.models)
    height = 0.3 if number == 1 else 0.2 + 0.14 * number
    figure = new_figure(11.5, 1.7 + height * len(order))
    axes = figure.add_subplot()
    axes.axvspan(-CLEAR, DOUBTFUL, color="#e9e9e9", zorder=0)
    axes.axvline(0, color=REFERENCE_EDGE, linewidth=0.9)
    for level in (-CLEAR, CLEAR):
        axes.axvline(level, color=REFERENCE_EDGE, linewidth=0.7, linestyle=":")
    thick = 0.7 / number
    for place, row in enumerate(order):
        for i, metric in row.items():
            at = place + (i + 0.5 - 0.5 * number) * thick
            colour = comparison.models[i].colour
            known = metric.get("significance")
            if known is None:
                axes.text(0, at, "no spread", color=colour, fontsize=8, ha="center", va="center")
            else:
                axes.barh(at, known, height=0.9 * thick, color=colour, zorder=2)
    axes.set_xscale("symlog", linthresh=DOUBTFUL, linscale=0.6)
    known = [metric.get("significance") for row in order for metric in row.values()]
    _bound(axes, [value for value in known if value is not None])
    axes.set_yticks(range(len(order)), [plain(next(iter(row.values()))["label"]) for row in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="y", which="both", left=False, right=False)
    axes.set_xlabel("worse than the floor by so many spreads; far below it is suspicious")
    _name(axes, comparison, order)
    return figure


def _bound(axes: Axes, values: list[float]) -> None:
    low, high = min([-CLEAR, *values]), max([CLEAR, *values])
    axes.set_xlim(1.6 * low - 1, 1.6 * high)
    marks = [-100, -50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50, 100, 1000, 10_000]
    axes.set_xticks([mark for mark in marks if 1.6 * low - 1 <= mark <= 1.6 * high])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())


def _name(axes: Axes, comparison: Comparison, order: list[dict[int, Record]]) -> None:
    """The numbers themselves at the right for one model, a legend for several."""
    if not comparison.single:
        for model in comparison.models:
            axes.barh(0, 0, color=model.colour, label=model.short)
        axes.legend(loc="lower right", frameon=True)
        return
    side = axes.twinx()
    side.set_ylim(axes.get_ylim())
    texts = []
    for row in order:
        metric = next(iter(row.values()))
        spread = f" ± {_digits(metric['spread'])}" if metric["spread"] else ""
        texts.append(f"{metric['matched']:.3g}  |  {metric['floor']:.3g}{spread}")
    side.set_yticks(range(len(order)), texts)
    side.yaxis.set_minor_locator(NullLocator())
    side.tick_params(axis="y", which="both", left=False, right=False)
    side.set_title("compared  |  floor ± spread", loc="right", fontsize=10)


def _place(metric: Record) -> float:
    """For the order: metrics without a spread come last."""
    value = metric.get("significance")
    return -np.inf if value is None else float(value)


def _auc(metric: Record) -> str:
    error = metric.get("error")
    return f"{metric['value']:.3f}" + ("" if error is None else f" ± {_digits(error)}")


def _digits(value: float) -> str:
    return f"{value:.2g}"
