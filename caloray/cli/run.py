"""``caloray run``: one config from data to figures."""

from __future__ import annotations

__all__ = ["EXAMPLE", "run"]

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloray.cli.console import note, say
from caloray.cli.progress import counting

if TYPE_CHECKING:
    from caloray.bundle import Bundle
    from caloray.config import RunConfig
    from caloray.generation.plan import GenerationPlan
    from caloray.generation.shard import Progress

EXAMPLE = "Example: caloray run configs/demo.yaml"
GRACE = 1.0
ENERGIES = "test_energies.npy"


def run(
    config: Annotated[Path, typer.Argument(help="Run config (YAML).")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value, e.g. a.b=3.")
    ] = None,
) -> None:
    """Ingest, train, generate and evaluate, as one config says.

    Run the same command again to continue: finished steps are kept.
    """
    from caloray.cli.train import train
    from caloray.config import load_config

    settings = load_config(config, overrides or [])
    train(config, overrides)
    _generate(settings)
    _evaluate(settings)
    _summarise(settings)


def _generate(settings: RunConfig) -> None:
    from caloray.bundle import Bundle
    from caloray.generation.export import export_hdf5
    from caloray.interrupt import watch_signals

    model = Bundle.load(settings.output / "bundle")
    plan = _plan(settings, model)
    directory = settings.output / "showers"
    note(f"generating {plan.rows} showers in {directory}")
    with counting("showers", plan.rows) as progress:
        _carry_out(settings, model, plan, progress)
    if settings.generation.hdf5:
        with watch_signals(grace=0.0, what="export"):
            export_hdf5(directory, settings.output / "showers.hdf5")


def _plan(settings: RunConfig, model: Bundle) -> GenerationPlan:
    """The request; with the held-out showers' own energies where the config names none."""
    from caloray.generation.energies import FromFile
    from caloray.generation.plan import make_plan

    wanted = settings.generation
    held_out = wanted.energies is None
    return make_plan(
        model,
        wanted.n,
        wanted.seed,
        energies=FromFile(path=_held_out_energies(settings)) if held_out else wanted.energies,
        blocks_per_shard=wanted.blocks_per_shard,
        allow_extrapolation=held_out,
        bundle=str(model.path),
    )


def _held_out_energies(settings: RunConfig) -> Path:
    """Write the incident energies of the reference split to a file of the run, in the order of its shards."""
    import numpy as np

    from caloray.atomic import staging
    from caloray.io.manifest import Manifest
    from caloray.io.shards import read_layers

    shards = settings.output / "shards"
    entries = Manifest.load(shards).of(settings.evaluation.split)
    energies = np.concatenate([read_layers(shards / entry.path, [])[1] for entry in entries])
    with staging(settings.output / ENERGIES) as temporary, temporary.open("wb") as file:
        np.save(file, energies, allow_pickle=False)
    return settings.output / ENERGIES


def _carry_out(settings: RunConfig, model: Bundle, plan: GenerationPlan, progress: Progress) -> None:
    from caloray.interrupt import watch_signals

    directory = settings.output / "showers"
    if settings.generation.workers:
        from caloray.distributed.generate import generate_with_ray
        from caloray.distributed.session import connect

        with connect(settings.cluster) as session:
            generate_with_ray(session, model.path, plan, directory, progress)
        return
    from caloray.generation.run import generate

    with watch_signals(grace=GRACE, what="generation") as stop:
        generate(model, plan, directory, progress, stop)


def _evaluate(settings: RunConfig) -> None:
    from caloray.cli.evaluate import evaluate

    note(f"comparing with the {settings.evaluation.split} split of {settings.output / 'shards'}")
    evaluate(settings.output / "shards", settings.output / "showers", settings.output)


def _summarise(settings: RunConfig) -> None:
    rows = {
        "model": "bundle",
        "showers": "showers.hdf5" if settings.generation.hdf5 else "showers",
        "results": "results.json",
        "figures": "figures" if settings.evaluation.figures else None,
    }
    for what, name in rows.items():
        if name:
            say(f"{what:<8} {settings.output / name}")
