"""The record of a tuning campaign as figures and tables need it: labels, axes, comparable trials."""

from __future__ import annotations

__all__ = ["Campaign", "Objective", "Record", "ticks_of"]

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Record = Mapping[str, Any]

LABELS = {
    "nll_bits_per_dim": ("negative log-likelihood [bits per dimension]", "NLL"),
    "ms_per_shower": ("time per shower [ms]", "time per shower"),
    "separation_mean": ("mean separation power", "mean separation power"),
    "auc/high/trees": ("AUC of boosted trees", "AUC"),
    "fpd": ("FPD", "FPD"),
    "kpd": ("KPD", "KPD"),
    "weighted": ("weighted sum", "weighted sum"),
    "prdc/precision": ("− precision (more precision is better)", "− precision"),
    "prdc/recall": ("− recall (more recall is better)", "− recall"),
    "prdc/density": ("− density (more density is better)", "− density"),
    "prdc/coverage": ("− coverage (more coverage is better)", "− coverage"),
}
FIRST = (".schedule.", ".spline.", ".epochs")
"""What is shown first: the learning-rate schedule, the splines, the epochs."""


@dataclass(frozen=True)
class Objective:
    """Something that is minimised.

    Args:
        name: Its key.
        label: For an axis, with unit.
        short: For a sentence.
    """

    name: str
    label: str
    short: str

    @staticmethod
    def of(name: str) -> Objective:
        """The objective of this name; what is not known here is called by it."""
        label, short = LABELS.get(name, (name, name))
        return Objective(name, label, short)


@dataclass(frozen=True)
class Campaign:
    """One campaign.

    Args:
        record: What :meth:`caloray.tuning.summary.TuningSummary.to_dict` gives.
    """

    record: Record

    @cached_property
    def objectives(self) -> list[Objective]:
        """In the order of the settings."""
        return [Objective.of(str(name)) for name in self.record["objectives"]]

    @cached_property
    def parameters(self) -> list[Record]:
        """Searched parameters: schedules and splines first."""

        def rank(parameter: Record) -> int:
            name = str(parameter["name"])
            return next((i for i, part in enumerate(FIRST) if part in name), len(FIRST))

        return sorted(self.record["parameters"], key=rank)

    @cached_property
    def labels(self) -> dict[str, str]:
        """A short name of each parameter: its last word, with its component where several have the same."""
        names = [str(parameter["name"]) for parameter in self.record["parameters"]]
        last = [name.rsplit(".", maxsplit=1)[-1] for name in names]
        return {
            name: word if last.count(word) == 1 else f"{_component(name)} · {word}"
            for name, word in zip(names, last, strict=True)
        }

    @cached_property
    def searched(self) -> list[Record]:
        """Complete trials of the search, the baseline too."""
        return [t for t in self.record["trials"] if t["kind"] != "confirm" and t["status"] == "complete"]

    @cached_property
    def levels(self) -> list[str]:
        """Training budgets that trials had, ascending."""
        found = {trial["level"]: float(trial["share"]) for trial in self.searched}
        return sorted(found, key=lambda level: found[level])

    def filled(self, level: str) -> bool:
        """Whether it is the full budget."""
        return any(trial["full"] for trial in self.searched if trial["level"] == level)

    @cached_property
    def whole(self) -> list[Record]:
        """Complete trials of the search at the full budget, the baseline too."""
        return [trial for trial in self.searched if trial["full"]]

    def crowd(self, objective: str) -> list[Record]:
        """The search's complete trials of the budget that most of them had: those can be compared."""
        level = self.record["importance"][objective]["level"]
        return [trial for trial in self.searched if trial["kind"] == "search" and trial["level"] == level]

    @property
    def baseline(self) -> Record | None:
        """The trial of the run config as it is, if it is complete."""
        return next((trial for trial in self.searched if trial["kind"] == "baseline"), None)

    @cached_property
    def best_assignment(self) -> Record | None:
        """Settings that the campaign ends with."""
        best = self.record["chosen"]
        return next((t["assignment"] for t in self.record["trials"] if t["number"] == best), None)

    def values(self, objective: str) -> list[float]:
        """Of all complete trials of the search."""
        return [float(trial["values"][objective]) for trial in self.searched]

    def place(self, parameter: Record, value: Any) -> float:
        """Where a value lies on the parameter's axis, from 0 to 1; NaN where there is none."""
        return place_of(parameter, value)


def place_of(parameter: Record, value: Any) -> float:
    """Where a value lies on an axis, from 0 to 1; outside of it beyond that, NaN where there is no value."""
    if value is None:
        return math.nan
    if parameter["choices"]:
        texts = [json.dumps(choice, sort_keys=True) for choice in parameter["choices"]]
        text = json.dumps(value, sort_keys=True)
        return (texts.index(text) / max(1, len(texts) - 1)) if text in texts else math.nan
    low, high, at = float(parameter["low"]), float(parameter["high"]), float(value)
    if parameter["log"]:
        if at <= 0:
            return math.nan
        low, high, at = math.log(low), math.log(high), math.log(at)
    return (at - low) / (high - low)


def ticks_of(parameter: Record) -> list[tuple[float, str]]:
    """Places from 0 to 1 and texts of an axis' ticks, both ends among them."""
    choices: Sequence[Any] = parameter["choices"]
    if choices:
        return [(place_of(parameter, choice), text_of(choice)) for choice in choices]
    low, high = parameter["low"], parameter["high"]
    values = _round_values(
        float(low), float(high), log=bool(parameter["log"]), whole=bool(parameter["whole"])
    )
    places = [(place_of(parameter, value), text_of(value)) for value in (low, *values, high)]
    kept = [places[0]]
    for place, text in places[1:-1]:
        if place - kept[-1][0] > 0.07 and places[-1][0] - place > 0.07:
            kept.append((place, text))
    return [*kept, places[-1]]


def _round_values(low: float, high: float, *, log: bool, whole: bool) -> list[float]:
    if log:
        steps = (1, 2, 5) if high < 200 * low else (1,)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [step * 10.0**power for power in powers for step in steps]
    else:
        width = (high - low) / 5
        unit = 10.0 ** math.floor(math.log10(width))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= width)
        step = max(1.0, round(step)) if whole else step
        found = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [value for value in found if low < value < high]


def text_of(value: Any) -> str:
    """A setting for a reader."""
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, float):
        mantissa, _, power = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(power)}" if power else mantissa
    return str(value)


def _component(name: str) -> str:
    parts = name.split(".")
    return parts[2] if parts[:2] == ["scheme", "flows"] and len(parts) > 3 else parts[min(1, len(parts) - 1)]
