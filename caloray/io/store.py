"""Training rows in memory: the non-zero voxels of chosen layers, densified batch by batch.

Most voxels of a shower are empty, so a store of 40,500-voxel showers takes a few per cent of the dense
array. Showers are kept sorted by event id: the same set of showers gives the same store, whatever order it
arrived in.
"""

from __future__ import annotations

__all__ = ["LayerStore", "LayerStoreBuilder"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.io.shards import ShardReader


@dataclass(frozen=True)
class LayerStore:
    """Non-zero voxels of N showers in L chosen layers, in compressed rows ordered by (shower, layer).

    Args:
        geometry: The readout.
        layers: Positions of the L layers held, ascending.
        event_ids: (N,) int64, ascending.
        incident_energies: (N,) float64 [MeV].
        bounds: (N * L + 1,) int64; row r = shower * L + layer holds the entries bounds[r] ... bounds[r + 1].
        indices: Voxel index within its layer.
        values: Voxel energy [MeV], float32.
        conditions: (N,) float64 values of each further scalar of the particle, by name.
    """

    geometry: Geometry
    layers: tuple[int, ...]
    event_ids: np.ndarray
    incident_energies: np.ndarray
    bounds: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.event_ids)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays together."""
        arrays = (self.event_ids, self.incident_energies, self.bounds, self.indices, self.values)
        return sum(a.nbytes for a in (*arrays, *self.conditions.values()))

    @cached_property
    def layer_energies(self) -> np.ndarray:
        """(N, L) float64 sums over the voxels of each layer [MeV]."""
        rows = np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))
        sums = np.bincount(rows, weights=self.values, minlength=len(self.bounds) - 1)
        return sums.reshape(len(self), len(self.layers))

    @cached_property
    def layer_maxima(self) -> np.ndarray:
        """(L,) float64 largest voxel energy of each layer [MeV], 0 where a layer is empty throughout."""
        columns = np.repeat(np.arange(len(self.bounds) - 1) % len(self.layers), np.diff(self.bounds))
        maxima = np.zeros(len(self.layers))
        np.maximum.at(maxima, columns, self.values)
        return maxima

    def dense(self, showers: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Voxels of chosen (shower, layer) pairs.

        Args:
            showers: (n,) positions of the showers.
            columns: (n,) positions within :attr:`layers`; all of the same number of voxels.

        Returns:
            (n, layer size) float32 [MeV].

        Raises:
            DataError: The layers asked for differ in size.
        """
        sizes = {self.geometry.layer_sizes[self.layers[c]] for c in np.unique(columns).tolist()}
        if len(sizes) > 1:
            raise DataError(f"layers of different sizes {sorted(sizes)} do not fit into one batch")
        rows = showers * len(self.layers) + columns
        starts = self.bounds[rows]
        lengths = self.bounds[rows + 1] - starts
        total = int(lengths.sum())
        before = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        source = np.repeat(starts - before, lengths) + np.arange(total)
        out = np.zeros((len(rows), sizes.pop() if sizes else 0), dtype=np.float32)
        out[np.repeat(np.arange(len(rows)), lengths), self.indices[source]] = self.values[source]
        return out

    @staticmethod
    def from_shards(paths: Iterable[Path], geometry: Geometry, layers: Sequence[int]) -> LayerStore:
        """Read the chosen layers of all showers of some shards, one row group at a time.

        Raises:
            IntegrityError: A shard is damaged or of another geometry.
        """
        builder = LayerStoreBuilder(geometry, layers)
        for path in paths:
            with ShardReader(path, geometry) as reader:
                for group in range(reader.n_row_groups):
                    ids, energies, voxels = reader.read(builder.layers, group)
                    builder.add_dense(ids, energies, voxels, reader.read_conditions(group))
        return builder.build()


