"""A user's results.json as a row of the leaderboard, with the floors that belong to its numbers."""

from __future__ import annotations

__all__ = ["Entrant", "Floor", "read_entrant"]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caloray.errors import DataError
from caloray.evaluation.results import FILE_NAME, Results
from caloray.leaderboard.published import Entry

# Metric of results.json -> column and factor to its unit.
METRICS = {
    "fpd": ("fpd", 1e3),
    "kpd": ("kpd", 1e3),
    "auc/low/dnn": ("auc_low", 1.0),
    "auc/high/dnn": ("auc_high", 1.0),
    "auc/low/resnet": ("auc_resnet", 1.0),
    "prdc/precision": ("precision", 1.0),
    "prdc/recall": ("recall", 1.0),
    "prdc/density": ("density", 1.0),
    "prdc/coverage": ("coverage", 1.0),
}
SEPARATIONS = {
    "e_ratio": "separation_e_total",
    **{
        name: f"separation_{name}"
        for name in (
            "layer_energy",
            "voxel_energy",
            "centre_eta",
            "centre_phi",
            "centre_r",
            "width_eta",
            "width_r",
            "sparsity",
        )
    },
}
OPTIONAL = ("auc/low/resnet", "prdc/precision", "prdc/recall", "prdc/density", "prdc/coverage")
"""Left out where they do not follow the protocol, instead of keeping the model from being ranked.

Not all of the protocol is recorded for these (learning rate and epochs of the residual network, say).
"""


@dataclass(frozen=True)
class Floor:
    """What belongs to a number of the user's own evaluation, in the unit of its column.

    Args:
        value: Geant4 against Geant4.
        spread: Of that, from pair to pair.
        matched: The number between generated showers and Geant4 at the floor's number of showers.
        significance: By how many spreads it is worse than the floor.
    """

    value: float
    spread: float
    matched: float
    significance: float | None


@dataclass(frozen=True)
class Entrant:
    """A model that its user evaluated.

    Args:
        path: Its results.json.
        entry: All of its numbers.
        floors: Floors of the measured numbers, by column.
        left_out: Columns of ``entry`` that must not stand beside published numbers.
        record: The whole results.json.
    """

    path: Path
    entry: Entry
    floors: Mapping[str, Floor]
    left_out: tuple[str, ...]
    record: Mapping[str, Any]

    @property
    def ranked_entry(self) -> Entry:
        """Its row among published ones."""
        values, errors = (
            {key: number for key, number in numbers.items() if key not in self.left_out}
            for numbers in (self.entry.values, self.entry.errors)
        )
        return replace(self.entry, values=values, errors=errors)

    @property
    def hardware(self) -> str:
        """What its times were taken on; empty where there are none."""
        timing = self.record.get("timing")
        if not timing:
            return ""
        threads = f", {timing['threads']} CPU thread(s)" if timing["device"] == "cpu" else ""
        return f"{timing['hardware']}{threads}, back-end {timing['backend']}"


def read_entrant(path: Path) -> Entrant:
    """Read a results.json, or the one in a directory.

    Raises:
        DataError: Not a results file, or one of another schema.
    """
    file = path / FILE_NAME if path.is_dir() else path
    record = Results.load(file).data
    try:
        return _entrant(file, record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{file}: incomplete results ({type(error).__name__}: {error})",
            hint="run `caloray evaluate` again",
        ) from error


def _entrant(file: Path, record: Mapping[str, Any]) -> Entrant:
    values: dict[str, float] = {}
    errors: dict[str, float] = {}
    floors: dict[str, Floor] = {}
    left_out: list[str] = []
    for key, factor, metric in _metrics(record):
        if metric["name"] in OPTIONAL and not metric["comparable"]:
            left_out.append(key)
        values[key] = factor * metric["value"]
        floor, spread, matched = (factor * metric[name] for name in ("floor", "spread", "matched"))
        floors[key] = Floor(floor, spread, matched, metric.get("significance"))
        if metric.get("error") is not None:
            errors[key] = factor * metric["error"]
    for row in record["separations"]:
        key = SEPARATIONS.get(row["observable"], "")
        if key and row["separation"] is not None and row["floor"] is not None:
            values[key] = row["separation"]
            spread = row["floor_spread"] or 0.0
            floors[key] = Floor(row["floor"], spread, row["separation"], row.get("significance"))
    for key, value, error in _timing(record):
        values[key] = value
        if error is not None:
            errors[key] = error
    entry = Entry(str(record["generated"]["name"]), "yours", f"evaluated in {file}", values, errors)
    return Entrant(file, entry, floors, tuple(left_out), record)


def _metrics(record: Mapping[str, Any]) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
    for metric in record.get("metrics", ()):
        key, factor = METRICS.get(metric["name"], ("", 1.0))
        if key:
            yield key, factor, metric


def _timing(record: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Column, value and error of parameters and times."""
    timing = record.get("timing")
    if not timing:
        return
    for name in ("training", "generation"):
        yield f"parameters_{name}", float(timing["parameters"][name]), None
    device = "gpu" if str(timing["device"]).startswith("cuda") else "cpu"
    for item in timing["measurements"]:
        if item["ms"] and item["batch"] in {1, 100, 10_000}:
            yield f"{device}_{item['batch']}", item["ms"]["mean"], item["ms"]["std"]
