"""From ingested shards to training requests, and from finished components to a bundle."""

from __future__ import annotations

__all__ = ["TrainingPlan", "finish_bundle", "fit_statistics", "shard_statistics"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from caloray.bundle import Bundle, numerics, save_bundle
from caloray.errors import CheckpointError, DataError
from caloray.geometry import Geometry
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import Scheme, SchemeConfig, build_scheme
from caloray.training.config import TrainingConfig
from caloray.training.files import ComponentFolder
from caloray.training.run import TrainRequest


def shard_statistics(path: Path, geometry: Geometry) -> TrainingStatistics:
    """Extremes of one shard, read one row group at a time.

    Raises:
        IntegrityError: The shard is damaged or of another geometry.
    """
    parts = []
    with ShardReader(path, geometry) as reader:
        for group in range(reader.n_row_groups):
            _, incident, layers = reader.read(range(geometry.n_layers), group)
            sums = np.stack([layer.sum(axis=1, dtype=np.float64) for layer in layers], axis=1)
            parts.append(TrainingStatistics.of(sums, incident))
    return reduce(TrainingStatistics.merge, parts)


def fit_statistics(directory: Path, parts: Iterable[TrainingStatistics] | None = None) -> TrainingStatistics:
    """Extremes of the training split of a shard directory.

    Args:
        directory: Ingested shards.
        parts: What :func:`shard_statistics` gave for its training shards, when that was done elsewhere.

    Raises:
        DataError: The training split is empty.
    """
    manifest = Manifest.load(directory)
    shards = manifest.of("train")
    if parts is None:
        parts = [shard_statistics(directory / s.path, manifest.readout) for s in shards if s.rows]
    found = list(parts)
    if not found:
        raise DataError(f"{directory}: the training split holds no showers", hint="change data.split")
    return reduce(TrainingStatistics.merge, found)


@dataclass(frozen=True)
class TrainingPlan:
    """All that determines the components of one run.

    Args:
        run: The run's directory.
        scheme_config: Settings of the scheme.
        geometry: The readout.
        statistics: Extremes of the training split.
        seed: The run's seed.
        data: Digest of the manifest of the ingested shards.
    """

    run: Path
    scheme_config: SchemeConfig
    geometry: Geometry
    statistics: TrainingStatistics
    seed: int
    data: str

    @property
    def scheme(self) -> Scheme:
        """The scheme with fitted preprocessing."""
        return build_scheme(self.scheme_config, self.geometry, self.statistics, self.seed)

    def request(self, component: str, config: TrainingConfig) -> TrainRequest:
        """The training request of one component."""
        return TrainRequest(
            component=self.scheme.component(component),
            config=config,
            directory=self.folder(component).path,
            seed=self.seed,
            identity=self._identity(component),
        )

    def folder(self, component: str) -> ComponentFolder:
        """Where one component's files are."""
        return ComponentFolder(self.run / "components" / component)

    def _identity(self, component: str) -> dict[str, Any]:
        scheme = self.scheme_config.model_dump(mode="json")
        flows = scheme.pop("flows")
        return {
            "component": component,
            "scheme": scheme,
            "flow": flows[component],
            "geometry": self.geometry.digest,
            "statistics": self.statistics.to_dict(),
            "seed": self.seed,
            "data": self.data,
        }


def finish_bundle(plan: TrainingPlan, block_size: int, info: Mapping[str, Any] | None = None) -> Bundle:
    """Put the results of all components into ``<run>/bundle``.

    Args:
        plan: The run's plan.
        block_size: Showers per block.
        info: Further provenance without times and hosts.

    Raises:
        CheckpointError: A component has no result yet.
    """
    weights, training = {}, {}
    for name in plan.scheme.components:
        folder = plan.folder(name)
        result = folder.result()
        if result is None:
            raise CheckpointError(
                f"{folder.path}: component {name} is not trained yet",
                hint="run the same train command again; finished components are kept",
            )
        weights[name] = folder.weights()
        training[name] = {
            "parameters": result.parameters,
            "epochs": result.epochs,
            "selected_epoch": result.selected_epoch,
            "validation_loss": result.validation_loss,
        }
    return save_bundle(
        plan.run / "bundle",
        config=plan.scheme_config,
        geometry=plan.geometry,
        statistics=plan.statistics,
        seed=plan.seed,
        weights=weights,
        block_size=block_size,
        info={"data": plan.data, "training": training, "numerics": numerics(), **dict(info or {})},
    )
