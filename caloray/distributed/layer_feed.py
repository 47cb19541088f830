"""From shards to training workers, layer by layer: each layer's hit voxels once in the object store.

A training reads a few layers of many: its own and those before it. The driver reads each layer once, in its
own process and without Ray tasks, so that nothing waits for CPUs that trainers hold (a lazy dataset would
wait for ever, without a word), and puts it into the object store as a :class:`caloray.io.store.LayerStore` of
one layer. Workers fetch the layers of their component, also after a restart, and join them. Of a component
that looks at the energies of layers alone only those are stored. What no running or next trainer needs is
dropped: the object store holds the union of their layers, at most the sparse training and validation splits
once.
"""

from __future__ import annotations

__all__ = ["Column", "Columns", "LayerFeed", "join_layers", "split_layers", "sum_layers", "take_layers"]

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.io.store import LayerStore

Column = tuple[int, bool]
"""A layer, and whether only its energy is wanted instead of its voxels."""
Columns = Mapping[str, Sequence[Any]]
"""Object references of one layer each, by split."""
AT_ONCE = 6


class LayerFeed:
    """Layers of the training and validation splits in the object store; may be used by several threads.

    Args:
        paths: Shards by split.
        geometry: Their readout.
    """

    def __init__(self, paths: Mapping[str, Sequence[Path]], geometry: Geometry) -> None:
        self._paths, self._geometry = paths, geometry
        self._loading, self._access = threading.Lock(), threading.Lock()
        self._held: dict[Column, dict[str, Any]] = {}
        self._bytes: dict[Column, int] = {}
        self.peak = 0

    @property
    def held(self) -> dict[Column, int]:
        """Bytes of each column that is in the object store now."""
        with self._access:
            return dict(self._bytes)

    def columns(self, layers: Sequence[int], *, sums: bool = False) -> Columns:
        """References to ``layers``, or to their energies alone; what is not there yet is read first.

        Raises:
            IntegrityError: A shard is missing or damaged.
        """
        wanted = [(layer, sums) for layer in layers]
        with self._loading:
            with self._access:
                known = {column: self._held[column] for column in wanted if column in self._held}
            for some in _pieces([layer for layer, _ in wanted if (layer, sums) not in known]):
                known |= self._read(some, sums=sums)
        return {split: [known[column][split] for column in wanted] for split in self._paths}

    def keep(self, columns: Collection[Column]) -> None:
        """Drop all other columns; a worker that still has one in use keeps it until it ends."""
        with self._access:
            for column in set(self._held) - set(columns):
                del self._held[column], self._bytes[column]

    def _read(self, layers: tuple[int, ...], *, sums: bool) -> dict[Column, dict[str, Any]]:
        found: dict[Column, dict[str, Any]] = {(layer, sums): {} for layer in layers}
        sizes = dict.fromkeys(found, 0)
        for split, paths in self._paths.items():
            whole = LayerStore.from_shards(paths, self._geometry, layers)
            for store in split_layers(sum_layers(whole) if sums else whole):
                column = store.layers[0], sums
                found[column][split] = ray.put(store)
                sizes[column] += store.nbytes
        with self._access:
            self._held |= found
            self._bytes |= sizes
            self.peak = max(self.peak, sum(self._bytes.values()))
        return found


def take_layers(columns: Columns, split: str) -> LayerStore:
    """Runs on a worker: the layers of one split, joined."""
    return join_layers(ray.get(list(columns[split])))


def split_layers(store: LayerStore) -> list[LayerStore]:
    """One store per layer, with the same showers."""
    counts = np.diff(store.bounds).reshape(len(store), len(store.layers))
    column = np.repeat(np.tile(np.arange(len(store.layers), dtype=np.int16), len(store)), counts.ravel())
    parts = []
    for position, layer in enumerate(store.layers):
        inside = np.flatnonzero(column == position)
        parts.append(
            replace(
                store,
                layers=(layer,),
                bounds=_bounds(counts[:, position]),
                indices=store.indices[inside],
                values=store.values[inside],
            )
        )
    return parts


def sum_layers(store: LayerStore) -> LayerStore:
    """The same showers with one entry per layer, its energy in full precision instead of its voxels."""
    energies = store.layer_energies.ravel()
    return replace(
        store,
        bounds=np.arange(len(energies) + 1),
        indices=np.zeros(len(energies), store.indices.dtype),
        values=energies,
    )


def join_layers(stores: Sequence[LayerStore]) -> LayerStore:
    """The inverse of :func:`split_layers`.

    Raises:
        DataError: The stores hold different showers.
    """
    first = stores[0]
    for store in stores[1:]:
        if not np.array_equal(store.event_ids, first.event_ids):
            raise DataError(
                f"layers {first.layers} and {store.layers} hold different showers",
                hint="the shards were changed while they were read; run the same command again",
            )
    counts = np.stack([np.diff(store.bounds) for store in stores], axis=1)
    bounds = _bounds(counts.ravel())
    starts = bounds[:-1].reshape(counts.shape)
    indices = np.empty(bounds[-1], first.indices.dtype)
    values = np.empty(bounds[-1], first.values.dtype)
    for column, store in enumerate(stores):
        to = np.repeat(starts[:, column] - store.bounds[:-1], counts[:, column]) + np.arange(
            len(store.values)
        )
        indices[to], values[to] = store.indices, store.values
    layers = tuple(layer for store in stores for layer in store.layers)
    return replace(first, layers=layers, bounds=bounds, indices=indices, values=values)


def _bounds(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _pieces(layers: Sequence[int]) -> list[tuple[int, ...]]:
    """Few layers at once, so that the driver holds no more than a window's worth of voxels."""
    return [tuple(layers[i : i + AT_ONCE]) for i in range(0, len(layers), AT_ONCE)]
