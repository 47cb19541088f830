"""``caloray track``: send metrics that were spooled while the tracking server was away."""

from __future__ import annotations

__all__ = ["app"]

from pathlib import Path
from typing import Annotated

import typer

from caloray.cli.console import say

app = typer.Typer(help="Experiment tracking.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep ``sync`` a subcommand although it is alone."""


@app.command(epilog="Example: caloray track sync runs/demo")
def sync(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    uri: Annotated[
        str | None,
        typer.Option("--uri", help="MLflow server; default: MLFLOW_TRACKING_URI or the run's own."),
    ] = None,
) -> None:
    """Send what was spooled in a run directory to its MLflow server."""
    from caloray.tracking import sync_run

    if not sync_run(run, uri):
        raise typer.Exit(75)
    say(f"{run}: everything has arrived")
