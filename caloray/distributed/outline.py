"""What a training would do, told without doing it: components, sizes, steps, memory. Starts no Ray."""

from __future__ import annotations

__all__ = ["ComponentOutline", "Outline", "outline_training", "require_known"]

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caloray.config import RunConfig
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.io.ingest import plan_ingest
from caloray.io.manifest import MANIFEST, Manifest
from caloray.io.store import LayerStore, LayerStoreBuilder
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.component import Component
from caloray.training.files import ComponentFolder

HIT_SHARE = 0.15
_HIT_BYTES, _ADAM_COPIES, _LIBRARIES = 6, 4, 450 << 20


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
        memory: Bytes of one worker: libraries, rows, weights and optimizer (an estimate).
        workers: Resources in words.
        state: "finished", "begun" or "new".
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


def outline_training(config: RunConfig, only: Sequence[str] = ()) -> Outline:
    """Look at config and data (file headers, or the manifest) and say what training would do.

    Args:
        config: The run.
        only: These components alone.

    Raises:
        ConfigError: The scheme does not suit the geometry, or has no such component.
        DataError: An input file is damaged or missing.
    """
    run = RunDirectory.of(config)
    ingested = (run.shards / MANIFEST).is_file()
    if ingested:
        manifest = Manifest.load(run.shards)
        geometry, showers = manifest.readout, dict(manifest.counts)
    else:
        plan = plan_ingest(config.data)
        geometry, share = plan.geometry, config.data.split.model_dump()
        showers = {split: round(plan.n_rows * part) for split, part in share.items()}
    scheme = build_scheme(config.scheme, geometry, TrainingStatistics(1, 1.0, 1.0, 1.0, 1.0), config.seed)
    require_known(only, scheme.components)
    chosen = [name for name in scheme.components if not only or name in only]
    parts = [_outline(config, run, scheme.component(name), geometry, showers) for name in chosen]
    return Outline(run.path, geometry.name, showers, ingested, tuple(parts))


def require_known(only: Sequence[str], components: Sequence[str]) -> None:
    """Refuse names that are not components of the scheme.

    Raises:
        ConfigError: Naming those that are.
    """
    for name in only:
        if name not in components:
            raise ConfigError(f"no component {name!r} in this scheme", hint=f"known: {', '.join(components)}")


def _outline(
    config: RunConfig, run: RunDirectory, part: Component, geometry: Geometry, showers: dict[str, int]
) -> ComponentOutline:
    training, workers = config.training_of(part.name), config.workers_of(part.name)
    n = showers.get("train", 0)
    rows = n * len(part.rows(_full_shower(geometry, part.layers)))
    steps = training.epochs * (rows // max(1, min(training.batch, rows)))
    voxels = sum(geometry.layer_sizes[layer] for layer in part.layers)
    held = (n + showers.get("validation", 0)) * (voxels * HIT_SHARE * _HIT_BYTES + 8 * len(part.layers))
    weights = part.parameters * _ADAM_COPIES * (8 if training.dtype == "float64" else 4)
    gpus = f", {workers.gpus:g} GPU" if workers.gpus else ""
    return ComponentOutline(
        name=part.name,
        parameters=part.parameters,
        features=part.features,
        context_features=part.context_features,
        rows=rows,
        steps=steps,
        memory=int(_LIBRARIES + held + weights),
        workers=f"{workers.workers} x {workers.cpus:g} CPU{gpus}",
        state=_state(run.component(part.name)),
    )


def _full_shower(geometry: Geometry, layers: tuple[int, ...]) -> LayerStore:
    """One shower with a hit in every layer: its rows are the rows of any full shower."""
    builder = LayerStoreBuilder(geometry, layers)
    ones = np.ones(len(layers))
    builder.add(np.zeros(1), np.ones(1), 0 * ones, ones, np.ones((1, len(layers)), dtype=np.int64))
    return builder.build()


def _state(folder: Path) -> str:
    if ComponentFolder(folder).result() is not None:
        return "finished"
    return "begun" if any((folder / "checkpoints").glob("step-*")) else "new"
