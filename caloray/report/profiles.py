"""Quantities against the direction or another scalar of the particle: a figure and a table per scalar."""

from __future__ import annotations

__all__ = ["draw_profile", "profile_table", "profiled"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from caloray.report.comparison import Comparison, Model, Record
from caloray.report.markup import Html, element, join, number, paragraph, plus_minus, table
from caloray.report.panels import panel_axes
from caloray.report.style import REFERENCE, REFERENCE_EDGE, new_figure, plain
from caloray.report.tables import mark

COLUMNS = 4
SPREAD = 0.4  # of a bin, over which the points of several models are spread
ROOM = 0.35  # of the range, left free above and below
UNITS = {"deg": "°"}
REMARK = (
    "In each bin the showers are taken to the reference's mean energy and angle with a linear fit, so errors "
    "leave out what only follows those. Floors are χ²/NDF between halves of the reference."
)


@dataclass(frozen=True)
class _Line:
    """One quantity of one model in the bins of a scalar."""

    model: Model
    profile: Record
    quantity: Record
    models: int

    def mean(self, side: str, key: str = "mean") -> np.ndarray:
        """(B,) means or errors of ``reference`` or ``generated``."""
        return _numbers(self.quantity[side][key])

    @property
    def relative(self) -> bool:
        """Whether samples are compared by their ratio: all but the centres, which lie around zero."""
        return not str(self.quantity["name"]).startswith("centre")

    @property
    def shift(self) -> float:
        """By what part of a bin its points are moved aside."""
        return SPREAD * ((self.model.number + 0.5) / self.models - 0.5)

    @property
    def unit(self) -> np.ndarray | float:
        """What a difference is divided by."""
        if not self.relative:
            return 1.0
        reference = self.mean("reference")
        return np.asarray(0.01 * np.where(reference != 0, np.abs(reference), np.nan))


def profiled(comparison: Comparison) -> list[str]:
    """Scalars that some model has profiles against, in the order of the records."""
    names = (one["condition"] for model in comparison.having("profiles") for one in model.record["profiles"])
    return list(dict.fromkeys(map(str, names)))


def draw_profile(comparison: Comparison, scalar: str) -> Figure:
    """Every quantity over the scalar; below each the difference to the reference and its floor."""
    lines = list(_lines(comparison, scalar))
    names = dict.fromkeys(str(line.quantity["name"]) for line in lines)
    order = sorted(names, key=_row_of)
    rows = -(-len(order) // COLUMNS)
    figure = new_figure(3.8 * min(COLUMNS, len(order)), 3.9 * rows + 0.5)
    grid = figure.add_gridspec(rows, min(COLUMNS, len(order)))
    for i, name in enumerate(order):
        shown = [line for line in lines if line.quantity["name"] == name]
        axes = panel_axes(figure, grid[i // COLUMNS, i % COLUMNS])
        _draw_means(axes[0], shown, comparison.reference_label)
        _draw_differences(axes[1], shown)
        axes[1].set_xlabel(_axis(shown[0].profile))
        if not i:
            handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), fontsize=11)
    return figure


def _row_of(name: str) -> int:
    """Whole shower, centres, widths: each in a row of the figure."""
    return 1 if name.startswith("centre") else 2 * name.startswith("width")


def _lines(comparison: Comparison, scalar: str) -> Iterator[_Line]:
    for model in comparison.having("profiles"):
        for profile in model.record["profiles"]:
            if profile["condition"] == scalar:
                for quantity in profile["quantities"]:
                    yield _Line(model, profile, quantity, len(comparison.models))


def _draw_means(axes: Axes, lines: Sequence[_Line], reference_label: str) -> None:
    first = lines[0]
    edges, base = _numbers(first.profile["edges"]), first.mean("reference")
    error = first.mean("reference", "error")
    axes.stairs(
        base + error,
        edges,
        baseline=base - error,
        fill=True,
        color=REFERENCE,
        linewidth=0,
        label=reference_label,
    )
    axes.stairs(base, edges, baseline=None, color=REFERENCE_EDGE, linewidth=0.9)
    for line in lines:
        _points(axes, line, line.mean("generated"), line.mean("generated", "error"))
    every = [base - error, base + error]
    every += [
        line.mean("generated") + sign * line.mean("generated", "error") for line in lines for sign in (-1, 1)
    ]
    low, high = _range(every)
    axes.set_ylim(low - 0.15 * (high - low), high + ROOM * (high - low))
    axes.set_xlim(edges[0], edges[-1])
    unit = first.quantity["unit"]
    label = plain(str(first.quantity["label"]))
    axes.set_title(f"{label} [{plain(str(unit))}]" if unit else label, loc="left", fontsize=10, pad=4)


def _draw_differences(axes: Axes, lines: Sequence[_Line]) -> None:
    """Generated minus reference with the generated showers' errors; the band is the floor."""
    first = lines[0]
    edges, floor = _numbers(first.profile["edges"]), _numbers(first.quantity["floor"]) / first.unit
    floor = np.nan_to_num(floor)
    axes.stairs(floor, edges, baseline=-floor, fill=True, color=REFERENCE_EDGE, alpha=0.35, linewidth=0)
    axes.axhline(0.0, color=REFERENCE_EDGE, linewidth=0.9)
    every = [floor, -floor]
    for line in lines:
        difference = (line.mean("generated") - line.mean("reference")) / line.unit
        error = line.mean("generated", "error") / line.unit
        _points(axes, line, difference, error)
        every += [difference - error, difference + error]
    low, high = _range(every)
    widest = (1 + 0.5 * ROOM) * max(-low, high)
    axes.set_ylim(-widest, widest)
    axes.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    axes.set_ylabel("diff. [%]" if first.relative else "diff. [mm]", loc="center", fontsize=9.5)


def _points(axes: Axes, line: _Line, values: np.ndarray, errors: np.ndarray) -> None:
    model, edges = line.model, _numbers(line.profile["edges"])
    places = _numbers(line.profile["middles"]) + line.shift * np.diff(edges)
    axes.errorbar(
        places,
        values,
        yerr=errors,
        fmt=model.marker,
        markersize=3.4,
        linewidth=1.1,
        color=model.colour,
        label=model.label,
    )


def _range(parts: Sequence[np.ndarray]) -> tuple[float, float]:
    every = np.concatenate(parts)
    finite = every[np.isfinite(every)]
    if not len(finite):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _axis(profile: Record) -> str:
    """Axis label, for a figure."""
    label, unit = plain(str(profile["label"])), str(profile["unit"])
    return f"{label} [{UNITS.get(unit, plain(unit))}]" if unit else label


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def profile_table(comparison: Comparison) -> Html:
    """chi2/NDF of every quantity against every scalar beside its floor, and where the samples differ most."""
    parts: list[Html] = []
    for scalar in profiled(comparison):
        for model in comparison.having("profiles"):
            rows = [_row(line) for line in _lines(comparison, scalar) if line.model is model]
            if rows:
                of = "" if comparison.single else f": {model.name}"
                parts.append(table(HEAD, rows, f"against {scalar}{of}"))
    return join([*parts, paragraph(REMARK, css="remark")] if parts else [])


HEAD = (
    "quantity",
    "χ²/NDF",
    "bins",
    "floor ± spread",
    "significance",
    "largest difference",
    "there: reference",
    "there: model",
)


def _row(line: _Line) -> tuple[object, ...]:
    quantity = line.quantity
    named = {metric["name"]: metric for metric in line.model.record.get("metrics") or ()}
    metric: Record = named.get(quantity["metric"]) or {}
    value = None if not quantity["ndf"] else quantity["chi2"] / quantity["ndf"]
    pulls = _numbers(quantity["pulls"])
    unit = f" [{quantity['unit']}]" if quantity["unit"] else ""
    found: tuple[object, ...] = "–", "–", "–"
    if np.isfinite(pulls).any():
        worst = int(np.nanargmax(np.abs(pulls)))
        low, high = (number(line.profile["edges"][worst + i], 3) for i in (0, 1))
        found = (
            f"{pulls[worst]:+.1f} errors, {low} to {high} {line.profile['unit']}".strip().replace("-", "−"),
            *(_value(quantity[side], worst) for side in ("reference", "generated")),
        )
    judged = mark(metric["significance"]) if metric else element("span", "–")
    return (
        f"{quantity['label']}{unit}",
        number(value, 3),
        number(quantity["ndf"]),
        plus_minus(metric.get("floor"), metric.get("spread")),
        judged,
        *found,
    )


def _value(side: Record, place: int) -> str:
    return plus_minus(side["mean"][place], side["error"][place])
