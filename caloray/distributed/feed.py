"""From shards to the memory of training workers: projected, sparse, materialised before any trainer starts.

Ray Train reserves its CPUs first and a lazy dataset then waits for CPUs that never become free, without a
word. So the driver reads the projected columns into the object store while nothing else runs; workers take
them out of it once and keep them as a :class:`caloray.io.store.LayerStore`, whose order does not depend on
the order of arrival.
"""

from __future__ import annotations

__all__ = ["Feed", "fit_statistics", "take_store"]

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from caloray.distributed.datasource import decode_sparse, read_shards
from caloray.distributed.tasks import Load, map_tasks
from caloray.errors import CaloRayError, ClusterError
from caloray.geometry import Geometry
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest
from caloray.io.store import LayerStore, LayerStoreBuilder
from caloray.preprocess.statistics import TrainingStatistics

SPLITS = ("train", "validation")


class Feed:
    """The training and validation rows of one shard directory in the object store.

    Components that read the same layers share one dataset.

    Args:
        shards: Directory with a manifest.
    """

    def __init__(self, shards: Path) -> None:
        self._directory = shards.absolute()
        self._manifest = Manifest.load(shards)
        self._ready: dict[tuple[int, ...], dict[str, ray.data.MaterializedDataset]] = {}

    @property
    def manifest(self) -> Manifest:
        """What the directory holds."""
        return self._manifest

    def paths(self, split: str) -> list[Path]:
        """Shards of one split.

        Raises:
            DataError: The split is empty.
        """
        return [self._directory / entry.path for entry in self._manifest.of(split)]

    def datasets(self, layers: Sequence[int]) -> Mapping[str, ray.data.MaterializedDataset]:
        """Materialised datasets by split, sparse, with ``layers`` only.

        Raises:
            IntegrityError: A shard is damaged.
            ClusterError: Reading failed for another reason.
        """
        key = tuple(layers)
        if key not in self._ready:
            self._ready[key] = {split: _materialised(self.paths(split), key) for split in SPLITS}
        return self._ready[key]


def take_store(dataset: Any, geometry: Geometry, layers: Sequence[int]) -> LayerStore:
    """Runs on a worker: everything that ``dataset`` (sparse rows) holds, in memory."""
    builder = LayerStoreBuilder(geometry, tuple(layers))
    for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"):
        for rows in decode_sparse(batch):
            builder.add(rows.event_ids, rows.energies, rows.indices, rows.values, rows.counts)
    return builder.build()


def fit_statistics(feed: Feed, geometry: Geometry, scratch: Path, stop: StopRequest) -> TrainingStatistics:
    """What preprocessing needs to know about the training split, shard by shard over the workers.

    Raises:
        IntegrityError: A shard is damaged.
    """
    pieces = [(path, geometry) for path in feed.paths("train")]
    load = Load(memory=700 << 20)
    found = dict(map_tasks(_statistics, pieces, scratch, load, what="preprocessing", stop=stop))
    merged = found[0]
    for index in range(1, len(pieces)):
        merged = merged.merge(found[index])
    return merged


def _statistics(piece: tuple[Path, Geometry], scratch: Path) -> TrainingStatistics:
    """Runs on a worker."""
    del scratch
    path, geometry = piece
    store = LayerStore.from_shards([path], geometry, range(geometry.n_layers))
    return TrainingStatistics.of(store.layer_energies, store.incident_energies)


def _materialised(paths: Sequence[Path], layers: tuple[int, ...]) -> ray.data.MaterializedDataset:
    try:
        return read_shards(paths, layers, "sparse").materialize()
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, CaloRayError):
            raise cause from error
        reason = str(cause or error).strip().splitlines()[-1][:300]
        raise ClusterError(
            f"reading the shards of {paths[0].parent} into memory failed: {reason}",
            hint="check them with `caloray data verify`, and the cluster's memory with `ray status`",
        ) from error
