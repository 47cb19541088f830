"""Tables of classifiers, times and inputs."""

from __future__ import annotations

__all__ = ["classifier_table", "inputs_table", "timing_tables"]

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from caloray.report.comparison import Comparison, Record
from caloray.report.markup import Html, details, element, join, number, paragraph, plus_minus, table
from caloray.report.tables import comparable, mark, settings_cell, value_text


def classifier_table(comparison: Comparison) -> Html:
    """AUC and JSD of every classifier, and every training."""
    head = (
        "classifier",
        "AUC ± error, all showers",
        "AUC at the floor's size",
        "floor ± error of the difference",
        "significance",
        "JSD ± error, all showers",
        "JSD at the floor's size",
        "floor ± error of the difference",
        "significance",
        "showers on either side: all, floor's size",
        "trainings",
        "with published numbers",
        "remark",
        "settings",
    )
    parts = []
    for model in comparison.having("classifiers"):
        rows = []
        for record in model.record["classifiers"]:
            scores: list[object] = []
            for name in ("auc", "jsd"):
                metric = record[name]
                scores += [
                    plus_minus(metric["value"], metric["error"]),
                    number(metric["matched"]),
                    plus_minus(metric["floor"], metric["spread"]),
                    mark(metric["significance"]),
                ]
            auc = record["auc"]
            scores.append(f"{min(auc['showers']):,}, {auc['pair_showers']:,}")
            public = comparable(record, model.record)
            trainings = _trainings(record.get("runs") or ())
            rows.append(
                (
                    record["title"],
                    *scores,
                    trainings,
                    public,
                    auc.get("note") or "–",
                    settings_cell(record["settings"]),
                )
            )
        parts.append(table(head, rows, "" if comparison.single else model.name))
    return join(parts)


def _trainings(runs: Sequence[Record]) -> Html:
    if not runs:
        return Html("–")
    keys = list(runs[0])
    rows = [tuple(value_text(run.get(key)) for key in keys) for run in runs]
    return details(str(len(runs)), table(keys, rows))


def timing_tables(comparison: Comparison) -> Html:
    """Time per shower and speed-up over the reference's simulation."""
    parts = []
    for model, record in comparison.distinct("timing"):
        geant4 = record.get("geant4") or {}
        ups = {item["batch"]: item for item in geant4.get("speed_up") or ()}
        head = (
            "batch",
            "ms per shower",
            "16 to 84 %",
            "CPU ms",
            "showers timed",
            "repetitions",
            "speed-up",
            "remark",
        )
        rows = [_timing(item, ups.get(item["batch"])) for item in record["measurements"]]
        parts.append(table(head, rows, "" if comparison.single else model.name))
        machine = record.get("machine") or {}
        hardware = record.get("hardware", machine.get("cpu", ""))
        where = f"{hardware}, {record['device']}, {record['threads']} thread(s)"
        parameters = (record.get("parameters") or {}).get("generation")
        size = "" if parameters is None else f" {number(parameters)} parameters are needed to sample."
        parts.append(paragraph(f"{where}.{size}", css="remark"))
        if geant4:
            parts.append(paragraph(_speed_up(geant4, comparison.reference_name), css="remark"))
    return join(parts)


def _speed_up(record: Record, reference: str) -> str:
    """What the speed-up is over, and what to keep in mind about it."""
    seconds = record.get("seconds")
    known = f"{number(seconds)} s per shower" if seconds else "time unknown"
    note = record.get("note") or "machines may differ"
    return f"Speed-up over {reference} ({known}): {note.rstrip('.')}."


def _timing(item: Record, up: Record | None) -> tuple[object, ...]:
    ms, cpu = item.get("ms"), item.get("cpu_ms")
    ends = "–" if not ms else f"{number(ms['low'], 3)} to {number(ms['high'], 3)}"
    times = (
        "–" if up is None else f"{number(up['value'], 3)} ({number(up['low'], 3)} to {number(up['high'], 3)})"
    )
    return (
        f"{item['batch']:,}",
        number(ms["median"]) if ms else "–",
        ends,
        number(cpu["median"]) if cpu else "–",
        f"{item['showers']:,}",
        item["repetitions"],
        times,
        item.get("skipped") or item.get("note") or "",
    )


def inputs_table(comparison: Comparison) -> Html:
    """Files, hashes, sizes, threshold, seeds and versions."""
    first = comparison.first
    geometry = comparison.geometry
    kinds = f"{geometry.name}: {geometry.kind}, {geometry.n_layers} layers, {geometry.n_voxels:,} voxels"
    sides = [("reference", comparison.reference_name, first["reference"])]
    sides += [("model", model.name, model.record["generated"]) for model in comparison.models]
    rows: list[tuple[object, ...]] = [
        (
            what,
            join([f"{name}: {side['name']}, {side['showers']:,} showers, ", element("code", side["digest"])]),
        )
        for what, name, side in sides
    ]
    rows += [
        (f"{what} file", join([f"{name}: {file['name']}, sha256 ", element("code", file["sha256"])]))
        for what, name, side in sides
        for file in side.get("files") or ()
    ]
    rows.append(("readout", join([f"{kinds}, ", element("code", first["geometry"]["digest"])])))
    rows.append(("threshold", f"{number(first['threshold'])} MeV"))
    for model in comparison.models:
        energies, record = model.record.get("incident_energy"), model.record
        label = "" if comparison.single else f" ({model.name})"
        if energies:
            same = "identical" if energies["identical"] else "not identical"
            distance, chance = number(energies["ks_distance"]), number(energies["ks_probability"])
            text = f"{same}; KS distance {distance}, probability {chance}"
            rows.append((f"incident energies{label}", text))
        rows.append((f"seed, halvings{label}", f"{record['seed']}, {record['halvings']}"))
        rows.append((f"caloray, schema{label}", f"{record['caloray']}, {record['schema']}"))
        for key in ("versions", "settings"):
            found = _flat(record.get(key) or {}, key)
            rows += [(f"{name}{label}", element("code", value_text(value))) for name, value in found]
    return table(("what", "which"), rows)


def _flat(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        name = f"{above} {key}".strip()
        if isinstance(value, Mapping):
            yield from _flat(value, name)
        else:
            yield name, value
