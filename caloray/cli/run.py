"""``caloray run``: one config from data to figures."""

from __future__ import annotations

__all__ = ["EXAMPLE", "run"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, say
from caloray.cli.progress import counting

if TYPE_CHECKING:
    from caloray.config import RunConfig

EXAMPLE = "Example: caloray run configs/demo.yaml"


def run(
    config: Annotated[Path, typer.Argument(help="Run config (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    *,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what was trained before.")] = False,
) -> None:
    """Ingest, train, generate and evaluate, as one config says.

    Run the same command again to continue: finished steps are kept.
    """
    from caloray.cli.train import train_settings
    from caloray.config import load_config
    from caloray.distributed.held_out import require_end, require_shares

    settings = load_config(config, overrides or [])
    require_shares(settings)
    train_settings(settings, fresh=fresh, before=require_end)
    _generate(settings)
    _show(_evaluate(settings))
    _say_where(settings)


def _generate(settings: RunConfig) -> None:
    from caloray.distributed.pipeline import Progress, generate_run
    from caloray.distributed.session import connect

    with counting("showers") as count:
        progress = Progress(generated=count)
        if settings.generation.workers:
            with connect(settings.cluster) as session:
                generate_run(settings, session, progress)
        else:
            generate_run(settings, None, progress)


def _evaluate(settings: RunConfig) -> dict[str, Any]:
    from caloray.distributed.pipeline import Progress, evaluate_run

    def tell(stage: str, done: int, total: int) -> None:
        if done >= total:
            note(f"evaluation, {stage}: " + (f"{total} showers" if total > 1 else "done"))

    return evaluate_run(settings, Progress(evaluated=tell))


def _show(results: dict[str, Any]) -> None:
    from caloray.cli.results_view import show_results

    show_results(results)


def _say_where(settings: RunConfig) -> None:
    from caloray.distributed.run_directory import RunDirectory

    places = RunDirectory(settings.output)
    say(f"model    {places.bundle}")
    say(f"showers  {places.hdf5 if settings.generation.hdf5 else places.showers}")
    say(f"results  {places.results}")
    if settings.evaluation.figures:
        say(f"figures  {places.figures}")
        say(f"page     {places.page}")
