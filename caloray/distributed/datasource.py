"""Ray Data over shower shards: reads row group by row group, and only the layers that are asked for.

Two encodings leave the reader. *Dense* gives one row per shower with a float32 tensor column per layer, for
training straight from batches. *Sparse* gives one row per row group that holds only the voxels above zero,
as a few byte strings: whole showers of 40,500 voxels, of which some tenth is hit, stay small in the object
store, and taking them out again needs no loop over showers.

Ray's own ``read_parquet`` costs seconds of fixed overhead per execution; this reader costs none. Our own
training takes :mod:`caloray.distributed.layer_feed`, which needs no CPU while trainers hold them all; this is
for everything else that one does with Ray Data.
"""

from __future__ import annotations

__all__ = [
    "CaloParquetDatasource",
    "Encoding",
    "SparseRows",
    "decode_sparse",
    "encode_sparse",
    "read_shards",
    "take_store",
]

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import ray.data
from ray.data import Datasource, ReadTask
from ray.data.block import Block, BlockAccessor, BlockMetadata

from caloray.geometry import Geometry
from caloray.io.shard_layout import condition_column
from caloray.io.shards import EVENT_ID, INCIDENT_ENERGY, ShardReader, layer_column
from caloray.io.store import LayerStore, LayerStoreBuilder

Encoding = Literal["dense", "sparse"]
_PARTS = ("event_ids", "energies", "counts", "indices", "values")
_CONDITION = condition_column("")
_HIT_SHARE = 0.15


@dataclass(frozen=True)
class SparseRows:
    """The hit voxels of some showers in some layers.

    Args:
        event_ids: (n,) int64.
        energies: (n,) float64 incident energies [MeV].
        counts: (n, layers) int64, hit voxels of each shower in each layer.
        indices: (hits,) uint16 or uint32, voxel within its layer; ordered by shower, then layer, then voxel.
        values: (hits,) float32 [MeV].
        conditions: (n,) float64 values of each further scalar of the particle, by name.
    """

    event_ids: np.ndarray
    energies: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Unit:
    """One row group: the smallest piece that is read at once."""

    path: str
    group: int
    rows: int
    size: int


