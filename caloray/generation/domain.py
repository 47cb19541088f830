"""The trained ranges as a domain of particles: which rows leave it, why, and what would lie inside.

The slack is that of every other check: 1e-6 of the value for energies, 1 % of a range's width for conditions.
Whatever the policy, a row without a positive energy, with a condition that is no number, or with a direction
whose length is not 1 is an error of the list.
"""

from __future__ import annotations

__all__ = ["Refused", "TrainedDomain", "unphysical", "unphysical_reasons"]

from collections.abc import Callable, Sequence

import numpy as np

from caloray.io.particle_record import ENERGY, ParticleRows
from caloray.preprocess.condition_range import ConditionRange, inside_ranges
from caloray.preprocess.energy_range import outside
from caloray.rng import StreamKey
from caloray.showers import DIRECTION, LENGTH_SLACK

NAMED = 10
"""Rows that a message names."""
DIRECTIONS = "length of direction"


class TrainedDomain:
    """What a model was trained on.

    Args:
        energies: Lowest and highest incident energy [MeV].
        ranges: The model's conditions, in its order.
    """

    def __init__(self, energies: tuple[float, float], ranges: Sequence[ConditionRange]) -> None:
        self._energies = energies
        self._ranges = tuple(ranges)
        self._filling: np.ndarray | None = None

    def outside(self, rows: ParticleRows) -> np.ndarray:
        """(n,) which particles lie outside."""
        found: np.ndarray = np.logical_or.reduce([self._too_far(rows), *self._conditions_outside(rows)])
        return found

    def reasons(self, rows: ParticleRows) -> list[str]:
        """For each particle what lies outside, with value and range; "" where nothing does."""
        found: list[list[str]] = [[] for _ in range(len(rows))]
        for row in np.flatnonzero(self._too_far(rows)):
            found[row].append(_phrase("energy", rows.energies[row], "MeV", *self._energies))
        for item, mask in zip(self._ranges, self._conditions_outside(rows), strict=True):
            unit = "" if item.unit == "1" else item.unit
            for row in np.flatnonzero(mask):
                value = rows.conditions[item.name][row]
                found[row].append(_phrase(item.name, value, unit, item.low, item.high))
        return ["; ".join(parts) for parts in found]

    def inside(self, rows: ParticleRows) -> tuple[np.ndarray, np.ndarray | None]:
        """Energies (n,) and conditions (n, P) with what lies outside replaced by what lies inside.

        Energies and single conditions become the nearer end of their range. A whole direction cannot be
        clipped without losing its length: one and the same direction inside the ranges stands in for it.
        """
        energies = np.where(self._too_far(rows), np.clip(rows.energies, *self._energies), rows.energies)
        if not self._ranges:
            return energies, None
        names = [item.name for item in self._ranges]
        masks = np.stack(self._conditions_outside(rows), axis=1)
        values = np.stack([rows.conditions[name] for name in names], axis=1)
        low, high = (np.array([getattr(item, end) for item in self._ranges]) for end in ("low", "high"))
        table = np.where(masks, np.clip(values, low, high), values)
        if set(DIRECTION) <= set(names):
            at = np.array([names.index(name) for name in DIRECTION])
            leaving = np.flatnonzero(masks[:, at].any(axis=1))
            table[leaving[:, None], at] = self._direction(at)
        return energies, table

    def _direction(self, at: np.ndarray) -> np.ndarray:
        """(3,) a unit vector inside the ranges, always the same."""
        if self._filling is None:
            draws = StreamKey(0, "domain", "fill").generator()
            self._filling = inside_ranges([self._ranges[i] for i in at], draws, 1)[0]
        return self._filling

    def _too_far(self, rows: ParticleRows) -> np.ndarray:
        return outside(rows.energies, self._energies)

    def _conditions_outside(self, rows: ParticleRows) -> list[np.ndarray]:
        return [item.outside(rows.conditions[item.name]) for item in self._ranges]


def _phrase(name: str, value: float, unit: str, low: float, high: float) -> str:
    spaced = f" {unit}" if unit else ""
    return f"{name} {value:.9g}{spaced} (trained {low:.9g} to {high:.9g}{spaced})"


def unphysical(rows: ParticleRows) -> np.ndarray:
    """(n,) which particles no policy permits."""
    found: np.ndarray = np.logical_or.reduce(list(_faults(rows).values()))
    return found


def unphysical_reasons(rows: ParticleRows) -> list[str]:
    """For each particle what no policy permits; "" where there is nothing."""
    columns = {**rows.columns(), DIRECTIONS: _length(rows)}
    found: list[list[str]] = [[] for _ in range(len(rows))]
    for name, mask in _faults(rows).items():
        for row in np.flatnonzero(mask):
            found[row].append(f"{name} {columns[name][row]:.9g}" + (" MeV" if name == ENERGY else ""))
    return ["; ".join(parts) for parts in found]


def _faults(rows: ParticleRows) -> dict[str, np.ndarray]:
    """Masks (n,): no positive energy, a condition that is no number, a direction that is no unit vector."""
    found = {ENERGY: ~(np.isfinite(rows.energies) & (rows.energies > 0))}
    found |= {name: ~np.isfinite(values) for name, values in rows.conditions.items()}
    with np.errstate(invalid="ignore"):
        length = _length(rows)
        found[DIRECTIONS] = np.isfinite(length) & (np.abs(length - 1) > LENGTH_SLACK)
    return found


def _length(rows: ParticleRows) -> np.ndarray:
    """(n,) length of each direction; 1 where the list has no whole direction."""
    if not set(DIRECTION) <= set(rows.conditions):
        return np.ones(len(rows))
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.sum([rows.conditions[name] ** 2 for name in DIRECTION], axis=0)
        return np.asarray(np.sqrt(squares))


class Refused:
    """Counts the rows of a list that cannot be used and keeps the first ten with their reasons."""

    def __init__(self) -> None:
        self.count = 0
        self.rows: list[int] = []
        self._texts: list[str] = []

    def add(
        self, first: int, rows: ParticleRows, mask: np.ndarray, reasons: Callable[[ParticleRows], list[str]]
    ) -> None:
        """Take down the particles of ``mask``; the first one of ``rows`` is row ``first`` of the list."""
        at = np.flatnonzero(mask)
        self.count += int(at.size)
        named = at[: NAMED - len(self.rows)]
        chosen = rows.select(named)
        for i, reason in enumerate(reasons(chosen)):
            row = first + int(named[i])
            run, event, particle = chosen.run[i], chosen.event[i], chosen.particle[i]
            who = f" (run {run}, event {event}, particle {particle})"
            self.rows.append(row)
            self._texts.append(f"row {row}{'' if (event, particle) == (row, 0) else who}: {reason}")

    def __str__(self) -> str:
        """The first rows with their reasons, on one line."""
        return ", ".join(self._texts) + (", ..." if self.count > len(self.rows) else "")
