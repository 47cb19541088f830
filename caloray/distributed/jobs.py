"""From a run config and its shards to one training job per component."""

from __future__ import annotations

__all__ = ["component_jobs", "identity_of", "require_settings", "shared_batches", "training_statistics"]

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caloray.atomic import write_json
from caloray.config import RunConfig, WorkerConfig
from caloray.distributed.feed import Feed, fit_statistics
from caloray.distributed.footprint import sums_only, worker_memory
from caloray.distributed.loop import ComponentJob
from caloray.distributed.run_directory import RunDirectory
from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import Scheme, build_scheme
from caloray.schemes.component import Component
from caloray.schemes.layerwise_components import LayerFlow
from caloray.schemes.layerwise_config import layer_name
from caloray.training.files import ComponentFolder
from caloray.training.run import TrainRequest
from caloray.training.warm import WarmStart, find_source

_LOG = logging.getLogger(__name__)
PREVIOUS = "previous"


def component_jobs(
    config: RunConfig, run: RunDirectory, feed: Feed, stop: StopRequest
) -> tuple[Scheme, TrainingStatistics, list[ComponentJob]]:
    """The scheme with preprocessing fitted on the training split, and the jobs of its components.

    Raises:
        ConfigError: The scheme does not suit the geometry, or settings name a layer or a source of weights
            that does not exist.
        IntegrityError: A shard is damaged.
    """
    geometry = feed.manifest.readout
    statistics = training_statistics(run, feed, stop)
    scheme = build_scheme(config.scheme, geometry, statistics, config.seed)
    require_settings(config, scheme.components)
    jobs = [_job(config, run, feed.manifest, scheme, name, geometry) for name in scheme.components]
    return scheme, statistics, jobs


def identity_of(config: RunConfig, manifest: Manifest, component: str) -> dict[str, Any]:
    """What determines a component's result besides its training settings and a warm start.

    The number of workers is added by :func:`component_jobs` where it matters.
    """
    scheme = config.scheme.model_dump(mode="json")
    names = (component, config.scheme.group_of(component))
    own = next((name for name in names if name in scheme["flows"]), None)
    if own is not None:
        scheme["flows"] = {own: scheme["flows"][own]}
    data = {"request": manifest.created.get("request", manifest.digest), "geometry": manifest.geometry_digest}
    return {"scheme": scheme, "seed": config.seed, "data": data}


def require_settings(config: RunConfig, components: Sequence[str]) -> None:
    """Refuse settings of layers that the geometry does not have.

    Raises:
        ConfigError: Naming the first of them.
    """
    for section, names in (("training", config.training), ("workers", config.workers)):
        for name in names:
            if name not in components and name not in config.scheme.component_groups:
                raise ConfigError(
                    f"{section}.{name}: the scheme has no such component for this geometry",
                    hint=f"components: {components[0]}, {components[1]} ... {components[-1]}",
                )


def _job(
    config: RunConfig, run: RunDirectory, manifest: Manifest, scheme: Scheme, name: str, geometry: Geometry
) -> ComponentJob:
    component = scheme.component(name)
    training, workers = config.training_of(name), config.workers_of(name)
    after, warm = _source(training.warm_start, name, scheme.components, run.component(name))
    request = TrainRequest(
        component=component,
        config=training,
        directory=run.component(name),
        seed=config.seed,
        identity={**identity_of(config, manifest, name), **shared_batches(component, workers)},
        warm=warm,
    )
    return ComponentJob(
        request,
        geometry,
        tuple(component.layers),
        run.stop_file,
        threads=max(1, int(workers.cpus)),
        memory=worker_memory(component, training, geometry, manifest.counts, workers),
        after=after,
        sums=sums_only(component),
    )


def shared_batches(component: Component, workers: WorkerConfig) -> dict[str, Any]:
    """The number of workers where it is part of what is trained: BatchNorm sees each worker's rows alone."""
    if workers.workers > 1 and isinstance(component, LayerFlow):
        return {"workers": workers.workers}
    return {}


def _source(
    wanted: str | None, name: str, components: Sequence[str], folder: Path
) -> tuple[str | None, WarmStart | None]:
    """The component of this run to start from, or weights that are there already; neither for a fresh start.

    Raises:
        ConfigError: There is no such source, or it is trained later in the scheme's order.
    """
    if wanted is None or wanted == name:
        return None, None
    if wanted == PREVIOUS:
        layers = [layer_name(layer) for layer in range(len(components))]
        if name not in layers:
            raise ConfigError(
                f"training.{name}.warm_start: only components of one layer have a previous one",
                hint="give a component's name, the path of a bundle or of a run, or null",
            )
        return (layers[layers.index(name) - 1] if name != layers[0] else None), None
    if wanted not in components:
        return None, _outside(Path(wanted), name, folder)
    if components.index(wanted) > components.index(name):
        raise ConfigError(
            f"training.{name}.warm_start: {wanted} comes after {name} in the scheme",
            hint="start from a component that comes before it",
        )
    return wanted, None


def _outside(path: Path, name: str, folder: Path) -> WarmStart:
    """Weights of a bundle or another run, which may be gone once a training has begun with them."""
    try:
        return find_source(path, name)
    except ConfigError:
        recorded = ComponentFolder(folder).started_from()
        if recorded is None:
            raise
        return WarmStart(f"{name} of {path.name}", path, recorded)


def training_statistics(run: RunDirectory, feed: Feed, stop: StopRequest) -> TrainingStatistics:
    """Fitted once; a later call for the same data reads them back, if no older caloray left them.

    Raises:
        IntegrityError: A shard is damaged.
    """
    key = feed.manifest.digest
    try:
        kept = json.loads(run.statistics.read_text())
        if kept["data"] == key and kept["statistics"]["voxel_maxima"]:
            return TrainingStatistics(**kept["statistics"])
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.debug("%s: not there or not readable; fitted anew", run.statistics)
    statistics = fit_statistics(feed, feed.manifest.readout, run.path / "components", stop)
    write_json(run.statistics, {"data": key, "statistics": statistics.to_dict()})
    return statistics
