"""The tables of an evaluation on a terminal."""

from __future__ import annotations

__all__ = ["show_results"]

from typing import Any

from caloray.cli.console import note, print_table


def show_results(results: dict[str, Any]) -> None:
    """Print warnings, the summary, the metrics and the separation powers of a results.json."""
    for warning in results["warnings"]:
        note(f"warning: {warning}")
    first, second = results["reference"], results["generated"]
    sizes = f"{second['showers']:,} showers of {second['name']}, {first['showers']:,} of {first['name']}"
    print_table(
        ("mean over showers", first["name"], second["name"], "ratio"),
        _summary_rows(results["summary"]),
        title=sizes,
    )
    reasons = results.get("not_comparable") or ()
    for reason in reasons:
        note(f"not comparable with published numbers: {reason}")
    if results.get("metrics"):
        print_table(
            ("metric", "value", "of showers", "compared", "floor", "significance", "published protocol"),
            [_metric_row(row, "see above" if reasons else "no") for row in results["metrics"]],
            title=f"floor = {first['name']} against itself; compared = the number set against the floor",
        )
    print_table(
        ("separation power", "value", "floor", "ratio", "significance", "worst layer", "out of range"),
        [_separation_row(row) for row in results["separations"]],
        title=f"0 = equal, 1 = disjoint; floor = {first['name']} against itself, scaled to these sizes",
    )
    _explain(results)


def _explain(results: dict[str, Any]) -> None:
    """The rule that all significances follow, and a warning where one is too good."""
    from caloray.evaluation.limits import CLEAR, RULE, Standing, standing

    note(f"significance = distance from the floor in spreads of the floor; {RULE}")
    rows = [row for row in results["separations"] if _judged(row)]
    known = [row["significance"] for row in (*results.get("metrics", ()), *rows)]
    count = sum(standing(value) is Standing.SUSPICIOUS for value in known)
    if count:
        note(
            f"warning: {CLEAR:g} or more spreads below the floor: {count} of {len(known)} numbers; do both "
            "sides share showers, or is the same file on both sides?"
        )


def _judged(row: dict[str, Any]) -> bool:
    from caloray.evaluation.limits import INPUTS

    return row["observable"] not in INPUTS


def _spreads(value: float | None) -> str:
    from caloray.evaluation.limits import Standing, standing

    if value is None:
        return "no spread"
    return f"{value:+.1f} spreads" + (", suspicious" if standing(value) is Standing.SUSPICIOUS else "")


def _metric_row(row: dict[str, Any], why: str) -> tuple[str, ...]:
    value = f"{row['value']:.4g}" + ("" if row["error"] is None else f" ± {row['error']:.1g}")
    return (
        row["label"],
        value,
        f"{min(row['showers']):,}",
        f"{row['matched']:.4g}",
        f"{row['floor']:.4g} ± {row['spread']:.1g} ({row['pair_showers']:,})",
        _spreads(row["significance"]),
        "yes" if row["comparable"] else why,
    )


def _summary_rows(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    names = {
        "e_ratio_mean": "E_tot / E_inc",
        "e_ratio_width": "width of E_tot / E_inc",
        "hits_mean": "hit voxels",
        "sparsity_mean": "fraction of empty voxels",
    }
    rows = [
        (label, _with_error(part["reference"]), _with_error(part["generated"]), _with_error(part["ratio"]))
        for label, part in ((label, summary[key]) for key, label in names.items())
    ]
    worst = summary["worst_layer"]
    if worst is not None:
        share = f"layer {worst['layer']}: {worst['share']:.1%} of the shower"
        ratio = _with_error({"value": worst["ratio"], "error": worst["error"]})
        rows.append((f"worst layer energy (share > {summary['worst_layer_share']:.1%})", share, "", ratio))
    return rows


def _separation_row(row: dict[str, Any]) -> tuple[str, ...]:
    name = (
        row["observable"] if row["histograms"] < 2 else f"{row['observable']} (mean of {row['histograms']})"
    )
    if row["separation"] is None or row["floor"] is None:
        return (name, _digits(row["separation"]), "-", "-", "-", "-", _outside(row))
    return (
        name,
        _digits(row["separation"]),
        f"{row['floor']:.2e} ± {row['floor_spread'] or 0:.0e}",
        "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
        _spreads(row["significance"]) if _judged(row) else "input",
        "-" if row["worst_layer"] is None else f"{row['worst_layer']} ({row['worst_separation']:.1e})",
        _outside(row),
    )


def _outside(row: dict[str, Any]) -> str:
    return f"{row['outside']['reference']:.2%} | {row['outside']['generated']:.2%}"


def _digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"


def _with_error(part: dict[str, Any]) -> str:
    if part["value"] is None:
        return "-"
    return f"{part['value']:.4g}" if part["error"] is None else f"{part['value']:.4g} ± {part['error']:.2g}"
