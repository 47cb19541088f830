"""The record of one evaluation: what results.json holds."""

from __future__ import annotations

__all__ = ["FILE_NAME", "SCHEMA", "Results"]

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caloray.atomic import write_json
from caloray.errors import DataError
from caloray.evaluation.axes import Axis
from caloray.evaluation.chi2 import chi2_average, chi2_record
from caloray.evaluation.floor import Floor, floor_of
from caloray.evaluation.sample import Sample
from caloray.evaluation.separation import separation_power

SCHEMA = "caloray-results/2"
FILE_NAME = "results.json"
SEPARATION_NAMES = {
    "separation": "separation",
    "floor": "separation_floor",
    "significance": "separation_significance",
}


@dataclass(frozen=True)
class Results:
    """An evaluation as plain JSON values.

    Args:
        data: See ``evaluate`` for the keys. Figures and tables need nothing else.
    """

    data: dict[str, Any]

    @property
    def separations(self) -> list[dict[str, Any]]:
        """One row per observable: separation power (mean over layers), floor, significance, worst layer."""
        return list(self.data["separations"])

    @property
    def summary(self) -> dict[str, Any]:
        """Response, width, hits, sparsity and layer energies with errors."""
        return dict(self.data["summary"])

    @property
    def warnings(self) -> list[str]:
        """What a reader should know before looking at the numbers."""
        return list(self.data["warnings"])

    def numbers(self) -> dict[str, float]:
        """Flat names and numbers for a tracker: ratios of the summary, and every metric and separation power.

        A metric gives ``<name>/value``, ``/matched``, ``/floor`` and ``/significance``; an observable gives
        ``separation/<name>``, ``separation_floor/<name>`` and ``separation_significance/<name>`` (a name must
        not lie below another one: file stores keep them as files and folders).
        """
        found: dict[str, float] = {}
        for key, value in self.summary.items():
            ratio = value.get("ratio") if isinstance(value, dict) else None
            number = ratio.get("value") if isinstance(ratio, dict) else ratio
            if isinstance(number, int | float):
                found[f"{key}_ratio"] = float(number)
        for metric in self.data["metrics"]:
            for key in ("value", "matched", "floor", "significance"):
                if metric.get(key) is not None:
                    found[f"{metric['name']}/{key}"] = float(metric[key])
        return found | self._separation_numbers()

    def _separation_numbers(self) -> dict[str, float]:
        return {
            f"{name}/{row['observable']}": float(row[key])
            for row in self.separations
            for key, name in SEPARATION_NAMES.items()
            if row["separation"] is not None and row.get(key) is not None
        }

    def save(self, directory: Path) -> Path:
        """Write ``results.json`` into ``directory`` and return its path."""
        path = directory / FILE_NAME
        write_json(path, self.data)
        return path

    @staticmethod
    def load(path: Path) -> Results:
        """Read a ``results.json``.

        Raises:
            DataError: Not a results file, or one of another schema.
        """
        try:
            data = json.loads(path.read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            reason = f"{path}: no results can be read ({error})"
            raise DataError(reason, hint="run `caloray evaluate`") from error
        found = data.get("schema") if isinstance(data, dict) else None
        if found != SCHEMA:
            raise DataError(
                f"{path}: schema {found!r}, expected {SCHEMA!r}",
                hint="run `caloray evaluate` again with this version",
            )
        return Results(data)


def histogram_records(axes: Sequence[Axis], reference: Sample, generated: Sample) -> list[dict[str, Any]]:
    """One JSON record per histogram: edges, counts, what fell outside, separation power and floor."""
    records = []
    for i, axis in enumerate(axes):
        value = separation_power(reference.counts(i)[1:-1], generated.counts(i)[1:-1])
        records.append(
            {
                "name": axis.name,
                "observable": axis.observable,
                "layer": axis.layer,
                "window": None if axis.window is None else list(axis.window),
                "scale": axis.scale,
                "edges": [float(edge) for edge in axis.edges],
                "reference": _counts(reference, i),
                "generated": _counts(generated, i),
                **_separation(value, floor_of(reference, i, generated.n)),
                **chi2_record(reference, generated, i),
            }
        )
    return records


def separation_table(
    axes: Sequence[Axis], records: Sequence[dict[str, Any]], reference: Sample, n_generated: int
) -> list[dict[str, Any]]:
    """One row per observable; those with a histogram per layer are averaged over the layers.

    So are their floors, halving by halving: the spread is that of the average.
    """
    groups: dict[str, list[int]] = {}
    for i, axis in enumerate(axes):
        groups.setdefault(axis.observable, []).append(i)
    rows = []
    for observable, members in groups.items():
        filled = [i for i in members if records[i]["separation"] is not None]
        values = [float(records[i]["separation"]) for i in filled]
        floor = Floor.average([floor_of(reference, i, n_generated) for i in filled])
        worst = max(filled, key=lambda i: records[i]["significance"] or 0.0, default=None)
        layered = worst is not None and axes[worst].layer is not None
        rows.append(
            {
                "observable": observable,
                "histograms": len(filled),
                **_separation(sum(values) / len(values) if values else None, floor),
                "worst_layer": axes[worst].layer if layered and worst is not None else None,
                "worst_separation": records[worst]["separation"] if worst is not None else None,
                **chi2_average(reference, {i: records[i] for i in members}),
                "outside": _outside(records, members),
            }
        )
    return rows


def _counts(sample: Sample, axis: int) -> dict[str, Any]:
    counts = [int(count) for count in sample.counts(axis)]
    record: dict[str, Any] = {"counts": counts[1:-1], "underflow": counts[0], "overflow": counts[-1]}
    if sample.axes[axis].observable == "voxel_energy":
        record["sum_squares"] = [int(value) for value in sample.voxel_squares[1:-1]]
    return record


def _separation(value: float | None, floor: Floor) -> dict[str, Any]:
    return {
        "separation": value,
        "floor": floor.mean,
        "floor_spread": floor.spread,
        "ratio": floor.ratio(value),
        "significance": floor.significance(value),
    }


def _outside(records: Sequence[dict[str, Any]], members: Sequence[int]) -> dict[str, float]:
    """Fraction of entries out of range, per sample."""
    fractions = {}
    for side in ("reference", "generated"):
        out = sum(records[i][side]["underflow"] + records[i][side]["overflow"] for i in members)
        inside = sum(sum(records[i][side]["counts"]) for i in members)
        fractions[side] = out / max(1, out + inside)
    return fractions
