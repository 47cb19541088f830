"""The shift study as a figure: separation powers over their floors, and cell energy spectra."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caloray.report.style import COLOURS, MARKERS, RC, REFERENCE, REFERENCE_EDGE, new_figure

SHOWN = ("cell energy", "hits per GeV", "share of the hottest cell", "width in x")
DRAWN = (
    "1x, not shifted",
    "1x, split by area",
    "1x, random points",
    "9x, random points",
    "9x, split by area",
)


def draw(record: dict[str, Any], spectra: dict[str, Any]) -> Figure:
    """Separation power against the shift along x (true readouts where there are any), spectra at 1/3 cell."""
    rows = record.get("true_rows") or record["rows"]
    with rc_context(RC):
        figure = new_figure(11.0, 6.4)
        grid = figure.add_gridspec(2, 6)
        _spectrum(figure.add_subplot(grid[0, :3]), figure.add_subplot(grid[1, :3]), spectra)
        for number, name in enumerate(SHOWN[:2]):
            _powers(figure.add_subplot(grid[number, 3:]), rows, name, legend=number == 0)
    return figure


def _spectrum(above: Axes, below: Axes, spectra: dict[str, Any]) -> None:
    edges = np.array(spectra["edges"])
    truth = np.array(spectra["Geant4"], dtype=float)[1:-1]
    above.stairs(truth, edges, fill=True, color=REFERENCE, label="Geant4, summed from sub-cells")
    above.stairs(truth, edges, color=REFERENCE_EDGE)
    for name, colour in zip(DRAWN, COLOURS, strict=False):
        counts = np.array(spectra[name], dtype=float)[1:-1]
        if name.startswith("1x"):
            above.stairs(counts, edges, color=colour, label=name)
            below.stairs(
                np.divide(counts, truth, out=np.ones_like(counts), where=truth > 0), edges, color=colour
            )
    above.set_xscale("log")
    above.set_yscale("log")
    above.set_ylabel("cells")
    above.legend(title="shift by 1/3 cell along x", fontsize=8.5, title_fontsize=8.5, frameon=True)
    below.axhline(1.0, color=REFERENCE_EDGE, linewidth=0.8)
    below.set_xscale("log")
    below.set_yscale("log")
    below.set_ylim(0.2, 5)
    below.set_yticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    below.minorticks_off()
    above.set_ylim(bottom=10)
    for axes in (above, below):
        axes.set_xlim(0.1, 60)
    below.set_ylabel("ratio to Geant4")
    below.set_xlabel("cell energy [MeV]")


def _powers(axes: Axes, rows: list[dict[str, Any]], name: str, *, legend: bool) -> None:
    along = [row for row in rows if row["observable"] == name and row["shift"][1] == 0]
    shifts = sorted({row["shift"][0] for row in along})
    floor = {row["shift"][0]: row for row in along}
    low, high = ([floor[x]["floor"] + sign * floor[x]["floor_spread"] for x in shifts] for sign in (-1, 1))
    axes.fill_between(shifts, low, high, color=REFERENCE, label="floor: Geant4, other half")
    for way, colour, marker in zip(DRAWN, COLOURS, MARKERS, strict=False):
        mine = sorted((row for row in along if row["way"] == way), key=lambda row: row["shift"][0])
        axes.errorbar(
            [row["shift"][0] for row in mine],
            [row["value"] for row in mine],
            yerr=[row["spread"] for row in mine],
            color=colour,
            marker=marker,
            markersize=4,
            linewidth=1,
            label=way,
        )
    axes.set_yscale("log")
    axes.set_xlabel("shift along x [cells]")
    axes.set_ylabel(f"separation power, {name}")
    if legend:
        axes.set_ylim(top=20 * axes.get_ylim()[1])
        axes.legend(fontsize=8.5, ncols=2)
