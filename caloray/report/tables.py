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

from caloray.evaluation.limits import INPUTS, Standing, standing
from caloray.report.comparison import Comparison, Model, Record
from caloray.report.markup import (
    Html,
    details,
    element,
    join,
    listing,
    number,
    paragraph,
    plus_minus,
    spreads,
    table,
)
from caloray.report.words import basis_of, name_of

REASON = (
    "Not comparable: the number must not stand beside published ones, because sizes, settings, threshold or "
    "data are not those of the challenge, or nobody publishes it; remarks and settings say what differs."
)
SEPARATION_REMARK = (
    "A mean over layers has a floor averaged in the same way, halving by halving: its spread is that of the "
    "mean. χ²/NDF of the voxel energies scatters with a long tail even between equal samples, because the "
    "voxels of a shower go together; its rank among the halvings stands in place of a significance."
)
INPUT = "input, not judged"
CSS = {
    Standing.OFF: "off",
    Standing.WATCHED: "doubtful",
    Standing.FLOOR: "fine",
    Standing.SUSPICIOUS: "suspicious",
}
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
    above = _not_comparable(comparison, models)
    below = paragraph(REASON, css="remark") if models else ""
    return join([above, _side_by_side("metric", models, cells, full), below])


def _not_comparable(comparison: Comparison, models: list[Model]) -> Html:
    """Why the data are not the challenge's, once for all numbers of a model."""
    parts = []
    for model in models:
        reasons = model.record.get("not_comparable") or ()
        if reasons:
            of = "" if comparison.single else f" of {model.name}"
            lead = f"No number{of} is comparable with published ones:"
            parts.append(join([paragraph(lead, css="no"), listing(reasons)]))
    return join(parts)


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
    caption = "value (how far beyond the floor)"
    short = table((what, *(model.name for model in models)), rows, caption)
    return join([short, *(details(f"In full: {model.name}", full[model.number]) for model in models)])


def _metrics(model: Model) -> Html:
    head = (
        "metric",
        "value ± error",
        "compared with the floor",
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
            comparable(metric, model.record),
            "; ".join(filter(None, (metric["note"], basis_of(metric["name"])))) or "–",
            settings_cell(metric["settings"]),
        )
        for metric in model.record["metrics"]
    ]
    return table(head, rows)


def comparable(metric: Record, record: Record) -> Html:
    """Whether a number may stand beside published ones; reasons that hold for all stand above the table."""
    if metric["comparable"]:
        return element("span", "yes", css="yes")
    why = "see above" if record.get("not_comparable") else "not comparable"
    return element("span", why, css="no")


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
    """A significance, coloured; in words too where it is suspicious."""
    found = standing(value)
    text = spreads(value) if found is not Standing.SUSPICIOUS else f"{spreads(value)}, {found.value}"
    return element("span", text, css="" if found is None else CSS[found])


def separation_table(comparison: Comparison) -> Html:
    """Separation powers and chi2 of every observable; with several models first side by side."""
    head = (
        "observable",
        "separation power, all showers",
        "floor ± spread, scaled to these numbers of showers",
        "× floor",
        "significance",
        "worst layer",
        "out of range (reference, model)",
        "χ²/NDF, all showers",
        "floor ± spread",
        "significance",
    )
    full, cells = {}, {}
    for model in comparison.models:
        rows = model.record["separations"]
        full[model.number] = table(head, [_separation(row) for row in rows])
        cells[model.number] = {name_of(row["observable"]): _short(row) for row in rows}
    table_of = _side_by_side("observable", list(comparison.models), cells, full)
    return join([table_of, paragraph(SEPARATION_REMARK, css="remark")])


def _short(row: Record) -> str:
    by = INPUT if row["observable"] in INPUTS else spreads(row["significance"])
    return f"{number(row['separation'])} ({by})"


def _separation(row: Record) -> tuple[object, ...]:
    label = name_of(row["observable"])
    judged = row["observable"] not in INPUTS
    worst = "–"
    if row["worst_layer"] is not None:
        worst = f"{row['worst_layer']} ({number(row['worst_separation'], 3)})"
    outside = ", ".join(f"{row['outside'][side]:.2%}" for side in ("reference", "generated"))
    return (
        label if row["histograms"] < 2 else f"{label} (mean of {row['histograms']})",
        number(row["separation"]),
        plus_minus(row["floor"], row["floor_spread"]),
        number(row["ratio"], 3),
        mark(row["significance"]) if judged else INPUT,
        worst,
        outside,
        number(row.get("chi2_per_ndf"), 3),
        plus_minus(row.get("chi2_floor"), row.get("chi2_floor_spread")),
        _chi2_mark(row) if judged else INPUT,
    )


def _chi2_mark(row: Record) -> object:
    """The significance, or the rank among the halvings where spreads mislead."""
    if row.get("chi2_significance") is not None:
        return mark(row["chi2_significance"])
    rank = row.get("chi2_rank")
    return f"above {rank[0]} of {rank[1]} halvings" if rank else "–"


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