class CaloParquetDatasource(Datasource):
    """Shards as a Ray Data source.

    Args:
        paths: Shards, all of one geometry.
        layers: The layers to read (positions in the geometry).
        encoding: ``dense`` (one row per shower) or ``sparse`` (one row per row group).

    Raises:
        IntegrityError: A shard is missing or damaged.
    """

    def __init__(self, paths: Sequence[Path], layers: Sequence[int], encoding: Encoding = "dense") -> None:
        super().__init__()
        self._layers = tuple(layers)
        self._encoding = encoding
        self._units: list[_Unit] = []
        for path in paths:
            with ShardReader(path) as reader:
                width = 16 + 4 * sum(reader.layer_sizes[layer] for layer in self._layers)
                self._units.extend(
                    _Unit(str(path), group, rows, rows * width)
                    for group, rows in enumerate(reader.group_rows)
                )

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all blocks together, estimated for the sparse encoding."""
        total = sum(unit.size for unit in self._units)
        return total if self._encoding == "dense" else int(1.5 * _HIT_SHARE * total)

    def get_read_tasks(
        self,
        parallelism: int,
        per_task_row_limit: int | None = None,
        data_context: object = None,
    ) -> list[ReadTask]:
        """Split the row groups into at most about ``parallelism`` tasks, in order."""
        del data_context
        share = max(1, -(-len(self._units) // max(1, parallelism)))
        groups = [self._units[i : i + share] for i in range(0, len(self._units), share)]
        return [self._task(units, per_task_row_limit) for units in groups]

    def _task(self, units: list[_Unit], limit: int | None) -> ReadTask:
        layers, encoding = self._layers, self._encoding
        dense = encoding == "dense"
        size = sum(unit.size for unit in units)
        metadata = BlockMetadata(
            num_rows=sum(unit.rows for unit in units) if dense else len(units),
            size_bytes=size if dense else int(1.5 * _HIT_SHARE * size),
            input_files=sorted({unit.path for unit in units}),
            exec_stats=None,
        )
        return ReadTask(lambda: _read(units, layers, encoding), metadata, per_task_row_limit=limit)


def read_shards(
    paths: Sequence[Path], layers: Sequence[int], encoding: Encoding = "dense", parallelism: int = -1
) -> ray.data.Dataset:
    """A lazy dataset over ``paths`` with the given layers; see :class:`CaloParquetDatasource`."""
    source = CaloParquetDatasource(paths, layers, encoding)
    return ray.data.read_datasource(source, override_num_blocks=None if parallelism < 0 else parallelism)


def encode_sparse(
    event_ids: np.ndarray,
    energies: np.ndarray,
    layers: Sequence[np.ndarray],
    conditions: Mapping[str, np.ndarray] | None = None,
) -> SparseRows:
    """Keep the voxels of ``layers`` (each (n, size) float32 [MeV]) that are above zero."""
    sizes = [layer.shape[1] for layer in layers]
    flat = np.concatenate(layers, axis=1) if len(layers) != 1 else layers[0]
    rows, columns = np.nonzero(flat > 0)
    of_column = np.repeat(np.arange(len(sizes)), sizes)[columns]
    counts = np.bincount(rows * len(sizes) + of_column, minlength=len(flat) * len(sizes))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    kind = np.uint16 if max(sizes) <= np.iinfo(np.uint16).max + 1 else np.uint32
    return SparseRows(
        np.asarray(event_ids, np.int64),
        np.asarray(energies, np.float64),
        counts.reshape(len(flat), len(sizes)),
        (columns - starts[of_column]).astype(kind),
        flat[rows, columns],
        dict(conditions or {}),
    )


def decode_sparse(batch: Mapping[str, Any]) -> Iterator[SparseRows]:
    """Take the row groups out of a batch (``batch_format="numpy"``) of the sparse encoding."""
    for row in range(len(batch["n_layers"])):
        raw = {name: bytes(batch[name][row]) for name in _PARTS}
        kind = np.uint16 if int(batch["index_bytes"][row]) == np.dtype(np.uint16).itemsize else np.uint32
        yield SparseRows(
            np.frombuffer(raw["event_ids"], np.int64),
            np.frombuffer(raw["energies"], np.float64),
            np.frombuffer(raw["counts"], np.int64).reshape(-1, int(batch["n_layers"][row])),
            np.frombuffer(raw["indices"], kind),
            np.frombuffer(raw["values"], np.float32),
            {
                name.removeprefix(_CONDITION): np.frombuffer(bytes(batch[name][row]), np.float64)
                for name in batch
                if name.startswith(_CONDITION)
            },
        )


def take_store(dataset: Any, geometry: Geometry, layers: Sequence[int]) -> LayerStore:
    """Everything that ``dataset`` (sparse rows) holds, in memory; the order of arrival does not matter."""
    builder = LayerStoreBuilder(geometry, tuple(layers))
    for batch in dataset.iter_batches(batch_size=None, batch_format="numpy"):
        for rows in decode_sparse(batch):
            builder.add(
                rows.event_ids, rows.energies, rows.indices, rows.values, rows.counts, rows.conditions
            )
    return builder.build()


def _read(units: Sequence[_Unit], layers: Sequence[int], encoding: Encoding) -> Iterator[Block]:
    """Runs on a worker: one block per row group."""
    for unit in units:
        with ShardReader(Path(unit.path)) as reader:
            event_ids, energies, voxels = reader.read(layers, unit.group)
            conditions = reader.read_conditions(unit.group)
        if encoding == "dense":
            columns = {_CONDITION + name: values for name, values in conditions.items()}
            columns |= {layer_column(layer): part for layer, part in zip(layers, voxels, strict=True)}
            yield BlockAccessor.batch_to_block({EVENT_ID: event_ids, INCIDENT_ENERGY: energies, **columns})
        else:
            rows = encode_sparse(event_ids, energies, voxels, conditions)
            yield BlockAccessor.batch_to_block(_packed(rows))


def _packed(rows: SparseRows) -> dict[str, np.ndarray]:
    """One row of byte strings."""
    packed: dict[str, np.ndarray] = {}
    parts = {name: getattr(rows, name) for name in _PARTS}
    for name, values in (parts | {_CONDITION + n: v for n, v in rows.conditions.items()}).items():
        packed[name] = np.empty(1, object)
        packed[name][0] = np.ascontiguousarray(values).tobytes()
    packed["n_layers"] = np.array([rows.counts.shape[1]])
    packed["index_bytes"] = np.array([rows.indices.dtype.itemsize])
    return packed
