"""Whether a user's numbers may stand beside the published ones, and if not, why."""

from __future__ import annotations

__all__ = ["reasons_against", "remarks"]

from collections.abc import Iterator, Mapping
from typing import Any

from caloray.evaluation.classifiers.config import PRESETS
from caloray.evaluation.published import Benchmark, data_reasons
from caloray.leaderboard.columns import COLUMNS
from caloray.leaderboard.entrant import METRICS, OPTIONAL, Entrant

DNN = "dnn"
"""The classifier that keeps a model from being ranked where it is not the challenge's."""


def reasons_against(entrant: Entrant, benchmark: Benchmark) -> tuple[str, ...]:
    """Everything that keeps these results out of the ranking, one line each; empty when nothing does.

    The showers must be the challenge's (:func:`caloray.evaluation.published.data_reasons`), and FPD, KPD and
    the fully connected classifiers must follow its protocol (size, epochs, batch, learning rate, precision
    and number of trainings). Other numbers that do not are left out of the row, see :func:`remarks`.
    """
    record = entrant.record
    geometry = record["geometry"]
    if geometry["digest"] != benchmark.geometry_digest:
        return (f"geometry {geometry['name']}, not {benchmark.name}",)
    data = [*data_reasons(record), *(record.get("not_comparable") or ())]
    # An evaluation on other showers calls none of its numbers comparable: that says nothing of protocols.
    protocol = [*_classifiers(record, flagged=not data), *(() if data else _metrics(record))]
    return tuple(dict.fromkeys([*data, *protocol]))


def remarks(entrant: Entrant) -> tuple[str, ...]:
    """What a reader should know of a row that is ranked."""
    found = []
    if entrant.left_out:
        labels = [column.label for column in COLUMNS if column.key in entrant.left_out]
        found.append(f"left out, because not measured as the published numbers: {', '.join(labels)}")
    if entrant.hardware:
        found.append(
            f"* other hardware: times on {entrant.hardware}; the published ones are from machines that are "
            "not named"
        )
    found.append("the published models were trained on the other published file of the data set only")
    return tuple(found)


def _metrics(record: Mapping[str, Any]) -> Iterator[str]:
    """Metrics that say themselves that they are not the challenge's; classifiers are looked at below."""
    for metric in record.get("metrics", ()):
        name = str(metric["name"])
        if name in METRICS and name not in OPTIONAL and "/" not in name and not metric["comparable"]:
            note = metric.get("note")
            yield f"{metric['label']} does not follow the protocol{f' ({note})' if note else ''}"


def _classifiers(record: Mapping[str, Any], *, flagged: bool) -> Iterator[str]:
    """Fully connected classifiers whose settings differ, or that only say so (``flagged``)."""
    for item in record.get("classifiers") or ():
        if item["model"] != DNN or f"auc/{item['input']}/{DNN}" not in METRICS:
            continue
        title = f"classifier {item['input']}/{DNN}"
        differences = list(_differences(item))
        if differences:
            yield f"{title}: {', '.join(differences)}"
        elif flagged and not item["comparable"]:
            yield f"{title} does not follow the protocol"


def _differences(item: Mapping[str, Any]) -> Iterator[str]:
    official, settings = PRESETS["official"], item["settings"]
    for name, wanted in official.dnn.model_dump(mode="json").items():
        if name in settings and settings[name] != wanted:
            yield f"{name.replace('_', ' ')} {settings[name]} instead of {wanted}"
    trainings = len(item["runs"])
    if trainings < official.seeds:
        yield f"{trainings} trainings instead of {official.seeds}"