@dataclass
class LayerStoreBuilder:
    """Collects showers in any order and sorts them once at the end."""

    geometry: Geometry
    layers: Sequence[int]
    _parts: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    _conditions: list[dict[str, np.ndarray]] = field(default_factory=list)

    def add_dense(
        self,
        event_ids: np.ndarray,
        energies: np.ndarray,
        voxels: Sequence[np.ndarray],
        conditions: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Add n showers from one dense (n, size) array per layer [MeV], with conditions (n,) by name."""
        counts = np.empty((len(event_ids), len(self.layers)), dtype=np.int64)
        layered = []
        for column, layer in enumerate(voxels):
            shower, index = np.nonzero(layer)
            counts[:, column] = np.bincount(shower, minlength=len(event_ids))
            layered.append((shower * len(self.layers) + column, index, layer[shower, index]))
        row, index, value = (np.concatenate(part) for part in zip(*layered, strict=True))
        order = np.argsort(row, kind="stable")
        self.add(event_ids, energies, index[order], value[order], counts, conditions)

    def add(
        self,
        event_ids: np.ndarray,
        energies: np.ndarray,
        indices: np.ndarray,
        values: np.ndarray,
        counts: np.ndarray,
        conditions: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Add n showers in sparse form.

        Args:
            event_ids: (n,) int64.
            energies: (n,) incident energies [MeV].
            indices: (nnz,) voxel index within its layer, ordered by (shower, layer).
            values: (nnz,) voxel energies [MeV].
            counts: (n, L) entries of each (shower, layer).
            conditions: (n,) values of each further scalar of the particle, by name.

        Raises:
            DataError: The counts do not add up to the number of entries, or other conditions than before.
        """
        if counts.shape != (len(event_ids), len(self.layers)) or counts.sum() != len(values):
            raise DataError(f"sparse showers: counts {counts.shape} do not describe {len(values)} entries")
        self._add_conditions(len(event_ids), conditions or {})
        width = np.uint16 if max(self.geometry.layer_sizes) <= 1 << 16 else np.uint32
        self._parts.append(
            (
                np.asarray(event_ids, dtype=np.int64),
                np.asarray(energies, dtype=np.float64).reshape(-1),
                np.asarray(indices, dtype=width),
                np.asarray(values, dtype=np.float32),
                np.asarray(counts, dtype=np.int64),
            )
        )

    def _add_conditions(self, count: int, conditions: Mapping[str, np.ndarray]) -> None:
        columns = {name: np.asarray(values, dtype=np.float64) for name, values in conditions.items()}
        known = self._conditions[0].keys() if self._conditions else columns.keys()
        if columns.keys() != known or any(values.shape != (count,) for values in columns.values()):
            raise DataError(
                f"showers with conditions {', '.join(columns) or 'none'}, those before have "
                f"{', '.join(known) or 'none'}; each needs {count} values",
                hint="train on shards of one ingest",
            )
        self._conditions.append(columns)

    def build(self) -> LayerStore:
        """The store of everything added, sorted by event id.

        Raises:
            DataError: Two showers have the same event id.
        """
        if not self._parts:
            self.add(*(np.empty(0),) * 4, np.empty((0, len(self.layers))))
        ids, energies, indices, values, counts = (np.concatenate(p) for p in zip(*self._parts, strict=True))
        conditions = {
            name: np.concatenate([part[name] for part in self._conditions]) for name in self._conditions[0]
        }
        self._parts.clear()
        self._conditions.clear()
        order = np.argsort(ids, kind="stable")
        if len(ids) > 1 and (np.diff(ids[order]) == 0).any():
            repeated = ids[order][1:][np.diff(ids[order]) == 0][0]
            raise DataError(f"event id {repeated} occurs twice", hint="the same file was ingested twice")
        per_shower = counts.sum(axis=1)
        starts = np.concatenate([[0], np.cumsum(per_shower)])[:-1][order]
        lengths = per_shower[order]
        before = np.concatenate([[0], np.cumsum(lengths)])
        source = np.repeat(starts - before[:-1], lengths) + np.arange(len(values))
        bounds = np.concatenate([[0], np.cumsum(counts[order].ravel())]).astype(np.int64)
        return LayerStore(
            self.geometry,
            tuple(self.layers),
            ids[order],
            energies[order],
            bounds,
            indices[source],
            values[source],
            {name: column[order] for name, column in conditions.items()},
        )
