"""What is known once the showers are there: whether every corner of the space can be trained and measured.

A trial that finds it out for itself does so after a whole training, and so does every one after it.
"""

from __future__ import annotations

__all__ = ["require_ready"]

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from caloray.config import RunConfig
from caloray.errors import CaloRayError, ConfigError
from caloray.geometry import Geometry
from caloray.io.source import open_source
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.tuning.generated import FirstShowers, TrainedTrial, require_whole
from caloray.tuning.objectives import require_metric
from caloray.tuning.resolve import assigned, component_names
from caloray.tuning.settings import TuneConfig
from caloray.tuning.warm import require_sources

PROBED = 200
"""Showers that a metric's name is looked up with."""


def require_ready(
    settings: TuneConfig,
    base: RunConfig,
    geometry: Geometry,
    statistics: TrainingStatistics,
    shards: Path,
) -> None:
    """Build every corner of the space, and all that the objectives need, before the first trial.

    Args:
        settings: The campaign.
        base: What it searches around.
        geometry: Readout of the showers.
        statistics: What preprocessing learned from the training split.
        shards: The ingested showers.

    Raises:
        ConfigError: A corner that cannot be built, a warm start from nowhere, a bundle that does not fit, a
            metric that these showers do not have.
        BundleError: A bundle that cannot be opened.
    """
    names = component_names(settings, base)
    for place, assignment in _corners(settings):
        try:
            run = assigned(base, assignment)
            scheme = build_scheme(run.scheme, geometry, statistics, run.seed)
            for name in names:
                scheme.component(name)
            require_sources(run, scheme, names)
            for metric in settings.metrics[:1]:
                require_whole(_untrained(run, names, geometry, statistics, metric.bundle))
        except ConfigError as error:
            raise ConfigError(f"{place}: {error.message}", hint=error.hint) from error
        except CaloRayError:
            raise
        except ValueError as error:
            raise ConfigError(f"{place}: {str(error).splitlines()[0]}") from error
    _require_metrics(settings, shards)


def _corners(settings: TuneConfig) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The run config as it is, each field at each of its ends, and all of them at theirs together."""
    yield "the run config", {}
    space = settings.space
    for name, axis in space.items():
        for value in axis.ends:
            yield f"space.{name} at {value}", {name: value}
    for which, word in ((0, "lower"), (-1, "upper")):
        yield f"space at its {word} ends", {name: axis.ends[which] for name, axis in space.items()}


def _untrained(
    run: RunConfig,
    names: Sequence[str],
    geometry: Geometry,
    statistics: TrainingStatistics,
    bundle: Path | None,
) -> TrainedTrial:
    return TrainedTrial(run, geometry, statistics, {name: {} for name in names}, bundle=bundle)


def _require_metrics(settings: TuneConfig, shards: Path) -> None:
    """Whether the evaluation has the metrics: held-out showers are compared with those of training."""
    for metric in settings.metrics:
        one, other = (FirstShowers(open_source(shards, split), PROBED) for split in ("validation", "train"))
        require_metric(metric, one, other)
