"""The showers of a sample, one row of quantities each: what metrics on single showers look at."""

from __future__ import annotations

__all__ = ["MOST", "Table"]

from collections.abc import Sequence

import numpy as np

from caloray.evaluation.conditions import CONDITION
from caloray.evaluation.features import feature_vector
from caloray.evaluation.halves import scramble
from caloray.evaluation.quantities import columns_of
from caloray.geometry import Geometry
from caloray.observables import Observables, axis_names

MOST = 200_000
KEYS = ("incident_energy", "total_energy")  # tell apart showers that share an id


class Table:
    """Rows of :func:`caloray.evaluation.quantities.quantities`, in the order of the showers' ids.

    A table that has seen more than ``most`` showers keeps those with the smallest seeded hash of their id.
    The outcome does not depend on the order or on the pieces in which the showers come.

    Args:
        geometry: The readout.
        seed: Seed of the hash.
        most: Most rows to keep.
        columns: Keep these columns only (names of ``columns_of(geometry)``); by default all.
        extra: Names of columns behind those, for what is known of the particles
            (:func:`caloray.evaluation.conditions.extra_columns`).

    Attributes:
        n: Number of showers seen.
    """

    def __init__(
        self,
        geometry: Geometry,
        seed: int = 0,
        most: int = MOST,
        columns: Sequence[str] | None = None,
        extra: Sequence[str] = (),
    ) -> None:
        self.geometry = geometry
        self.seed = seed
        self.most = most
        self.n = 0
        every = columns_of(geometry)
        self.names = (*every.names, *extra) if columns is None else tuple(dict.fromkeys((*KEYS, *columns)))
        self._take = None if columns is None else [every.index[name] for name in self.names]
        self._index = {name: i for i, name in enumerate(self.names)}
        self._ids: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._held = 0
        self._settled = True

    def __len__(self) -> int:
        """Number of rows kept."""
        return min(self.n, self.most)

    @property
    def complete(self) -> bool:
        """Whether no shower was left out."""
        return self.n <= self.most

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Take in N showers: their ids (N,) and all their quantities (N, Q), extra ones at the end."""
        self.n += len(ids)
        self._append(ids, rows[:, : len(self.names)] if self._take is None else rows[:, self._take])

    def merge(self, other: Table) -> None:
        """Add the rows of another table that was made with the same settings."""
        self.n += other.n
        for ids, rows in zip(other._ids, other._rows, strict=True):
            self._append(ids, rows)

    @property
    def ids(self) -> np.ndarray:
        """(N,) ids, ascending."""
        return self._settle()[0]

    @property
    def rows(self) -> np.ndarray:
        """(N, Q) quantities."""
        return self._settle()[1]

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions that it keeps."""
        return tuple(name.removeprefix(CONDITION) for name in self.names if name.startswith(CONDITION))

    @property
    def energies(self) -> np.ndarray:
        """(N,) incident energies [MeV]."""
        return self.column("incident_energy")

    def column(self, name: str) -> np.ndarray:
        """(N,) one column: ``r50``, ``layer_energy/07``, ..."""
        return self.rows[:, self._index[name]]

    def layered(self, observable: str) -> np.ndarray:
        """(N, layers that have it) a quantity of the layers; needs a table of all columns."""
        return self.rows[:, columns_of(self.geometry).spans[observable]]

    def features(self) -> np.ndarray:
        """(N, F) the official high-level features, see :func:`feature_vector`; made at each call."""
        return feature_vector(self._observables(), self.energies, self.geometry)

    def _observables(self) -> Observables:
        shape = len(self), self.geometry.n_layers
        layers = columns_of(self.geometry).layers

        def full(name: str) -> np.ndarray:
            values = self.layered(name)
            if values.shape == shape:
                return values
            wide = np.full(shape, np.nan)
            wide[:, layers[name]] = values
            return wide

        axes = axis_names(self.geometry)
        whole = {name: self.column(name) for name in ("depth_mean", "depth_width", "start", "r50", "r90")}
        return Observables(
            layer_energies=self.layered("layer_energy"),
            centres={name: full(f"centre_{name}") for name in axes},
            widths={name: full(f"width_{name}") for name in axes},
            hits=self.layered("layer_hits"),
            sparsity=self.layered("sparsity"),
            rings=np.zeros((*shape, 0)),
            **whole,
        )

    def _append(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self._ids.append(ids)
        self._rows.append(rows)
        self._held += len(ids)
        self._settled = False
        if self._held > 2 * self.most:
            self._keep(self._chosen())

    def _settle(self) -> tuple[np.ndarray, np.ndarray]:
        if not self._settled or len(self._ids) != 1:
            self._keep(self._chosen())
        return self._ids[0], self._rows[0]

    def _chosen(self) -> np.ndarray:
        """Positions of the rows to keep in the concatenation of all pieces, in the order of their ids."""
        if not self._ids:
            return np.zeros(0, dtype=np.int64)
        ids = np.concatenate(self._ids)
        keys = [np.concatenate([rows[:, self._index[name]] for rows in self._rows]) for name in KEYS]
        if len(ids) <= self.most:
            return np.lexsort((*reversed(keys), ids))
        order = np.lexsort((*reversed(keys), ids, scramble(ids, self.seed, "rows")))[: self.most]
        by_id = np.lexsort((*(key[order] for key in reversed(keys)), ids[order]))
        return np.asarray(order[by_id])

    def _keep(self, chosen: np.ndarray) -> None:
        """Copy the chosen rows piece by piece, so that no second copy of all rows is ever needed."""
        ids, rows = np.empty(len(chosen), dtype=np.int64), np.empty((len(chosen), len(self.names)))
        start, pieces = 0, list(zip(self._ids, self._rows, strict=True))
        order = np.argsort(chosen, kind="stable")
        ends = np.searchsorted(chosen[order], np.cumsum([0] + [len(one) for one, _ in pieces]))
        self._ids, self._rows = [], []
        for i in range(len(pieces)):
            there = order[ends[i] : ends[i + 1]]
            ids[there] = pieces[i][0][chosen[there] - start]
            rows[there] = pieces[i][1][chosen[there] - start]
            start += len(pieces[i][0])
            pieces[i] = (ids[:0], rows[:0])  # free it
        self._ids, self._rows, self._held, self._settled = [ids], [rows], len(ids), True
