"""What a training would do, told without doing it: components, sizes, steps, memory. Starts no Ray."""

from __future__ import annotations

__all__ = ["ComponentOutline", "Outline", "outline_training", "require_components", "require_known"]

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from caloray.config import RunConfig
from caloray.distributed.footprint import rows_per_shower, worker_memory
from caloray.distributed.jobs import identity_of, require_settings, shared_batches
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import ConfigError
from caloray.geometry import Geometry, load_geometry
from caloray.io.challenge import ChallengeFile
from caloray.io.ingest import plan_ingest
from caloray.io.manifest import MANIFEST, Manifest
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import Scheme, build_scheme
from caloray.schemes.component import Component
from caloray.training.continuing import continuable
from caloray.training.files import ComponentFolder
from caloray.training.run import FREE


@dataclass(frozen=True)
class ComponentOutline:
    """One component.

    Args:
        name: Its name.
        parameters: Trainable parameters.
        features: Dimension of its flow.
        context_features: Number of conditioning features.
        rows: Training rows in an epoch, empty layers included.
        steps: Steps of the whole training.
        memory: Bytes of one worker: libraries, rows, weights and optimizer and, without a GPU, activations;
            an estimate.
        workers: Resources in words.
        state: "finished", "begun" or "new".
        layers: Layers that it reads.
        warm_start: What it would start from, as the config says.
    """

    name: str
    parameters: int
    features: int
    context_features: int
    rows: int
    steps: int
    memory: int
    workers: str
    state: str
    layers: int = 0
    warm_start: str | None = None

    @property
    def kind(self) -> ComponentOutline:
        """All but the name: components that are alike in it may be told together."""
        return replace(self, name="")


@dataclass(frozen=True)
class Outline:
    """A whole training.

    Args:
        output: The run directory.
        geometry: Name of the readout.
        showers: Showers per split; estimates before the ingest.
        ingested: Whether the shards are there.
        components: One entry each.
    """

    output: Path
    geometry: str
    showers: dict[str, int]
    ingested: bool
    components: tuple[ComponentOutline, ...]


def outline_training(config: RunConfig, only: Sequence[str] = (), *, fresh: bool = False) -> Outline:
    """Look at config and data (file headers, or the manifest) and say what training would do.

    Args:
        config: The run.
        only: These components alone.
        fresh: What was trained before would be discarded.

    Raises:
        ConfigError: The scheme does not suit the geometry, or has no such component.
        DataError: An input file is damaged or missing.
        CheckpointError: A component was trained, or begun, with another config.
    """
    run = RunDirectory.of(config)
    geometry, showers, ingested = _data(config, run)
    scheme = _scheme(config, run, geometry)
    require_settings(config, scheme.components)
    require_known(only, scheme.components)
    chosen = [name for name in scheme.components if not only or name in only]
    manifest = Manifest.load(run.shards) if ingested and not fresh else None
    parts = []
    for part in map(scheme.component, chosen):
        state = "new" if fresh else _state(config, run, part, manifest)
        parts.append(_outline(config, state, part, geometry, showers))
    return Outline(run.path, geometry.name, showers, ingested, tuple(parts))


def require_components(config: RunConfig, only: Sequence[str]) -> None:
    """Refuse what the data do not have, before anything is ingested or started.

    Raises:
        ConfigError: ``only`` names something that is no component of the config's scheme, or the scheme a
            condition that the data lack; naming those that are there.
        DataError: An input file is damaged or missing.
    """
    if only or config.scheme.conditions:
        run = RunDirectory.of(config)
        geometry, _, _ = _data(config, run)
        require_known(only, _scheme(config, run, geometry).components)


def require_known(only: Sequence[str], components: Sequence[str]) -> None:
    """Refuse names that are not components of the scheme.

    Raises:
        ConfigError: Naming those that are.
    """
    for name in only:
        if name not in components:
            ends = [*components[:2], "...", components[-1]] if len(components) > 8 else components
            raise ConfigError(f"no component {name!r} in this scheme", hint=f"known: {', '.join(ends)}")


def _data(config: RunConfig, run: RunDirectory) -> tuple[Geometry, dict[str, int], bool]:
    """Readout, showers by split (estimates before the ingest), and whether the shards are there."""
    if (run.shards / MANIFEST).is_file():
        manifest = Manifest.load(run.shards)
        return manifest.readout, dict(manifest.counts), True
    plan = plan_ingest(config.data)
    share = config.data.split.model_dump()
    return plan.geometry, {split: round(plan.n_rows * part) for split, part in share.items()}, False


def _scheme(config: RunConfig, run: RunDirectory, geometry: Geometry) -> Scheme:
    unfitted = TrainingStatistics.unfitted(_conditions(config, run))
    return build_scheme(config.scheme, geometry, unfitted, config.seed)


def _conditions(config: RunConfig, run: RunDirectory) -> tuple[str, ...]:
    """Names of the conditions in the shards, or in the header of the first file."""
    if (run.shards / MANIFEST).is_file():
        return tuple(Manifest.load(run.shards).sources[0].get("conditions", ()))
    named = config.data.geometry
    with ChallengeFile.open(config.data.files[0], None if named is None else load_geometry(named)) as file:
        return tuple(file.conditions)


def _outline(
    config: RunConfig, state: str, part: Component, geometry: Geometry, showers: dict[str, int]
) -> ComponentOutline:
    training, workers = config.training_of(part.name), config.workers_of(part.name)
    rows = showers.get("train", 0) * rows_per_shower(part, geometry)
    gpus = f", {workers.gpus:g} GPU" if workers.gpus else ""
    return ComponentOutline(
        name=part.name,
        parameters=part.parameters,
        features=part.features,
        context_features=part.context_features,
        rows=rows,
        steps=training.epochs * (rows // max(1, min(training.batch, rows))),
        memory=worker_memory(part, training, geometry, showers, workers),
        workers=f"{workers.workers} x {workers.cpus:g} CPU{gpus}",
        state=state,
        layers=len(part.layers),
        warm_start=training.warm_start,
    )


def _state(config: RunConfig, run: RunDirectory, part: Component, manifest: Manifest | None) -> str:
    """How far it is; other settings or data than it was begun with are refused, as the training does.

    The weights of a warm start are not looked for here, so that another source shows only in the training.
    """
    folder, training = ComponentFolder(run.component(part.name)), config.training_of(part.name)
    finished = folder.result() is not None
    if manifest is not None:
        own = identity_of(config, manifest, part.name)
        shared = shared_batches(part, config.workers_of(part.name))
        free = FREE | {"warm_start.sha256"}
        if continuable(training) and not finished:
            free |= {"training.epochs"}
        folder.require({"training": training.model_dump(mode="json"), **own, **shared}, free)
    if finished:
        return "finished"
    return "begun" if any((folder.path / "checkpoints").glob("step-*")) else "new"
