"""Time per shower over the batch size."""

from __future__ import annotations

__all__ = ["draw_timing"]

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from caloray.report.comparison import Comparison
from caloray.report.style import REFERENCE_EDGE, new_figure, plain


def draw_timing(comparison: Comparison) -> Figure:
    """Median time per shower of every batch size with its spread, and the reference's, where known."""
    figure = new_figure(7, 4.8)
    axes = figure.add_subplot()
    geant4 = None
    batches: set[int] = set()
    for model, record in comparison.distinct("timing"):
        known = [item for item in record["measurements"] if item["ms"]]
        geant4 = geant4 or (record.get("geant4") or {}).get("seconds")
        if not known:
            continue
        batch = np.array([item["batch"] for item in known])
        batches.update(int(size) for size in batch)
        median = np.array([item["ms"]["median"] for item in known])
        low, high = (_ends(known, end, median) for end in ("low", "high"))
        threads = record["threads"]
        where = f"{record['device']}, {threads} thread{'' if threads == 1 else 's'}"
        style: dict[str, Any] = {"color": model.colour, "linestyle": model.dash, "capsize": 3}
        label = f"{model.short} ({plain(where)})"
        axes.errorbar(
            batch,
            median,
            yerr=np.maximum([median - low, high - median], 0.0),
            marker=model.marker,
            label=label,
            **style,
        )
    if geant4:
        axes.axhline(
            1e3 * geant4, color=REFERENCE_EDGE, linewidth=1.4, label=f"{comparison.reference_short}, one core"
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom / 2, top * 5)
    axes.set_xticks(sorted(batches), [f"{size:,}" for size in sorted(batches)])
    axes.minorticks_off()
    axes.set_xlabel("showers asked for at once")
    axes.set_ylabel("time per shower [ms]")
    axes.legend(loc="upper right")
    return figure


def _ends(known: list[dict[str, Any]], end: str, median: np.ndarray) -> np.ndarray:
    ends = [item["ms"][end] if item["ms"][end] is not None else np.nan for item in known]
    return np.where(np.isfinite(ends), ends, median)
