"""``caloray campaign``: look at a production, check it, bring it into one file."""

from __future__ import annotations

__all__ = ["app"]

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import print_json, print_table, say
from caloray.cli.progress import counting

if TYPE_CHECKING:
    from caloray.generation.status import ProductionStatus

app = typer.Typer(help="Look at a production, check it, bring it into one file.", no_args_is_help=True)

Directory = Annotated[Path, typer.Argument(help="Directory of `caloray produce` or `caloray generate`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: caloray campaign status runs/campaigns/demo")
def status(directory: Directory, *, as_json: AsJson = False) -> None:
    """Say how far a production is, from its files alone: shards, rate, time left, workers, quality."""
    from caloray.generation.status import read_status

    found = read_status(directory)
    facts = _facts(found)
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in (facts | _numbers(found)).items()})
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {'-' if value is None else value}")
    if found.workers:
        rows = [(note.name, note.host, note.pid, _age(note.since)) for note in found.workers]
        print_table(("shard", "host", "pid", "for"), rows)
    for message in found.damaged:
        say(f"damaged: {message}")


@app.command(epilog="Example: caloray campaign verify runs/campaigns/demo")
def verify(directory: Directory, *, as_json: AsJson = False) -> None:
    """Hash every shard, read every id, and compare with receipts, manifest and plan.

    Exit status 0 when every planned shower is there exactly once, 75 when the production is not finished but
    all of it is right, 66 when anything is wrong.
    """
    from caloray.generation.verify import verify_production

    with counting("showers") as count:
        found = verify_production(directory, count)
    if as_json:
        print_json(
            {
                "directory": str(directory),
                "complete": found.complete,
                "shards": found.shards,
                "showers": found.rows,
                "skipped": found.skipped,
                "problems": [vars(problem) for problem in found.problems],
            }
        )
    else:
        for problem in found.problems:
            say(problem.message)
        done = "complete" if found.complete else f"{found.shards} of {found.plan.n_shards} shards so far"
        verdict = f"{len(found.problems)} problems" if found.problems else "all is well"
        say(f"{directory}: {found.rows} showers, {found.skipped} skipped, {done}; {verdict}")
    if found.problems or not found.complete:
        raise typer.Exit(66 if found.problems else 75)


@app.command(epilog="Example: caloray campaign merge runs/campaigns/demo -o demo.hdf5")
def merge(
    directory: Directory,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="NAME.hdf5 (CaloChallenge), .parquet, .showerdata.h5 or .root."),
    ],
    layout: Annotated[
        str | None,
        typer.Option("--format", help="hdf5, parquet, showerdata, root or rntuple; else the name tells."),
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring all showers of a finished production into one file, in the order of their ids."""
    from caloray.generation.export import merge as write
    from caloray.generation.export import merge_format
    from caloray.interrupt import watch_signals

    chosen = merge_format(output, layout)
    with counting("showers") as count, watch_signals(grace=0.5, what="merge") as stop:
        digest = write(directory, output, chosen, progress=count, stop=stop, replace=force)
    facts = {"file": str(output), "format": chosen, "bytes": output.stat().st_size, "sha256": digest}
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        say(f"{name:<6}  {value}")


def _facts(found: ProductionStatus) -> dict[str, Any]:
    totals, plan = found.totals, found.plan
    left = found.seconds_left
    return {
        "directory": str(found.directory),
        "state": found.state,
        "plan": plan.digest,
        "shards": f"{totals.shards} of {plan.n_shards}",
        "showers": f"{totals.planned} of {plan.rows}",
        "skipped": totals.skipped,
        "flagged": totals.flagged,
        "redrawn": totals.redraws.rows,
        "vetoed draws": totals.redraws.vetoed,
        "empty": totals.empty,
        "bytes": totals.bytes,
        "bytes per shower": round(totals.bytes / totals.rows, 1) if totals.rows else None,
        "devices": ", ".join(f"{name}: {rows}" for name, rows in totals.by_device().items()) or None,
        "showers per second": None if found.rate is None else float(f"{found.rate:.4g}"),
        "time left": None if left is None else _duration(left),
        "driver": None if found.driver is None else f"{found.driver.host}, process {found.driver.pid}",
        "workers": len(found.workers),
        "quality": _quality(found.quality),
    }


def _numbers(found: ProductionStatus) -> dict[str, Any]:
    """For programs: plain numbers where people get a phrase."""
    totals, plan = found.totals, found.plan
    return {
        "shards": plan.n_shards,
        "shards_done": totals.shards,
        "showers": plan.rows,
        "showers_done": totals.planned,
        "devices": totals.by_device(),
        "time left": found.seconds_left,
        "driver": None if found.driver is None else vars(found.driver),
        "workers": [vars(note) for note in found.workers],
        "quality": found.quality,
        "damaged": list(found.damaged),
    }


def _quality(value: dict[str, Any] | None) -> str | None:
    report = (value or {}).get("report", {})
    if "verdict" not in report:
        return None
    return f"{report['verdict']} after {(value or {}).get('counted', 0)} showers"


def _age(since: float) -> str:
    return _duration(max(0.0, time.time() - since))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
