"""``caloray evaluate``: compare generated showers with Geant4 showers."""

from __future__ import annotations

__all__ = ["EXAMPLE", "evaluate", "show_results"]

from pathlib import Path
from typing import Annotated, Any

import typer

from caloray.cli.console import note, print_json, print_table, say
from caloray.errors import DataError

EXAMPLE = "Example: caloray evaluate runs/demo/shards runs/demo/showers -o runs/demo --split test"


def evaluate(
    reference: Annotated[Path, typer.Argument(help="Geant4 showers: HDF5 file or shard directory.")],
    generated: Annotated[Path, typer.Argument(help="Generated showers: HDF5 file or shard directory.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for results and figures.")],
    split: Annotated[
        str | None, typer.Option(help="Split of a reference shard directory (train, validation, test).")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, help="Voxels below it are zero [MeV]; the challenge's by default.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random halves of the floor.")] = 0,
    *,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write results.json and figures, and print separation powers beside their Geant4-Geant4 floor."""
    from caloray.evaluation.run import evaluate as compare
    from caloray.io.source import open_source

    for path in (reference, generated):
        if not path.exists():
            raise DataError(f"{path}: no such file or directory", hint="check the path")
    if split is None:
        _warn_of_training_rows(reference)
    results = compare(
        open_source(reference, split if reference.is_dir() else None),
        open_source(generated),
        threshold=threshold,
        seed=seed,
        names=(reference.name, generated.name),
        progress=_tell,
    )
    path = results.save(output)
    pictures = _draw(results.data, output / "figures") if figures else []
    if as_json:
        keys = ("reference", "generated", "threshold", "seed", "incident_energy", "warnings")
        facts = {key: results.data[key] for key in keys}
        facts |= {"summary": results.summary, "separations": results.separations, "results": str(path)}
        print_json(facts | {"figures": [str(picture) for picture in pictures]})
        return
    show_results(results.data)
    say(f"results  {path}")
    if pictures:
        say(f"figures  {output / 'figures'}")


def _warn_of_training_rows(reference: Path) -> None:
    from caloray.io.manifest import Manifest

    if reference.is_dir() and "train" in (counts := Manifest.load(reference).counts) and len(counts) > 1:
        note(
            f"warning: {reference} is compared whole, with the showers that models were trained on; "
            "--split test takes held-out ones"
        )


def show_results(results: dict[str, Any]) -> None:
    """Print warnings, the summary and the table of separation powers of a results.json."""
    for warning in results["warnings"]:
        note(f"warning: {warning}")
    first, second = results["reference"], results["generated"]
    sizes = f"{second['showers']:,} showers of {second['name']}, {first['showers']:,} of {first['name']}"
    print_table(
        ("mean over showers", first["name"], second["name"], "ratio"),
        _summary_rows(results["summary"]),
        title=sizes,
    )
    print_table(
        ("separation power", "value", "floor", "ratio", "significance", "worst layer", "out of range"),
        [_separation_row(row) for row in results["separations"]],
        title=f"0 = equal, 1 = disjoint; floor = {first['name']} against itself at these sample sizes",
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
        "-" if row["significance"] is None else f"{row['significance']:+.1f} σ",
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


def _draw(results: dict[str, Any], directory: Path) -> list[Path]:
    from caloray.report import draw

    note("drawing figures")
    return draw(results, directory)


def _tell(stage: str, done: int, total: int) -> None:
    if done >= total:
        note(f"{stage}: {total} showers read")
