"""A run against its own held-out showers: what to generate, and the comparison."""

from __future__ import annotations

__all__ = ["compare", "run_plan"]

from collections.abc import Callable

import numpy as np

from caloray.bundle import Bundle
from caloray.config import RunConfig
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import DataError
from caloray.evaluation import run as evaluation
from caloray.evaluation.axes import default_threshold
from caloray.evaluation.results import Results
from caloray.generation.energies import EnergySpec, Listed
from caloray.generation.plan import GenerationPlan, make_plan
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.io.source import open_source


def run_plan(config: RunConfig, run: RunDirectory, bundle: Bundle) -> GenerationPlan:
    """The request of a run's own showers; without energies in the config, those of the held-out split.

    Held-out energies may lie a little outside those of the training split, which is allowed for them alone.
    Invalid showers are drawn again and counted in the manifest.
    """
    wanted = config.generation
    energies = wanted.energies or _held_out(config, run)
    n = wanted.n if wanted.energies is not None else None
    return make_plan(
        bundle,
        n,
        wanted.seed,
        energies=energies,
        blocks_per_shard=wanted.blocks_per_shard,
        on_invalid="resample",
        allow_extrapolation=wanted.energies is None,
        bundle=str(run.bundle),
    )


def compare(config: RunConfig, run: RunDirectory, progress: Callable[[str, int, int], None]) -> Results:
    """Evaluate, or read the results that were made of the same showers with the same settings."""
    options = config.evaluation
    reference = open_source(run.shards, options.split)
    generated = open_source(run.showers)
    cut = default_threshold(reference.geometry) if options.threshold is None else options.threshold
    kept = _kept(run)
    asked = [reference.digest, generated.digest, options.seed, cut]
    if kept is not None and _question(kept) == asked:
        return kept
    results = evaluation.evaluate(
        reference,
        generated,
        threshold=cut,
        seed=options.seed,
        names=(f"held-out {options.split}", config.name),
        progress=progress,
    )
    results.save(run.path)
    return results


def _question(kept: Results) -> list[object]:
    """What the kept results are an answer to."""
    data = kept.data
    return [data["reference"]["digest"], data["generated"]["digest"], data["seed"], data["threshold"]]


def _held_out(config: RunConfig, run: RunDirectory) -> EnergySpec:
    """Incident energies of the held-out split, in manifest order; repeated or cut to the number asked for."""
    found = []
    for entry in Manifest.load(run.shards).of(config.evaluation.split):
        with ShardReader(run.shards / entry.path) as reader:
            found.append(reader.read([])[1])
    values = np.concatenate(found)
    n = config.generation.n or len(values)
    return Listed(values=tuple(np.resize(values, n).tolist()))


def _kept(run: RunDirectory) -> Results | None:
    try:
        return Results.load(run.results)
    except DataError:
        return None
