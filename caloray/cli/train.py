"""``caloray train``: train every component of a config's scheme and assemble the bundle."""

from __future__ import annotations

__all__ = ["EXAMPLE", "train", "train_settings"]

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, print_json, print_table, say

if TYPE_CHECKING:
    from caloray.bundle import Bundle
    from caloray.config import RunConfig
    from caloray.distributed.outline import Outline

EXAMPLE = "Example: caloray train configs/demo.yaml --set seed=2 --dry-run"


def train(
    config: Annotated[Path, typer.Argument(help="Run config (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    *,
    components: Annotated[
        str | None, typer.Option("--components", help="Train only these, e.g. first_layer,next_layer.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and start nothing.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Discard what was trained before.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train every component of the scheme, in parallel on Ray, and write the bundle.

    Run the same command again to continue a run that was stopped.
    """
    from caloray.config import load_config

    settings = load_config(config, overrides or [])
    only = tuple(components.split(",")) if components else ()
    if dry_run:
        _show_outline(settings, only, as_json=as_json)
        return
    bundle = train_settings(settings, fresh=fresh, only=only)
    if bundle is None:
        say(f"trained {components}; the bundle follows when the other components are trained")
        return
    facts = {"bundle": str(bundle.path), "digest": bundle.digest, **_losses(bundle.info)}
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        say(f"{name:<32} {value}")


def train_settings(
    settings: RunConfig,
    *,
    fresh: bool = False,
    only: tuple[str, ...] = (),
    before: Callable[[RunConfig], None] | None = None,
) -> Bundle | None:
    """Ingest if need be, train what is not trained yet, assemble the bundle.

    Args:
        settings: The run.
        fresh: Discard what an earlier training of this run left (ingested shards stay).
        only: Train these components alone.
        before: Called when the data are ingested, before anything is trained; may refuse the run.

    Returns:
        The bundle, or None while components are missing.
    """
    from caloray.cli.training_view import show_training
    from caloray.distributed.pipeline import ingest_run, train_run
    from caloray.distributed.run_directory import RunDirectory
    from caloray.distributed.session import connect

    if fresh:
        RunDirectory.of(settings).discard()
    with connect(settings.cluster) as session, show_training() as progress:
        place = "started for this run" if session.owned else session.address
        note(f"run {settings.name} in {settings.output}; Ray: {place}")
        ingest_run(settings, session, progress)
        if before is not None:
            before(settings)
        return train_run(settings, session, progress, only)


def _show_outline(settings: RunConfig, only: tuple[str, ...], *, as_json: bool) -> None:
    from dataclasses import asdict

    from caloray.distributed.outline import outline_training

    outline = outline_training(settings, only)
    if as_json:
        print_json(asdict(outline))
        return
    _say_outline(outline)


def _say_outline(outline: Outline) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in outline.showers.items())
    state = "ingested" if outline.ingested else "to be ingested"
    say(f"output   {outline.output}")
    say(f"data     {outline.geometry}: {counts} showers, {state}")
    columns = ("component", "parameters", "flow", "rows/epoch", "steps", "workers", "GB/worker", "state")
    rows: list[tuple[Any, ...]] = [
        (
            part.name,
            f"{part.parameters:,}",
            f"{part.features} | {part.context_features}",
            f"{part.rows:,}",
            f"{part.steps:,}",
            part.workers,
            f"{part.memory / 1e9:.1f}",
            part.state,
        )
        for part in outline.components
    ]
    print_table(columns, rows)


def _losses(info: dict[str, Any]) -> dict[str, str]:
    return {
        f"{name} validation loss": f"{facts['validation_loss']:.4f} (epoch {facts['selected_epoch']})"
        for name, facts in info["training"].items()
    }
