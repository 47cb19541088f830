"""Separation powers and chi2 of all histograms beside their floors."""

from __future__ import annotations

__all__ = ["draw_chi2", "draw_overview", "has_chi2"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from caloray.evaluation.limits import INPUTS
from caloray.report.comparison import Comparison, Model, Record
from caloray.report.style import REFERENCE, REFERENCE_EDGE, new_figure, title_of


@dataclass(frozen=True)
class Keys:
    """Where a histogram's record keeps a number, its floor and the floor's spread."""

    value: str
    floor: str
    spread: str
    label: str


SEPARATION = Keys("separation", "floor", "floor_spread", "separation power")
CHI2 = Keys("chi2_per_ndf", "chi2_floor", "chi2_floor_spread", r"$\chi^2$/NDF")


def draw_overview(comparison: Comparison) -> Figure:
    """All separation powers beside their floors: one row per observable, one panel per layered observable."""
    return _draw(comparison, SEPARATION, "Separation power (mean over layers)")


def draw_chi2(comparison: Comparison) -> Figure:
    """chi2/NDF of every histogram beside its floor, in the same order."""
    return _draw(comparison, CHI2, r"$\chi^2$/NDF (mean over layers)")


def has_chi2(comparison: Comparison) -> bool:
    """Whether the records hold chi2."""
    return all(
        any(one.get("chi2_per_ndf") is not None for one in model.record["separations"])
        for model in comparison.models
    )


def _draw(comparison: Comparison, keys: Keys, title: str) -> Figure:
    groups = _groups(comparison.first["histograms"])
    judged = [name for name in groups if name not in INPUTS]
    layered = [
        name for name, members in groups.items() if len(members) > 1 and members[0]["layer"] is not None
    ]
    columns = min((4, 5), key=lambda n: -len(layered) % n)
    rows = -(-len(layered) // columns)
    figure = new_figure(14, 4.4 + 2.9 * rows)
    names = ", ".join(model.label for model in comparison.models)
    figure.suptitle(f"{title}: {names} against {comparison.reference_label}", fontsize=12)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[1.35] + [1.0] * rows)
    _summary_panel(figure.add_subplot(grid[0, :]), comparison, judged, keys)
    for i, observable in enumerate(layered):
        axes = figure.add_subplot(grid[1 + i // columns, i % columns])
        _layer_panel(axes, comparison, observable, keys)
        axes.set_title(title_of(observable), loc="left", fontsize=10.5)
    return figure


def _groups(records: Sequence[Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(str(record["observable"]), []).append(record)
    return groups


def _numbers(records: Sequence[Record], key: str) -> np.ndarray:
    return np.array([np.nan if record.get(key) is None else record[key] for record in records], dtype=float)


def _mean(model: Model, observable: str, keys: Keys) -> tuple[float, float, float]:
    """Value, floor and spread of an observable, of the average where it has several histograms."""
    rows = [row for row in model.record["separations"] if row["observable"] == observable]
    value, floor, spread = (_numbers(rows, key) for key in (keys.value, keys.floor, keys.spread))
    return (float(value[0]), float(floor[0]), float(spread[0])) if rows else (np.nan, np.nan, np.nan)


def _summary_panel(axes: Axes, comparison: Comparison, observables: Sequence[str], keys: Keys) -> None:
    """Values and floors of all observables side by side on a logarithmic axis."""
    number = len(comparison.models)
    width = 0.66 / number
    shown = [name for name in observables if np.isfinite(_mean(comparison.models[0], name, keys)[0])]
    places = np.arange(len(shown), dtype=float)
    for model in comparison.models:
        value, floor, spread = np.array([_mean(model, name, keys) for name in shown]).T
        at = places + (model.number + 0.5 - 0.5 * number) * width
        bar: dict[str, Any] = {"color": REFERENCE, "edgecolor": REFERENCE_EDGE}
        label = f"floor ({comparison.reference_short} halves)" if not model.number else None
        axes.bar(at, floor, width=0.92 * width, label=label, **bar)
        axes.errorbar(at, floor, yerr=np.nan_to_num(spread), fmt="none", color=REFERENCE_EDGE, capsize=3)
        name = keys.label if comparison.single else model.short
        positive = np.where(value > 0, value, np.nan)
        axes.plot(
            at, positive, model.marker if number > 1 else "D", color=model.colour, markersize=6, label=name
        )
        if comparison.single:
            _write_ratios(axes, at, value, floor, spread)
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * 4)
    axes.set_xlim(-0.6, len(shown) - 0.4)
    axes.set_xticks(places, [title_of(name) for name in shown], rotation=25 if len(shown) > 12 else 0)
    axes.tick_params(axis="x", which="minor", bottom=False, top=False)
    axes.set_ylabel(keys.label)
    axes.legend(loc="upper right", ncols=2 if number < 3 else 4)


def _write_ratios(
    axes: Axes, at: np.ndarray, value: np.ndarray, floor: np.ndarray, spread: np.ndarray
) -> None:
    for place, top, base, error in zip(at, value, floor, np.nan_to_num(spread), strict=True):
        if np.isfinite(base) and base > 0 and top > 0:
            height = 1.25 * max(top, base + error)
            axes.text(place, height, _times(top / base), ha="center", va="bottom", fontsize=9)


def _times(ratio: float) -> str:
    return f"×{ratio:.2f}" if ratio < 10 else f"×{ratio:,.0f}"


def _layer_panel(axes: Axes, comparison: Comparison, observable: str, keys: Keys) -> None:
    """One observable over the layers; the floor is the first model's, others differ with their size only."""
    values = []
    for model in comparison.models:
        records = [r for r in model.record["histograms"] if r["observable"] == observable]
        layers = np.array([record["layer"] for record in records])
        value, floor, spread = (_numbers(records, key) for key in (keys.value, keys.floor, keys.spread))
        values.append((model, layers, value))
        if not model.number:
            base = layers, floor, np.nan_to_num(spread)
    layers, floor, spread = base
    every = np.concatenate([*(value for _, _, value in values), floor])
    finite = every[np.isfinite(every) & (every > 0)]
    top = float(finite.max(initial=1e-9))
    bottom = max(0.4 * float(finite.min(initial=top)), 3e-4 * top)
    low, high = np.maximum(floor - spread, bottom), np.maximum(floor + spread, bottom)
    axes.fill_between(layers, low, high, color=REFERENCE, label="floor ± spread")
    axes.plot(layers, np.maximum(floor, bottom), color=REFERENCE_EDGE, linewidth=1)
    for model, places, value in values:
        shown = np.where(value > bottom, value, np.nan)
        axes.plot(places, shown, f"{model.marker}-", color=model.colour, linewidth=0.9, markersize=3)
    axes.set_yscale("log")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(min(bottom, 0.1 * top), 2 * top)
    axes.set_xlabel("layer")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=(1, 2, 5, 10)))
