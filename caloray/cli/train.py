"""``caloray train``: train every component of a config's scheme and assemble the bundle."""

from __future__ import annotations

__all__ = ["EXAMPLE", "train", "train_settings"]

import re
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloray.cli.console import note, print_json, print_table, say

if TYPE_CHECKING:
    from caloray.bundle import Bundle
    from caloray.config import RunConfig
    from caloray.distributed.outline import ComponentOutline, Outline

EXAMPLE = "Example: caloray train configs/demo.yaml --set seed=2 --dry-run"
LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def train(
    config: Annotated[Path, typer.Argument(help="Run config (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
    *,
    components: Annotated[
        str | None, typer.Option("--components", help="Train only these, e.g. first_layer,next_layer.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option("--layers", help="Train the components of these layers only, e.g. 0-4,7.")
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
    only += _layer_components(settings, layers) if layers is not None else ()
    if dry_run:
        _show_outline(settings, only, fresh=fresh, as_json=as_json)
        return
    bundle = train_settings(settings, fresh=fresh, only=only)
    if bundle is None:
        say(f"trained {len(set(only))} components; the bundle follows when the others are trained")
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

    Names that are no components are refused before anything is discarded, ingested or started.

    Args:
        settings: The run.
        fresh: Discard what an earlier training of this run left (ingested shards stay).
        only: Train these components alone.
        before: Called when the data are ingested, before anything is trained; may refuse the run.

    Returns:
        The bundle, or None while components are missing.
    """
    from caloray.cli.training_view import show_training
    from caloray.distributed.outline import require_components
    from caloray.distributed.pipeline import ingest_run, train_run
    from caloray.distributed.run_directory import RunDirectory
    from caloray.distributed.session import connect

    require_components(settings, only)
    if fresh:
        RunDirectory.of(settings).discard()
    with connect(settings.cluster) as session, show_training() as progress:
        place = "started for this run" if session.owned else session.address
        note(f"run {settings.name} in {settings.output}; Ray: {place}")
        ingest_run(settings, session, progress)
        if before is not None:
            before(settings)
        return train_run(settings, session, progress, only)


def _show_outline(settings: RunConfig, only: tuple[str, ...], *, fresh: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from caloray.distributed.outline import outline_training

    outline = outline_training(settings, only, fresh=fresh)
    if as_json:
        print_json(asdict(outline))
        return
    _say_outline(outline)


def _say_outline(outline: Outline) -> None:
    counts = ", ".join(f"{count} {split}" for split, count in outline.showers.items())
    state = "ingested" if outline.ingested else "to be ingested"
    say(f"output   {outline.output}")
    say(f"data     {outline.geometry}: {counts} showers, {state}")
    columns = (
        "component",
        "parameters",
        "flow",
        "layers",
        "rows/epoch",
        "steps",
        "workers",
        "about GB/worker",
        "state",
    )
    alike = [list(parts) for _, parts in groupby(outline.components, key=lambda part: part.kind)]
    print_table(columns, [_row(parts) for parts in alike])
    total = sum(part.parameters for part in outline.components)
    say(f"in all   {len(outline.components)} components, {total:,} parameters")


def _row(parts: list[ComponentOutline]) -> tuple[Any, ...]:
    """One line for components that differ in nothing but their names and follow each other."""
    part = parts[0]
    name = part.name if len(parts) == 1 else f"{part.name} ... {parts[-1].name} ({len(parts)} alike)"
    warm = f", from {part.warm_start}" if part.warm_start and part.state == "new" else ""
    return (
        name,
        f"{part.parameters:,}",
        f"{part.features} | {part.context_features}",
        part.layers,
        f"{part.rows:,}",
        f"{part.steps:,}",
        part.workers,
        f"{part.memory / 1e9:.1f}",
        part.state + warm,
    )


def _layer_components(settings: RunConfig, text: str) -> tuple[str, ...]:
    """Names of the components of layers given as ``0-4,7``.

    Raises:
        ConfigError: Not such a list, or the scheme has no component for each layer.
    """
    from caloray.errors import ConfigError
    from caloray.schemes.layerwise_config import layer_name

    names: list[str] = []
    for part in text.split(","):
        match = LAYERS.fullmatch(part.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ConfigError(
                f"--layers {text!r}: {part.strip()!r} is no layer or range of layers",
                hint="e.g. --layers 0-4,7",
            )
        names += [layer_name(layer) for layer in range(first, last + 1)]
    if not settings.scheme.accepts(names[0]):
        raise ConfigError(
            f"--layers: this config's scheme ({settings.scheme.kind}) has no component for each layer",
            hint=f"use --components with {', '.join(settings.scheme.component_groups)}",
        )
    return tuple(dict.fromkeys(names))


def _losses(info: dict[str, Any]) -> dict[str, str]:
    return {f"{name} validation loss": _told(facts) for name, facts in info["training"].items()}


def _told(facts: dict[str, Any]) -> str:
    warm = facts.get("warm_start")
    begun = f", from {warm['source']}: {warm['tensors']} of {warm['of']} tensors" if warm else ""
    return f"{facts['validation_loss']:.4f} (epoch {facts['selected_epoch']}{begun})"
