"""``caloray diphoton``: from which distance on two photons are seen as two."""

from __future__ import annotations

__all__ = ["EXAMPLE", "diphoton"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, print_json, print_table, say
from caloray.errors import ConfigError, DataError

if TYPE_CHECKING:
    from caloray.evaluation.diphoton import PairSettings

EXAMPLE = "Example: caloray diphoton geant4.hdf5 flow.hdf5 -o runs/diphoton --energies 20000,5000"
DISTANCES = "0,5,10,12,13,14,15,16,18,20,25,30"


def diphoton(
    reference: Annotated[
        Path, typer.Argument(help="Geant4 showers of a Cartesian grid: HDF5 file or shards.")
    ],
    generated: Annotated[
        Path | None,
        typer.Argument(help="Generated showers; without them only the reference's curve is made."),
    ] = None,
    *,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory for the record and the figure.")],
    energies: Annotated[str, typer.Option(help="Energies of the two photons [MeV].")] = "20000,5000",
    distances: Annotated[str, typer.Option(help="Distances of their axes [mm], ascending.")] = DISTANCES,
    pairs: Annotated[int, typer.Option(help="Pairs per distance and curve.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all draws.")] = 0,
    split: Annotated[str | None, typer.Option(help="Split of a reference shard directory.")] = None,
    direction: Annotated[str, typer.Option(help="Where the second photon lies: x, y or diagonal.")] = "x",
    window: Annotated[
        float, typer.Option(help="Showers within this relative distance of an energy stand for it.")
    ] = 0.1,
    granularity: Annotated[
        int | None, typer.Option(help="Sub-cells per cell along x and y; cells of about 5 mm by default.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Cells of a layer below it are cut [MeV].")] = 0.1,
    halvings: Annotated[int, typer.Option(help="Halves of the reference behind the floors.")] = 10,
    figures: Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figure.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Overlay pairs of showers and count how often they are seen as two, real against generated."""
    from caloray.evaluation.diphoton import PairSettings

    settings = PairSettings.of(
        energies=_numbers("--energies", energies),
        distances=_numbers("--distances", distances),
        pairs=pairs,
        seed=seed,
        direction=direction,
        window=window,
        granularity=granularity,
        threshold=threshold,
        halvings=halvings,
    )
    record, path = _compare(reference, generated, split, settings, output)
    pictures = _draw(record, output / "figures" / "diphoton") if figures else []
    if as_json:
        print_json(record | {"results": str(path), "figures": [str(picture) for picture in pictures]})
        return
    _show(record)
    say(f"results  {path}")
    if pictures:
        say(f"figure   {pictures[0]}")


def _compare(
    reference: Path, generated: Path | None, split: str | None, settings: PairSettings, output: Path
) -> tuple[dict[str, Any], Path]:
    from caloray.atomic import write_json
    from caloray.evaluation.diphoton import compare_diphotons
    from caloray.evaluation.diphoton.run import FILE_NAME
    from caloray.io.source import open_source

    for path in (reference, generated):
        if path is not None and not path.exists():
            raise DataError(f"{path}: no such file or directory", hint="check the path")
    record = compare_diphotons(
        open_source(reference, split if reference.is_dir() else None),
        None if generated is None else open_source(generated),
        settings,
        names=(reference.name, "" if generated is None else generated.name),
        progress=_Teller(),
    )
    write_json(output / FILE_NAME, record)
    return record, output / FILE_NAME


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(
            f"{option}: {text!r}, expected numbers with commas between them", hint=EXAMPLE
        ) from error


def _show(record: dict[str, Any]) -> None:
    for warning in record["warnings"]:
        note(f"warning: {warning}")
    curves = record["curves"]
    names = [_spelled(curve["name"], record) for curve in curves]
    rows = []
    for i, distance in enumerate(record["settings"]["distances"]):
        cells = [f"{curve['probability'][i]:.3f} ± {curve['error'][i]:.3f}" for curve in curves]
        rows.append((f"resolved at {distance:g} mm", *cells))
    for key, unit in (("d50", "mm"), ("width", "mm"), ("plateau", "")):
        rows.append((f"{key} {unit}".strip(), *(_fitted(curve, key) for curve in curves)))
    print_table(("", *names), rows, title=_title(record))
    rows = [(side["name"], *_splits(side)) for side in (record["reference"], record["generated"]) if side]
    columns = [f"{energy:,.0f} MeV" for energy in record["settings"]["energies"]]
    print_table(("one photon seen as two", *columns), rows)
    if record["metrics"]:
        print_table(
            ("metric", "value", "floor", "at the floor's size", "significance"),
            [_metric_row(metric) for metric in record["metrics"]],
            title=f"floor = halves of {record['reference']['name']} against each other",
        )


def _title(record: dict[str, Any]) -> str:
    sides = [side for side in (record["reference"], record["generated"]) if side]
    counts = "; ".join(
        f"{side['name']}: " + " and ".join(f"{photon['showers']:,}" for photon in side["photons"])
        for side in sides
    )
    return f"{record['curves'][0]['pairs']:,} pairs per point of showers from {counts} near the two energies"


def _spelled(name: str, record: dict[str, Any]) -> str:
    return " + ".join(record[side]["name"] for side in name.split("-"))


def _fitted(curve: dict[str, Any], key: str) -> str:
    if curve["fit"] is None:
        return "-"
    part = curve["fit"][key]
    return f"{part['value']:.3f}" + ("" if part["error"] is None else f" ± {part['error']:.3f}")


def _splits(side: dict[str, Any]) -> list[str]:
    return [f"{photon['false_split']:.3%} ± {photon['false_split_error']:.3%}" for photon in side["photons"]]


def _metric_row(metric: dict[str, Any]) -> tuple[str, ...]:
    error, significance = metric["error"], metric["significance"]
    return (
        metric["label"],
        f"{metric['value']:.4f}" + ("" if error is None else f" ± {error:.4f}"),
        f"{metric['floor']:.4f} ± {metric['spread']:.4f}",
        f"{metric['matched']:.4f}",
        "-" if significance is None else f"{significance:+.1f} σ",
    )


def _draw(record: dict[str, Any], path: Path) -> list[Path]:
    from caloray.report.diphoton import draw_diphoton
    from caloray.report.style import save

    generated = record["generated"]
    labels = record["reference"]["name"], "" if generated is None else generated["name"]
    return save(draw_diphoton(record, labels), path)


class _Teller:
    """A line on stderr at every tenth of the pairs, and one when a file is read."""

    def __init__(self) -> None:
        self._told = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != "pairs":
            if done >= total:
                note(f"{stage}: {total:,} showers read")
        elif (tenth := 10 * done // total) > self._told:
            self._told = tenth
            note(f"pairs: {done:,} of {total:,}")
