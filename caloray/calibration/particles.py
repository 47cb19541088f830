"""The incident particles of reference showers, for which a model is asked for showers of its own."""

from __future__ import annotations

__all__ = ["HELD_OUT", "Particles", "is_held_out"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caloray.errors import ConfigError
from caloray.preprocess.condition_range import ConditionRange, require_names
from caloray.showers import Showers

HELD_OUT = 4
"""Every so-many-th shower is kept out of fits."""

MOST_OUTSIDE = 0.1
EDGE = 1e-6
"""Relative slack at the edges of the trained range: float32 files do not hold 1e3 exactly."""


def is_held_out(first: int, count: int) -> np.ndarray:
    """(count,) whether the showers at positions ``first``, ``first + 1``, ... are kept out of fits."""
    return np.asarray(np.arange(first, first + count) % HELD_OUT == HELD_OUT - 1)


@dataclass(frozen=True)
class Particles:
    """Some incident particles.

    Args:
        energies: (n,) incident energies [MeV].
        conditions: (n,) values of each further scalar by name.
    """

    energies: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of particles."""
        return len(self.energies)

    @staticmethod
    def of(parts: Sequence[Showers]) -> Particles:
        """The particles of showers, whose voxels may be gone."""
        joined = Showers.concatenate(parts)
        return Particles(joined.incident_energies, joined.conditions)

    def inside(self, energies: tuple[float, float], conditions: Sequence[ConditionRange]) -> Particles:
        """Those in the ranges that a model was trained on.

        Validation showers reach a little beyond the training showers; only a few may.

        Args:
            energies: Smallest and largest incident energy [MeV].
            conditions: Range of each condition of the model.

        Raises:
            ConfigError: A tenth of them or more lie outside, or a condition is missing.
        """
        require_names([item.name for item in conditions], set(self.conditions) & {c.name for c in conditions})
        low, high = energies
        good = (self.energies >= low * (1 - EDGE)) & (self.energies <= high * (1 + EDGE))
        for item in conditions:
            values = self.conditions[item.name]
            good &= (values >= item.low) & (values <= item.high)
        if good.mean() <= 1 - MOST_OUTSIDE:
            raise ConfigError(
                f"{np.count_nonzero(~good)} of {len(self)} reference showers lie outside the trained range, "
                f"which is {low:g} to {high:g} MeV",
                hint="give showers of the data that the model was trained on",
            )
        return Particles(self.energies[good], {name: v[good] for name, v in self.conditions.items()})

    def spread(self, count: int) -> Particles:
        """So many particles of the same spectrum: evenly chosen ones, or all of them over and over."""
        own = len(self)
        rows = np.arange(count) % own if count >= own else np.arange(count) * own // count
        return Particles(self.energies[rows], {name: v[rows] for name, v in self.conditions.items()})
