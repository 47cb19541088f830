"""``caloray tune``: a campaign of trials, its state and its report."""

from __future__ import annotations

__all__ = ["app"]

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from caloray.cli.console import note, print_json, print_table, say

if TYPE_CHECKING:
    from caloray.tuning.outlook import Outlook
    from caloray.tuning.settings import TuneConfig

EXAMPLE = "Example: caloray tune configs/tune_demo.yaml --dry-run"


class _FileFirst(TyperGroup):
    """A group whose first word may be a campaign file: that is `run` of it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `run` before anything that is neither a command nor a call for help."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            complaint = _mistyped(args[0], sorted(self.commands))
            if complaint is not None:
                ctx.fail(complaint)
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _mistyped(word: str, commands: list[str]) -> str | None:
    """What is wrong with a word that can only be a mistyped command."""
    from caloray.config.reading import did_you_mean

    if word.startswith("-") or Path(word).suffix or os.sep in word or Path(word).exists():
        return None
    return f"{word!r} is neither a command nor a campaign file{did_you_mean(word, commands)}"


app = typer.Typer(
    cls=_FileFirst,
    help="Search better settings of a run config; `caloray tune FILE` is `caloray tune run FILE`.",
    epilog=EXAMPLE,
    no_args_is_help=True,
    subcommand_metavar="FILE | COMMAND [ARGS]...",
)

Directory = Annotated[Path, typer.Argument(help="Output directory of a campaign.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(epilog="Example: caloray tune run configs/tune_demo.yaml --set budget.trials=6")
def run(
    campaign: Annotated[Path, typer.Argument(metavar="FILE", help="Campaign file (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would try and how long it takes; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Carry out a campaign: every trial trains, is measured, and has its result on record.

    Run the same command again to continue a campaign that was stopped.
    """
    from caloray.tuning.settings import load_tuning

    settings = load_tuning(campaign, overrides or [])
    if dry_run:
        _show_outlook(settings, as_json=as_json)
        return
    from caloray.cli.tune_view import show_trials
    from caloray.distributed.session import connect
    from caloray.distributed.tune import claim_output, run_tuning

    data = claim_output(settings)
    with connect(settings.cluster) as session, show_trials(settings) as progress:
        place = "started for this campaign" if session.owned else session.address
        note(f"campaign {settings.name} in {settings.output}; Ray: {place}")
        run_tuning(settings, session, progress, data)
    _show_result(settings, as_json=as_json)


@app.command(epilog="Example: caloray tune report runs/tune_demo")
def report(directory: Directory, *, as_json: AsJson = False) -> None:
    """Write the page, the table of trials and the best settings of a campaign, finished or not."""
    from caloray.distributed.tune_finish import read_campaign, write_record

    settings = read_campaign(directory)
    summary = write_record(settings)
    files = {
        "report": directory / "report.html",
        "trials": directory / "trials.csv",
        "best config": directory / "best" / "run.yaml" if summary.best_yaml else None,
    }
    _tell({name: None if path is None else str(path) for name, path in files.items()}, as_json=as_json)


@app.command(epilog="Example: caloray tune status runs/tune_demo")
def status(directory: Directory, *, as_json: AsJson = False) -> None:
    """Say how far a campaign is, from its files alone: trials, how they ended, the best so far."""
    from caloray.distributed.tune_finish import read_campaign
    from caloray.report.tuning_view import Campaign
    from caloray.tuning.ledger import Ledger
    from caloray.tuning.summary import summarise

    settings = read_campaign(directory)
    rows, summary = Ledger(directory).table(), summarise(settings).data
    facts = _standing(settings, rows, summary)
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in facts.items()} | {"trials": rows})
        return
    _tell(facts, as_json=False)
    columns = ("number", "kind", "rung", "status", *settings.objective_names, "seconds", *settings.space)
    labels = Campaign(summary).labels
    head = [labels.get(name, name) for name in columns]
    print_table(head, [[_cell(row.get(name)) for name in columns] for row in rows])


