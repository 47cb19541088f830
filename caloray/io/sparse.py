"""Showers as lists of the voxels that were hit, and back to dense arrays.

What is left out is exactly +0.0: everything else (NaN, negative energies, -0.0) is kept with its bits, so
that dense to sparse to dense changes nothing. Whether such energies are welcome is for
:mod:`caloray.showers` to say.
"""

from __future__ import annotations

__all__ = ["SparseShowers"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caloray.errors import DataError
from caloray.showers import Showers

_COLUMNS = ("incident_energies", "ids")
_NO_BITS = np.uint32(0)


@dataclass(frozen=True, eq=False)
class SparseShowers:
    """The K hit voxels of n showers, one shower behind the other.

    Args:
        incident_energies: (n,) float64 [MeV].
        ids: (n,) int64 event numbers.
        starts: (n + 1,) int64 from 0; the hits of shower i are ``starts[i]`` to ``starts[i + 1] - 1``.
        voxels: (K,) int32 flat index in the geometry's order, ascending within each shower.
        energies: (K,) float32 [MeV].
        conditions: (n,) float64 of each further scalar of the particle, by name.
        extras: (n,) of each further column of the shower (its event, its flags ...), by name.

    Raises:
        DataError: The arrays do not belong together.
    """

    incident_energies: np.ndarray
    ids: np.ndarray
    starts: np.ndarray
    voxels: np.ndarray
    energies: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compare the lengths."""
        n, hits = len(self.ids), len(self.energies)
        rows = {len(self.incident_energies), *map(len, self.conditions.values())}
        rows |= set(map(len, self.extras.values()))
        if rows != {n} or len(self.starts) != n + 1 or len(self.voxels) != hits or self.starts[-1] != hits:
            raise DataError(f"sparse showers: columns of different lengths for {n} showers with {hits} hits")

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.ids)

    @property
    def rows(self) -> np.ndarray:
        """(K,) row of the shower that each hit belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @staticmethod
    def of(showers: Showers, extras: Mapping[str, np.ndarray] | None = None) -> SparseShowers:
        """The hits of dense showers, with further columns (n,) by name."""
        n, width = showers.voxels.shape
        flat = np.ascontiguousarray(showers.voxels, dtype=np.float32).reshape(-1)
        places = np.flatnonzero(flat.view(np.uint32) != _NO_BITS)
        starts = np.searchsorted(places, np.arange(n + 1) * width)
        firsts = np.repeat(np.arange(n) * width, np.diff(starts))
        return SparseShowers(
            incident_energies=showers.incident_energies,
            ids=showers.ids,
            starts=starts.astype(np.int64, copy=False),
            voxels=(places - firsts).astype(np.int32),
            energies=flat[places],
            conditions=showers.conditions,
            extras=dict(extras or {}),
        )

    def select(self, rows: slice) -> SparseShowers:
        """The showers of consecutive rows (a slice without a step)."""
        start, stop, _ = rows.indices(len(self))
        kept = slice(start, max(start, stop))
        bounds = self.starts[start : kept.stop + 1]
        hits = slice(int(bounds[0]), int(bounds[-1]))
        return SparseShowers(
            incident_energies=self.incident_energies[kept],
            ids=self.ids[kept],
            starts=bounds - bounds[0],
            voxels=self.voxels[hits],
            energies=self.energies[hits],
            conditions={name: values[kept] for name, values in self.conditions.items()},
            extras={name: values[kept] for name, values in self.extras.items()},
        )

    def dense(self, n_voxels: int) -> Showers:
        """The same showers with voxels (n, n_voxels) float32 [MeV]; extras are left behind.

        Raises:
            DataError: A hit lies outside the geometry, or the lists are not in order.
        """
        self.check(n_voxels)
        voxels = np.zeros((len(self), n_voxels), dtype=np.float32)
        voxels.reshape(-1)[self.rows * n_voxels + self.voxels] = self.energies
        return Showers(self.incident_energies, voxels, self.ids, self.conditions)

    def layers(self, sizes: Sequence[int], chosen: Sequence[int]) -> list[np.ndarray]:
        """Voxels (n, size) float32 [MeV] of chosen layers of a geometry with layers of these ``sizes``.

        Raises:
            DataError: As :meth:`dense`.
        """
        self.check(sum(sizes))
        ends = np.cumsum(sizes)
        spans, total = {}, 0
        places = np.full(ends[-1], -1)  # where in a row of the answer each voxel of the shower stands
        for layer in dict.fromkeys(chosen):
            spans[layer] = slice(total, total + sizes[layer])
            places[ends[layer] - sizes[layer] : ends[layer]] = np.arange(total, total + sizes[layer])
            total += sizes[layer]
        target = places[self.voxels]
        kept = target >= 0
        out = np.zeros((len(self), total), dtype=np.float32)
        out.reshape(-1)[self.rows[kept] * total + target[kept]] = self.energies[kept]
        return [out[:, spans[layer]] for layer in chosen]

    def check(self, n_voxels: int, where: str = "sparse showers") -> None:
        """Compare the lists of hits with a geometry of ``n_voxels`` voxels.

        Raises:
            DataError: Starts that run backwards, a voxel that does not exist, one that stands twice or not in
                order, or a hit of +0.0 MeV; the message begins with ``where``.
        """
        problem = self._problem(n_voxels)
        if problem:
            raise DataError(f"{where}: {problem}", hint="the showers are damaged or of another geometry")

    def _problem(self, n_voxels: int) -> str:
        if self.starts[0] != 0 or (np.diff(self.starts) < 0).any():
            return "the lists of hits overlap"
        if not len(self.voxels):
            return ""
        if self.voxels.min() < 0 or self.voxels.max() >= n_voxels:
            return f"voxels {self.voxels.min()} to {self.voxels.max()}, the geometry has {n_voxels}"
        descending = np.diff(self.voxels) <= 0
        borders = self.starts[1:-1]
        descending[borders[(borders > 0) & (borders < len(self.voxels))] - 1] = False
        if descending.any():
            row = int(np.searchsorted(self.starts, np.flatnonzero(descending)[0], side="right")) - 1
            return f"the voxels of row {row} are not ascending"
        if (np.ascontiguousarray(self.energies, dtype=np.float32).view(np.uint32) == _NO_BITS).any():
            return "a hit without energy"
        return ""

    @staticmethod
    def concatenate(parts: Sequence[SparseShowers]) -> SparseShowers:
        """Join showers (at least one part) in the given order.

        Raises:
            DataError: They do not have the same conditions or extras.
        """
        first = parts[0]
        for part in parts[1:]:
            if set(part.conditions) != set(first.conditions) or set(part.extras) != set(first.extras):
                raise DataError(
                    f"showers with columns {[*first.conditions, *first.extras]} and "
                    f"{[*part.conditions, *part.extras]} do not join"
                )
        counts = np.concatenate([np.diff(part.starts) for part in parts])
        names = (*_COLUMNS, "voxels", "energies")
        return SparseShowers(
            starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            conditions={n: np.concatenate([part.conditions[n] for part in parts]) for n in first.conditions},
            extras={n: np.concatenate([part.extras[n] for part in parts]) for n in first.extras},
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        )
