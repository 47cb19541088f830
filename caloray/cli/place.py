"""``caloray place``: showers of a fine grid go to the cells of a detector, wherever the particle entered."""

from __future__ import annotations

__all__ = ["EXAMPLE", "place"]

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, print_json, say
from caloray.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caloray.geometry import Geometry
    from caloray.io.source import ShowerSource
    from caloray.placement.cells import Cells
    from caloray.placement.work import Placing, TakingBack

EXAMPLE = "Example: caloray place showers_x9.hdf5 -o placed.parquet --impact-uniform --seed 1"
REACH = 5000.0  # lattices beside listed cells are written out this far [mm]
LINE_EVERY = 10
LEAK = 0.01


Input = Annotated[
    Path, typer.Argument(metavar="INPUT", help="HDF5 file, directory of shards, or .parquet of hits.")
]
Output = Annotated[
    Path, typer.Option("-o", "--output", help="NAME.parquet (hits), NAME.hdf5, or a directory of shards.")
]
Entry = Annotated[
    str | None,
    typer.Option(help="Where the particle enters: X,Y [mm], centre (of a cell) or recorded; 0,0 if omitted."),
]
Uniform = Annotated[
    bool,
    typer.Option("--impact-uniform", help="Draw the entry uniformly within half a cell of 0, per shower."),
]
Shear = Annotated[
    bool | None,
    typer.Option("--shear/--no-shear", help="Move layers along the track; done if directions are known."),
]
Points = Annotated[
    bool,
    typer.Option(
        "--points/--area", help="A sub-cell's energy goes to one random point of it, or is split by area."
    ),
]
Coarsen = Annotated[
    int | None,
    typer.Option(min=1, help="Sub-cells per cell along x and y; cells of about 5.09 mm if omitted."),
]
Phases = Annotated[Path | None, typer.Option(help="Table (YAML, CSV) of per-layer offsets or of all cells.")]
Box = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Cells of the box along x and y; as wide as the grid if omitted, 0 keeps all. Not with --back.",
    ),
]
BoxAround = Annotated[str | None, typer.Option(help="Middle of the box: entry (if omitted) or track.")]
Threshold = Annotated[float | None, typer.Option(help="Cells below it are cut [MeV]; 0.1, with --back 0.")]
Back = Annotated[
    bool,
    typer.Option(
        "--back", help="The inverse: showers return to the grid around the track, as their record says."
    ),
]
Grid = Annotated[str | None, typer.Option(help="Geometry of that grid; as many cells as the box if omitted.")]
Split = Annotated[str | None, typer.Option(help="Only this split of a directory of shards.")]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of entries and points; 0 if omitted.")]
Form = Annotated[
    str | None, typer.Option("--format", help="hits, hdf5 or shards; by the output's name if omitted.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Try 50 showers and write nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def place(
    showers: Input,
    output: Output,
    impact: Entry = None,
    shear: Shear = None,
    coarsen: Coarsen = None,
    phases: Phases = None,
    box: Box = None,
    box_around: BoxAround = None,
    threshold: Threshold = None,
    grid: Grid = None,
    split: Split = None,
    seed: Seed = None,
    form: Form = None,
    *,
    impact_uniform: Uniform = False,
    points: Points = True,
    back: Back = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Shift, shear, re-bin, box and cut showers; say how much energy was lost where.

    Exit status 65 for showers or a table that cannot be used, 66 for damaged shards or hits, 74 for an output
    that cannot be written, 78 for options that contradict each other.
    """
    from caloray.io.source import open_source
    from caloray.placement.streams import format_of, place_showers, preview

    source = open_source(showers, split)
    fixed = {"box": box, "around": box_around or "entry", "seed": seed or 0, "points": points}
    fixed |= _entry(impact or "0,0", uniform=impact_uniform)
    work: Placing | TakingBack
    if back:
        told: dict[str, object] = {
            "--impact": impact,
            "--impact-uniform": impact_uniform or None,
            "--box-around": box_around,
        }
        told |= {"--shear": shear, "--coarsen": coarsen, "--seed": seed}
        _require_free(source, [name for name, value in told.items() if value is not None], box)
        work = _back(source, fixed, shear, coarsen, phases, threshold, grid)
    else:
        work = _forward(source, fixed, shear, coarsen, phases, threshold)
    wanted = format_of(output, form)
    if dry_run:
        facts = preview(source, work)
    else:
        from caloray.interrupt import watch_signals

        with watch_signals(grace=0.0, what="placement") as stop:
            facts = place_showers(source, work, output, wanted, _Teller(source.n_showers), stop)
    facts |= {"output": str(output), "format": wanted, "settings": _settings(work)}
    if as_json:
        print_json(facts)
    else:
        _tell(facts)


def _entry(impact: str, *, uniform: bool) -> dict[str, Any]:
    if uniform:
        if impact != "0,0":
            raise ConfigError(
                f"--impact {impact} and --impact-uniform contradict each other", hint="choose one of them"
            )
        return {"impact": "uniform"}
    if impact in {"recorded", "centre"}:
        return {"impact": "recorded"} if impact == "recorded" else {"impact": "centre"}
    try:
        x, y = (float(word) for word in impact.split(","))
    except ValueError as error:
        raise ConfigError(
            f"--impact {impact!r}: expected X,Y in mm, centre or recorded", hint="for example --impact 1.7,0"
        ) from error
    return {"impact": "fixed", "at": (x, y)}


def _forward(
    source: ShowerSource,
    fixed: dict[str, Any],
    shear: bool | None,
    coarsen: int | None,
    phases: Path | None,
    threshold: float | None,
) -> Placing:
    from caloray.placement import Placement, PlaceSettings
    from caloray.placement.grid import cells_per_readout, square_pitch
    from caloray.placement.work import Placing

    pitch = square_pitch(source.geometry, "be placed")
    granularity = coarsen or cells_per_readout(pitch)
    if fixed["impact"] == "centre":
        fixed |= {"impact": "fixed", "at": (0.5 * granularity * pitch,) * 2}
    if fixed["box"] is None:
        fixed |= {"box": math.ceil(source.geometry.layers[0].shape[0] / granularity)}
    settings = PlaceSettings.of(
        **fixed | {"box": fixed["box"] or None},
        granularity=granularity,
        shear=_shear_by_default(source) if shear is None else shear,
        threshold=0.1 if threshold is None else threshold,
    )
    cells = _cells(source.geometry, granularity, phases)
    return Placing(Placement(source.geometry, settings, cells))


def _back(
    source: ShowerSource,
    fixed: dict[str, Any],
    shear: bool | None,
    coarsen: int | None,
    phases: Path | None,
    threshold: float | None,
    grid: str | None,
) -> TakingBack:
    """Placed as their file records it; else as the options say."""
    from caloray.geometry import load_geometry
    from caloray.placement import Withdrawal
    from caloray.placement.grid import square_pitch
    from caloray.placement.record import restore
    from caloray.placement.streams import recorded_placement
    from caloray.placement.work import Placing, TakingBack

    square_pitch(source.geometry, "be taken back")
    record = recorded_placement(source)
    if record is None:
        sides = fixed | {"box": source.geometry.layers[0].shape[0]}
        forward = _forward(source, sides, shear, coarsen or 1, phases, 0.0)
    else:
        table = None if phases is None else _cells(source.geometry, 1, phases)
        placement = restore(record, source.geometry, table, Path(str(getattr(source, "path", "showers"))))
        forward = Placing(placement)
    target = source.geometry if grid is None else load_geometry(grid)
    withdrawal = Withdrawal(forward.placement, target, bool(fixed["points"]), threshold or 0.0)
    return TakingBack(withdrawal)


def _require_free(source: ShowerSource, told: Sequence[str], box: int | None) -> None:
    """Refuse options that the way back could not follow: the input is the box, and its record tells the rest.

    Raises:
        ConfigError: Naming them.
    """
    from caloray.placement.streams import recorded_placement

    if box is not None:
        raise ConfigError(
            "--back takes no --box: the box is that of the input",
            hint="leave --box out; --grid names the output",
        )
    if "--impact-uniform" in told:
        raise ConfigError(
            "--back takes no --impact-uniform: entries were drawn when the showers were placed",
            hint="--impact recorded takes those of the input",
        )
    if told and recorded_placement(source) is not None:
        raise ConfigError(
            f"--back follows the record in the input, which {', '.join(told)} would contradict",
            hint=f"leave out {', '.join(told)}",
        )


def _shear_by_default(source: ShowerSource) -> bool:
    """Where directions are known, unless the layers of these showers were moved along the track before."""
    import json

    from caloray.placement.streams import recorded_placement
    from caloray.placement.track import DIRECTION

    record = json.loads(recorded_placement(source) or "{}")
    if record.get("settings", {}).get("shear"):
        note("placed along the track before: layers stay where they are (--shear would move them again)")
        return False
    return all(name in source.conditions for name in DIRECTION)


def _cells(geometry: Geometry, granularity: int, phases: Path | None) -> Cells:
    from caloray.placement import regular_cells
    from caloray.placement.table import read_table

    regular = regular_cells(geometry, granularity)
    return regular if phases is None else read_table(phases, geometry.n_layers, regular.width, REACH)


def _settings(work: Placing | TakingBack) -> dict[str, Any]:
    from caloray.placement.work import Placing

    if isinstance(work, Placing):
        return {"inverse": False, **work.placement.settings.model_dump(mode="json")}
    withdrawal = work.withdrawal
    own = {"inverse": True, "grid": withdrawal.grid.name, "points": withdrawal.points}
    return {**withdrawal.placement.settings.model_dump(mode="json"), **own}


def _tell(facts: dict[str, Any]) -> None:
    settings = facts["settings"]
    way = "back from" if settings["inverse"] else "to"
    tried = f", tried with {facts['previewed']}" if "previewed" in facts else ""
    lines = {
        "showers": f"{facts['showers']:,}{tried}",
        "geometry": f"{facts['from_geometry']} to {facts['geometry'] or 'cells without a box'}",
        "entry": f"{settings['impact']}"
        + (f" at {settings['at'][0]:g}, {settings['at'][1]:g} mm" if settings["impact"] == "fixed" else ""),
        "shear": "along the track" if settings["shear"] else "none",
        "energy": f"{facts['deposited']:,.6g} MeV {way} cells",
        "kept": f"{facts['kept_share']:.4%} in {facts['cells']:,} cells",
        "cut": f"{facts['cut_share']:.4%} in {facts['cells_cut']:,} cells below the threshold",
        "outside": f"{facts['outside_share']:.4%} outside the box",
        "uncovered": f"{facts['uncovered_share']:.4%} in gaps or beyond the cells",
        "leaking": f"{facts['leaking']:,} showers lose more than 1%, one of them {facts['worst']:.2%}",
    }
    if "bytes" in facts:
        dense = facts["dense_bytes_per_shower"]
        beside = f" (dense: {dense:,})" if dense else ""
        lines["bytes"] = f"{facts['bytes']:,}, {facts['bytes_per_shower']:,} per shower{beside}"
        lines["output"] = f"{facts['output']} ({facts['format']})"
    for name, text in lines.items():
        say(f"{name:<10} {text}")
    if facts["outside_share"] > LEAK:
        note("warning: the box loses much energy; a larger --box or --box-around track keeps it")
    if not facts["cells"]:
        note("warning: no cell is left above the threshold")


class _Teller:
    """A line on stderr at every tenth of the showers, unless they are few."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._told = total, 0, 0

    def __call__(self, rows: int) -> None:
        self._done += rows
        tenth = LINE_EVERY * self._done // max(1, self._total)
        if tenth > self._told and self._total >= 1000:
            self._told = tenth
            note(f"placed: {self._done:,} of {self._total:,} showers")
