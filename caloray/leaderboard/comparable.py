"""Whether a user's numbers may stand beside the published ones, and if not, why."""

from __future__ import annotations

__all__ = ["reasons_against", "remarks"]

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from caloray.io.known import identify
from caloray.leaderboard.benchmark import OFFICIAL_CLASSIFIERS, TRAININGS, Benchmark
from caloray.leaderboard.entrant import METRICS, OPTIONAL, Entrant

SAME = 1e-4
"""Relative difference up to which two thresholds are the same."""
SHOWN = 2
"""File names in a reason."""
RARE = 1e-3
"""Probability of the two-sample test below which incident energies are those of another spectrum."""


def reasons_against(entrant: Entrant, benchmark: Benchmark) -> tuple[str, ...]:
    """Everything that keeps these results out of the ranking, one line each; empty when nothing does.

    They must have the challenge's readout, its published reference file and no other, its threshold and its
    number of showers on both sides, and every metric must follow its protocol (for a classifier: size,
    epochs, batch, learning rate, precision and number of trainings).
    """
    record = entrant.record
    if record["geometry"]["digest"] != benchmark.geometry_digest:
        return (f"geometry {record['geometry']['name']}, not {benchmark.name}",)
    return (
        *_reference(record, benchmark),
        *_sizes(record, benchmark),
        *_energies(record),
        *_threshold(record, benchmark),
        *_metrics(record),
        *_classifiers(record),
    )


def remarks(entrant: Entrant) -> tuple[str, ...]:
    """What a reader should know of a row that is ranked."""
    found = []
    if entrant.hardware:
        found.append(f"times on {entrant.hardware}; the published ones are from machines that are not named")
    found.append("the published models were trained on the other published file of the data set only")
    return tuple(found)


def _reference(record: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    """The published files and nothing else, by their hashes."""
    wanted = " and ".join(benchmark.references)
    reference = record["reference"]
    found = sorted(set(_known_names(reference, benchmark)))
    if found == sorted(benchmark.references):
        return
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    yield f"reference is {' and '.join(found[:SHOWN]) or reference['name']}{more}, not {wanted}"


def _known_names(reference: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    """Names of the published files that a reference consists of; for others their own names in brackets."""
    known = dict(zip(benchmark.sha256, benchmark.references, strict=False))
    files: Sequence[Mapping[str, Any]] = reference.get("files") or [{"sha256": reference["digest"]}]
    for file in files:
        published = identify(str(file.get("md5") or ""))
        name = known.get(str(file.get("sha256"))) or (published.name if published else None)
        if name is not None:
            yield name
        elif file.get("name"):
            yield str(file["name"]) if file["name"] not in benchmark.references else f"another {file['name']}"


def _sizes(record: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    for side in ("reference", "generated"):
        number = record[side]["showers"]
        if number != benchmark.showers:
            yield f"{number:,} {side} showers instead of {benchmark.showers:,}"


def _energies(record: Mapping[str, Any]) -> Iterator[str]:
    spectra = record.get("incident_energy") or {}
    probability = spectra.get("ks_probability")
    if not spectra.get("identical") and probability is not None and probability < RARE:
        yield f"incident energies of another spectrum (two-sample probability {probability:.1g})"


def _threshold(record: Mapping[str, Any], benchmark: Benchmark) -> Iterator[str]:
    found = float(record["threshold"])
    if not math.isclose(found, benchmark.threshold, rel_tol=SAME):
        yield f"threshold {1e3 * found:.4g} keV instead of {1e3 * benchmark.threshold:.4g} keV"


def _metrics(record: Mapping[str, Any]) -> Iterator[str]:
    """Metrics that say themselves that they are not the challenge's; classifiers are looked at below."""
    for metric in record.get("metrics", ()):
        name = str(metric["name"])
        if name in METRICS and name not in OPTIONAL and "/" not in name and not metric["comparable"]:
            note = metric.get("note")
            yield f"{metric['label']} does not follow the protocol{f' ({note})' if note else ''}"


def _classifiers(record: Mapping[str, Any]) -> Iterator[str]:
    for item in record.get("classifiers") or ():
        if f"auc/{item['input']}/{item['model']}" not in METRICS:
            continue
        title = f"classifier {item['input']}/{item['model']}"
        differences = list(_differences(item))
        if differences:
            yield f"{title}: {', '.join(differences)}"
        elif not item["comparable"]:
            yield f"{title} does not follow the protocol"


def _differences(item: Mapping[str, Any]) -> Iterator[str]:
    settings = item["settings"]
    for name, official in OFFICIAL_CLASSIFIERS[item["model"]].items():
        if name in settings and settings[name] != official:
            yield f"{name.replace('_', ' ')} {settings[name]} instead of {official}"
    trainings = len(item["runs"])
    if trainings < TRAININGS:
        yield f"{trainings} trainings instead of {TRAININGS}"