def _show_result(settings: TuneConfig, *, as_json: bool) -> None:
    from caloray.tuning.ledger import Ledger
    from caloray.tuning.summary import summarise

    summary = summarise(settings).data
    facts = _standing(settings, Ledger(settings.output).table(), summary)
    facts |= {
        "table": str(settings.output / "trials.csv"),
        "report": str(settings.output / "report.html"),
        "best config": str(settings.output / "best" / "run.yaml") if summary["best_yaml"] else None,
        "bundle": _bundle(settings, summary),
    }
    if as_json:
        found = {name.replace(" ", "_"): value for name, value in facts.items()}
        print_json(found | {name: summary[name] for name in ("confirm", "unbeaten", "remarks")})
        return
    _tell({name: value for name, value in facts.items() if value is not None}, as_json=False)
    for remark in summary["remarks"]:
        say(remark)
    _show_confirmation(summary["confirm"])


def _bundle(settings: TuneConfig, summary: dict[str, Any]) -> str | None:
    from caloray.tuning.repetitions import no_bundle

    made = settings.finish.bundle and not no_bundle(summary)
    return str(settings.output / "best" / "run" / "bundle") if made else None


def _show_confirmation(confirm: dict[str, Any] | None) -> None:
    if confirm is None:
        return
    rows, words = [], []
    for group in confirm["groups"]:
        for name, found in group["objectives"].items():
            difference = found["difference"]
            values = " ".join(f"{value:.5g}" for value in found["values"])
            gain = "" if difference is None else _with_error(difference["value"], difference["error"])
            rows.append((group["label"], name, values, _with_error(found["mean"], found["error"]), gain))
            if difference is not None:
                words.append(f"{group['label']}, {name}: {difference['words']}")
    title = f"Repeated with other seeds, measured on split {confirm['split']}"
    print_table(("settings", "objective", "each seed", "mean", "against the baseline"), rows, title)
    for line in [*words, *confirm["remarks"]]:
        say(line)


def _standing(settings: TuneConfig, rows: list[dict[str, Any]], summary: dict[str, Any]) -> dict[str, Any]:
    from caloray.tuning.ledger import Ledger

    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    best = summary["chosen"]
    facts: dict[str, Any] = {
        "campaign": settings.name,
        "directory": str(settings.output),
        "trials": len(rows),
        **{f"trials {name}": count for name, count in sorted(counts.items())},
        "hours": round(sum(Ledger(settings.output).sessions().values()) / 3600, 3),
        "best trial": best,
    }
    if best is not None:
        facts |= {name: rows[best].get(name) for name in settings.objective_names}
        facts |= {name: rows[best][name] for name in settings.space if name in rows[best]}
    return facts


def _show_outlook(settings: TuneConfig, *, as_json: bool) -> None:
    from caloray.tuning.outlook import look_ahead
    from caloray.tuning.resolve import base_run
    from caloray.tuning.summary import summarise

    base_run(settings)
    found = look_ahead(settings, os.cpu_count())
    space = summarise(settings).data["parameters"]
    facts = _outlook_facts(settings, found)
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in facts.items()} | {"space": space})
        return
    _tell(facts, as_json=False)
    rows = [
        (name, parameter.kind, " ... ".join(map(str, parameter.ends)), _cell(entry.get("baseline")))
        for (name, parameter), entry in zip(settings.space.items(), space, strict=True)
    ]
    print_table(("field", "range", "values", "baseline"), rows)
    print_table(("epochs", "trials", "epochs in all"), found.rungs, f"Rungs ({settings.fidelity.kind})")


def _outlook_facts(settings: TuneConfig, found: Outlook) -> dict[str, Any]:
    wanted, budget, hours = settings.trial, settings.budget, found.hours
    worker = f"{wanted.cpus:g} CPU" + (f", {wanted.gpus:g} GPU" if wanted.gpus else "")
    return {
        "campaign": settings.name,
        "directory": str(settings.output),
        "config": str(settings.config),
        "components": ", ".join(found.components),
        "search": settings.search.kind,
        "objectives": ", ".join(settings.objective_names),
        "new configurations": "until the budget is over" if found.trials is None else found.trials,
        "trials at the full budget besides": found.repeats,
        "epochs in all": found.total_epochs if found.trials is not None else None,
        "trials that have ended": found.ended,
        "a trial": f"{wanted.workers} x {worker}" if wanted.workers > 1 else worker,
        "at the same time": found.places or "as the cluster has room",
        "budget of hours": budget.hours,
        "budget of GPU hours": budget.gpu_hours,
        "estimated hours": None if hours is None else float(f"{hours:.3g}"),
        "based on": found.basis,
    }


def _tell(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({name.replace(" ", "_"): value for name, value in facts.items()})
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        say(f"{name:<{width}}  {_cell(value)}")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.5g}" if error is None else f"{value:.5g} +- {error:.2g}"
