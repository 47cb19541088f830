"""The tables of the page: every number of the record with its error and its floor."""

from __future__ import annotations

__all__ = [
    "comparable",
    "mark",
    "means_table",
    "metrics_table",
    "separation_table",
    "settings_cell",
    "value_text",
]

import json
from collections.abc import Iterator, Mapping
from typing import Any

from caloray.report.comparison import Comparison, Model, Record
from caloray.report.markup import Html, details, element, join, number, paragraph, plus_minus, spreads, table
from caloray.report.words import name_of

REASON = (
    "Not comparable: the number must not stand beside published ones, because sizes, settings, threshold or "
    "data are not those of the challenge, or nobody publishes it; remarks and settings say what differs."
)
SUMMARY = {"e_ratio_mean": "E_tot / E_inc", "e_ratio_width": "width of E_tot / E_inc"}
PER_LAYER = ("layer_energy", "layer_hits")


def metrics_table(comparison: Comparison) -> Html:
    """All metrics; with several models first side by side."""
    models = comparison.having("metrics")
    full = {model.number: _metrics(model) for model in models}
    cells = {
        model.number: {metric["label"]: _brief(metric) for metric in model.record["metrics"]}
        for model in models
    }
    return join(
        [_side_by_side("metric", models, cells, full), paragraph(REASON, css="remark") if models else ""]
    )


def _brief(metric: Record) -> str:
    return f"{plus_minus(metric['value'], metric['error'])} ({spreads(metric['significance'])})"


def _side_by_side(
    what: str, models: list[Model], cells: Mapping[int, Mapping[str, str]], full: Mapping[int, Html]
) -> Html:
    """The full table of one model; for several a short common table, and the full ones behind a click."""
    if len(models) < 2:
        return join(full.values())
    labels = dict.fromkeys(label for column in cells.values() for label in column)
    rows = [(label, *(cells[model.number].get(label, "–") for model in models)) for label in labels]
    caption = "value (spreads above the floor at equal sizes)"
    short = table((what, *(model.name for model in models)), rows, caption)
    return join([short, *(details(f"In full: {model.name}", full[model.number]) for model in models)])


def _metrics(model: Model) -> Html:
    head = (
        "metric",
        "value ± error",
        "at the floor's size",
        "floor ± spread",
        "significance",
        "better",
        "showers (reference, model)",
        "pairs × showers",
        "with published numbers",
        "remark",
        "settings",
    )
    rows = [
        (
            metric["label"],
            plus_minus(metric["value"], metric["error"]),
            number(metric["matched"]),
            plus_minus(metric["floor"], metric["spread"]),
            mark(metric["significance"]),
            metric["better"],
            ", ".join(f"{n:,}" for n in metric["showers"]),
            f"{metric['pairs']} × {metric['pair_showers']:,}",
            comparable(metric),
            metric["note"] or "–",
            settings_cell(metric["settings"]),
        )
        for metric in model.record["metrics"]
    ]
    return table(head, rows)


def comparable(record: Record) -> Html:
    """Whether a number may stand beside published ones."""
    return (
        element("span", "yes", css="yes")
        if record["comparable"]
        else element("span", "not comparable", css="no")
    )


def settings_cell(settings: Mapping[str, Any]) -> Html:
    """Settings behind a click."""
    if not settings:
        return Html("–")
    pairs = [f"{key} = {value_text(value)}" for key, value in settings.items()]
    return details("show", *(element("div", pair) for pair in pairs))


def value_text(value: Any) -> str:
    """A setting for a reader."""
    if isinstance(value, float):
        return number(value, 6)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def mark(value: float | None) -> Html:
    """A significance, coloured."""
    css = "" if value is None else "off" if value >= 5 else "doubtful" if value >= 2 else "fine"
    return element("span", spreads(value), css=css)


def separation_table(comparison: Comparison) -> Html:
    """Separation powers and chi2 of every observable; with several models first side by side."""
    head = (
        "observable",
        "separation power",
        "floor ± spread",
        "× floor",
        "significance",
        "worst layer",
        "out of range (reference, model)",
        "χ²/NDF",
        "its floor ± spread",
    )
    full, cells = {}, {}
    for model in comparison.models:
        rows = model.record["separations"]
        full[model.number] = table(head, [_separation(model, row) for row in rows])
        cells[model.number] = {
            name_of(row["observable"]): f"{number(row['separation'])} ({spreads(row['significance'])})"
            for row in rows
        }
    return _side_by_side("observable", list(comparison.models), cells, full)


def _separation(model: Model, row: Record) -> tuple[object, ...]:
    label = name_of(row["observable"])
    worst = "–"
    if row["worst_layer"] is not None:
        worst = f"{row['worst_layer']} ({number(row['worst_separation'], 3)})"
    outside = ", ".join(f"{row['outside'][side]:.2%}" for side in ("reference", "generated"))
    value, floor, spread = _chi2(model, row["observable"])
    return (
        label if row["histograms"] < 2 else f"{label} (mean of {row['histograms']})",
        number(row["separation"]),
        plus_minus(row["floor"], row["floor_spread"]),
        number(row["ratio"], 3),
        mark(row["significance"]),
        worst,
        outside,
        number(value, 3),
        plus_minus(floor, spread),
    )


def _chi2(model: Model, observable: str) -> tuple[float | None, float | None, float | None]:
    """Means over the histograms of one observable."""
    found = [
        r
        for r in model.record["histograms"]
        if r["observable"] == observable and r.get("chi2_per_ndf") is not None
    ]
    if not found:
        return None, None, None
    keys = ("chi2_per_ndf", "chi2_floor", "chi2_floor_spread")
    means: list[float | None] = []
    for key in keys:
        values = [float(r[key]) for r in found if r.get(key) is not None]
        means.append(sum(values) / len(values) if values else None)
    return means[0], means[1], means[2]


def means_table(comparison: Comparison) -> Html:
    """Means over showers with errors, and their ratios; the layers' in a second table."""
    head = ("mean over showers", comparison.reference_name, "model", "ratio")
    parts = []
    for model in comparison.models:
        caption = "" if comparison.single else model.name
        parts.append(table(head, list(_means(model)), caption))
        for name in PER_LAYER:
            mean = model.record["means"].get(name)
            if mean:
                title = f"{name_of(name)}, every layer" + ("" if comparison.single else f": {model.name}")
                parts.append(details(title, table(("layer", *head[1:]), _layers(mean))))
    return join(parts)


def _means(model: Model) -> Iterator[tuple[object, ...]]:
    summary = model.record["summary"]
    for key, label in SUMMARY.items():
        part = summary[key]
        yield (
            label,
            *(
                plus_minus(part[side]["value"], part[side]["error"])
                for side in ("reference", "generated", "ratio")
            ),
        )
    for name, mean in model.record["means"].items():
        if len(mean["reference"]["mean"]) == 1 and name != "e_ratio":
            yield name_of(name), *_layers(mean)[0][1:]
    worst = summary.get("worst_layer")
    if worst:
        share = f"{worst['share']:.1%} of the shower"
        yield (
            f"worst layer energy (layer {worst['layer']})",
            share,
            "",
            plus_minus(worst["ratio"], worst["error"]),
        )


def _layers(mean: Record) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for i in range(len(mean["reference"]["mean"])):
        sides = [
            plus_minus(mean[side]["mean"][i], mean[side]["error"][i]) for side in ("reference", "generated")
        ]
        rows.append((i, *sides, plus_minus(mean["ratio"]["value"][i], mean["ratio"]["error"][i])))
    return rows
