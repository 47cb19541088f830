"""What a training needs of its shards before it starts: where they are, and what preprocessing has to know.

How the rows come to the workers is :mod:`caloray.distributed.layer_feed`'s.
"""

from __future__ import annotations

__all__ = ["Feed", "fit_statistics"]

from pathlib import Path

from caloray.distributed.tasks import Load, map_tasks
from caloray.geometry import Geometry
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.io.store import LayerStore
from caloray.preprocess.statistics import TrainingStatistics

SPLITS = ("train", "validation")


class Feed:
    """The shards of one directory, by split.

    Args:
        shards: Directory with a manifest.
    """

    def __init__(self, shards: Path) -> None:
        self._directory = shards.absolute()
        self._manifest = Manifest.load(shards)

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
    with ShardReader(path, geometry) as reader:
        units = reader.conditions
    return TrainingStatistics.of(
        store.layer_energies, store.incident_energies, store.conditions, units, store.layer_maxima.tolist()
    )
