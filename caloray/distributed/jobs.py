"""From a run config and its shards to one training job per component."""

from __future__ import annotations

__all__ = ["component_jobs", "identity_of"]

import json
import logging
from typing import Any

from caloray.atomic import write_json
from caloray.config import RunConfig
from caloray.distributed.feed import Feed, fit_statistics
from caloray.distributed.loop import ComponentJob
from caloray.distributed.run_directory import RunDirectory
from caloray.geometry import Geometry
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import Scheme, build_scheme
from caloray.training.run import TrainRequest

_LOG = logging.getLogger(__name__)


def component_jobs(
    config: RunConfig, run: RunDirectory, feed: Feed, stop: StopRequest
) -> tuple[Scheme, TrainingStatistics, list[ComponentJob]]:
    """The scheme with preprocessing fitted on the training split, and the jobs of its components.

    Raises:
        ConfigError: The scheme does not suit the geometry.
        IntegrityError: A shard is damaged.
    """
    geometry = feed.manifest.readout
    statistics = _statistics(run, feed, geometry, stop)
    scheme = build_scheme(config.scheme, geometry, statistics, config.seed)
    jobs = [_job(config, run, feed.manifest, scheme, name, geometry) for name in scheme.components]
    return scheme, statistics, jobs


def identity_of(config: RunConfig, manifest: Manifest, component: str) -> dict[str, Any]:
    """What determines a component's result besides its training settings."""
    scheme = config.scheme.model_dump(mode="json")
    scheme["flows"] = {component: scheme["flows"][component]}
    data = {"request": manifest.created.get("request", manifest.digest), "geometry": manifest.geometry_digest}
    return {"scheme": scheme, "seed": config.seed, "data": data}


def _job(
    config: RunConfig, run: RunDirectory, manifest: Manifest, scheme: Scheme, name: str, geometry: Geometry
) -> ComponentJob:
    component = scheme.component(name)
    request = TrainRequest(
        component=component,
        config=config.training_of(name),
        directory=run.component(name),
        seed=config.seed,
        identity=identity_of(config, manifest, name),
    )
    threads = max(1, int(config.workers_of(name).cpus))
    return ComponentJob(request, geometry, tuple(component.layers), run.stop_file, threads)


def _statistics(run: RunDirectory, feed: Feed, geometry: Geometry, stop: StopRequest) -> TrainingStatistics:
    """Fitted once; a later call for the same data reads them back."""
    key = feed.manifest.digest
    try:
        kept = json.loads(run.statistics.read_text())
        if kept["data"] == key:
            return TrainingStatistics(**kept["statistics"])
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.debug("%s: not there or not readable; fitted anew", run.statistics)
    statistics = fit_statistics(feed, geometry, run.path / "components", stop)
    write_json(run.statistics, {"data": key, "statistics": statistics.to_dict()})
    return statistics
