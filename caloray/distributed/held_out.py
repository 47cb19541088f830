"""A run against its own held-out showers: what to generate, and the comparison."""

from __future__ import annotations

__all__ = ["compare", "require_end", "require_shares", "run_plan"]

from collections.abc import Callable, Sequence

import numpy as np

from caloray.bundle import Bundle
from caloray.config import RunConfig
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import ConfigError, DataError
from caloray.evaluation import run as evaluation
from caloray.evaluation.axes import default_threshold
from caloray.evaluation.results import Results
from caloray.generation.conditions import ConditionSpec, ListedCondition, resolve_conditions
from caloray.generation.energies import EnergySpec, Listed, check_range, resolve
from caloray.generation.plan import GenerationPlan, count_events, make_plan
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.io.source import open_source


def require_shares(config: RunConfig) -> None:
    """Refuse a run whose split leaves nothing to train on, to validate with or to compare with.

    Raises:
        ConfigError: A split that the run needs has no share of the data.
    """
    shares = config.data.split.model_dump()
    chosen = config.evaluation.split
    needed = {chosen: f"evaluation.split: {chosen}", "train": "training", "validation": "training"}
    for split, who in needed.items():
        if shares[split] == 0:
            raise ConfigError(
                f"data.split.{split} is 0, but {who} needs showers of that split",
                hint="give it a share, or compare with another split (evaluation.split: validation)",
            )


def require_end(config: RunConfig) -> None:
    """Refuse, once the data are there and before anything is trained, a run that would fail at its end.

    Raises:
        ConfigError: Too few showers to compare, or energies that the trained model would refuse, or that come
            without the conditions that it needs.
        DataError: A file of energies that cannot be read.
    """
    run, wanted = RunDirectory.of(config), config.generation
    held_out = Manifest.load(run.shards).counts.get(config.evaluation.split, 0)
    n = wanted.n or held_out
    if wanted.energies is not None:
        energies = resolve(wanted.energies)
        resolve_conditions((), energies, config.scheme.conditions)
        trained = _energies(run, "train")
        span = float(trained.min()), float(trained.max())
        check_range(energies, span, allow_extrapolation=wanted.allow_extrapolation)
        n = count_events(energies, wanted.n)
    if min(held_out, n) < evaluation.FEWEST:
        raise ConfigError(
            f"the run would compare {n} generated showers with {held_out} of split "
            f"{config.evaluation.split!r}; at least {evaluation.FEWEST} of each are needed",
            hint="ingest more data, change data.split or raise generation.n",
        )


def run_plan(config: RunConfig, run: RunDirectory, bundle: Bundle) -> GenerationPlan:
    """The request of a run's own showers; without energies in the config, those of the held-out split.

    The particles of the held-out split come whole, with the conditions that the model needs. They may lie a
    little outside those of the training split, which is always allowed for them.
    Invalid showers are drawn again and counted in the manifest.
    """
    wanted = config.generation
    energies = wanted.energies or _held_out(config, run)
    conditions = () if wanted.energies else _held_out_conditions(config, run, bundle.condition_names)
    n = wanted.n if wanted.energies is not None else None
    return make_plan(
        bundle,
        n,
        wanted.seed,
        energies=energies,
        conditions=conditions,
        blocks_per_shard=wanted.blocks_per_shard,
        on_invalid="resample",
        allow_extrapolation=wanted.energies is None or wanted.allow_extrapolation,
        bundle=str(run.bundle),
    )


def compare(config: RunConfig, run: RunDirectory, progress: Callable[[str, int, int], None]) -> Results:
    """Evaluate, or read the results that were made of the same showers with the same settings."""
    options = config.evaluation
    reference = open_source(run.shards, options.split)
    generated = open_source(run.showers)
    cut = default_threshold(reference.geometry) if options.threshold is None else options.threshold
    kept = _kept(run)
    measured = options.metrics.model_dump(mode="json")
    asked = [reference.digest, generated.digest, options.seed, cut, measured]
    if kept is not None and _question(kept) == asked:
        return kept
    results = evaluation.evaluate(
        reference,
        generated,
        threshold=cut,
        seed=options.seed,
        training=open_source(run.shards, "train"),
        metrics=options.metrics,
        names=(f"held-out {options.split}", config.name),
        progress=progress,
    )
    results.save(run.path)
    return results


def _question(kept: Results) -> list[object]:
    """What the kept results are an answer to."""
    data = kept.data
    return [
        data["reference"]["digest"],
        data["generated"]["digest"],
        data["seed"],
        data["threshold"],
        data["settings"],
    ]


def _held_out(config: RunConfig, run: RunDirectory) -> EnergySpec:
    """Incident energies of the held-out split, in manifest order; repeated or cut to the number asked for."""
    values = _energies(run, config.evaluation.split)
    n = config.generation.n or len(values)
    return Listed(values=tuple(np.resize(values, n).tolist()))


def _held_out_conditions(
    config: RunConfig, run: RunDirectory, names: Sequence[str]
) -> tuple[ConditionSpec, ...]:
    """The same particles' conditions, in the same order."""
    if not names:
        return ()
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for entry in Manifest.load(run.shards).of(config.evaluation.split):
        with ShardReader(run.shards / entry.path) as reader:
            columns = reader.read_conditions()
        for name in names:
            found[name].append(columns[name])
    values = {name: np.concatenate(parts) for name, parts in found.items()}
    n = config.generation.n or len(values[names[0]])
    return tuple(ListedCondition(name=k, values=tuple(np.resize(v, n).tolist())) for k, v in values.items())


def _energies(run: RunDirectory, split: str) -> np.ndarray:
    """Incident energies [MeV] of one split, in manifest order."""
    found = []
    for entry in Manifest.load(run.shards).of(split):
        with ShardReader(run.shards / entry.path) as reader:
            found.append(reader.read([])[1])
    return np.concatenate(found)


def _kept(run: RunDirectory) -> Results | None:
    try:
        return Results.load(run.results)
    except DataError:
        return None
