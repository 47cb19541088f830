"""The di-photon test as a figure: turn-on curves above, differences to the reference below."""

from __future__ import annotations

__all__ = ["draw_diphoton"]

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caloray.report.style import COLOURS, GENERATED, RC, REFERENCE, REFERENCE_EDGE, new_figure

MIXED = COLOURS[1]
STYLES = {
    "reference-reference": (REFERENCE_EDGE, "o", "-"),
    "generated-generated": (GENERATED, "s", "-"),
    "reference-generated": (MIXED, "^", "--"),
}
APART = 0.006  # of the axis, between the differences at one distance


def draw_diphoton(record: dict[str, Any], labels: tuple[str, str]) -> Figure:
    """Draw the turn-on curves with their errors and fits.

    The reference's curve is filled grey; lines are the fits, bands their bootstrap errors over showers. The
    lower panel, drawn when there is a generated sample, shows the differences to the reference's curve in per
    cent; its grey band is the error of the reference alone.

    Args:
        record: From ``compare_diphotons``.
        labels: Names of reference and generated sample.
    """
    with rc_context(RC):
        both = bool(record["differences"])
        figure = new_figure(6.4, 6.2 if both else 4.6)
        if not both:
            main = figure.add_subplot()
            _draw_curves(main, record, labels)
            main.set_xlabel("distance of the photons [mm]")
            return figure
        grid = figure.add_gridspec(2, 1, height_ratios=[3, 1.2], hspace=0.04)
        main = figure.add_subplot(grid[0])
        below = figure.add_subplot(grid[1], sharex=main)
        main.tick_params(labelbottom=False)
        _draw_curves(main, record, labels)
        _draw_differences(below, record)
        below.set_xlabel("distance of the photons [mm]")
        figure.align_ylabels([main, below])
    return figure


def _draw_curves(axes: Axes, record: dict[str, Any], labels: tuple[str, str]) -> None:
    distances = np.array(record["settings"]["distances"])
    for curve in record["curves"]:
        colour, marker, line = STYLES[curve["name"]]
        probability, error = np.array(curve["probability"]), np.array(curve["error"])
        points = {"distance": distances, "value": probability}
        points |= {"low": probability - error, "high": probability + error}
        band = curve["band"] or points
        if curve["name"] == "reference-reference":
            axes.fill_between(band["distance"], 0, band["value"], color=REFERENCE, alpha=0.6, linewidth=0)
        axes.fill_between(band["distance"], band["low"], band["high"], color=colour, alpha=0.3, linewidth=0)
        axes.plot(band["distance"], band["value"], line, color=colour, linewidth=1.1)
        axes.errorbar(
            distances,
            probability,
            yerr=error,
            fmt=marker,
            markersize=4,
            linewidth=0.9,
            color=colour,
            label=_legend(curve, labels),
        )
    axes.set_xlim(distances[0] - 0.5, distances[-1] + 0.5)
    axes.set_ylim(0, 1.42 if len(record["curves"]) > 1 else 1.25)
    axes.set_yticks(np.arange(0, 1.1, 0.2))
    axes.axhline(1.0, color=REFERENCE_EDGE, linewidth=0.6, linestyle=":")
    axes.set_ylabel("share of pairs seen as two")
    axes.legend(loc="upper left", handlelength=1.2)
    axes.set_title(_title(record), loc="left", fontsize=9.5, pad=4)


def _draw_differences(axes: Axes, record: dict[str, Any]) -> None:
    distances = np.array(record["settings"]["distances"])
    axes.axhline(0.0, color=REFERENCE_EDGE, linewidth=0.9)
    reference = 100 * np.array(record["curves"][0]["error"])
    axes.fill_between(distances, -reference, reference, color=REFERENCE_EDGE, alpha=0.25, linewidth=0)
    for number, difference in enumerate(record["differences"]):
        colour, marker, _ = STYLES[difference["name"]]
        delta, error = 100 * np.array(difference["delta"]), 100 * np.array(difference["error"])
        moved = distances + (number - 0.5) * APART * (distances[-1] - distances[0])
        axes.errorbar(moved, delta, yerr=error, fmt=marker, markersize=4, linewidth=0.9, color=colour)
    widest = max(
        float(np.max(np.abs(np.array(one["delta"])) + np.array(one["error"])))
        for one in record["differences"]
    )
    limit = max(3.0, 110 * widest)
    axes.set_ylim(-limit, limit)
    axes.set_ylabel(r"$\Delta P$ [%]")


def _legend(curve: dict[str, Any], labels: tuple[str, str]) -> str:
    names = dict(zip(("reference", "generated"), labels, strict=True))
    text = " + ".join(names[side] for side in curve["name"].split("-"))
    if curve["fit"] is None:
        return text
    d50 = curve["fit"]["d50"]
    error = "" if d50["error"] is None else f" ± {d50['error']:.2f}"
    return rf"{text}: $d_{{50}}$ = {d50['value']:.2f}{error} mm"


def _title(record: dict[str, Any]) -> str:
    first, second = (f"{energy / 1000:g}" for energy in record["settings"]["energies"])
    pairs = record["curves"][0]["pairs"]
    return f"{first} + {second} GeV photons, {record['cell_mm']:.2f} mm cells, {pairs:,} pairs per point"
