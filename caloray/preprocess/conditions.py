"""The particle as flows see it: incident energy and, where a model has them, direction and further scalars.

Flows see each condition mapped linearly to [-1, 1] by its range in the training split.
"""

from __future__ import annotations

__all__ = [
    "DIRECTION",
    "ConditionRange",
    "ParticleMap",
    "columns_of",
    "condition_table",
    "inside_ranges",
    "ranges_of",
    "require_rows",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caloray.errors import ConfigError, DataError
from caloray.preprocess.condition_range import (
    ConditionRange,
    columns_of,
    condition_table,
    inside_ranges,
    ranges_of,
    require_rows,
)
from caloray.showers import DIRECTION

ENERGY_CENTRE = 4.5


@dataclass(frozen=True)
class ParticleMap:
    """From a particle to the first numbers of every context: log10(E_inc / MeV) - 4.5, then the conditions.

    Args:
        conditions: Name and range of each, in the order of the context.
    """

    conditions: tuple[ConditionRange, ...] = ()

    @staticmethod
    def of(names: Sequence[str], known: Sequence[ConditionRange]) -> ParticleMap:
        """The map of the named conditions.

        Args:
            names: What the scheme's settings ask for, in that order.
            known: What the training data have.

        Raises:
            ConfigError: A condition that the data do not have, or one named twice.
        """
        table = {item.name: item for item in known}
        missing = [name for name in names if name not in table]
        if missing:
            raise ConfigError(
                f"scheme.conditions: the training data have no {', '.join(missing)}; they have "
                f"{', '.join(table) or 'no conditions'}",
                hint="name conditions that the data have, or ingest files with such data sets again",
            )
        if len(set(names)) < len(names):
            raise ConfigError(f"scheme.conditions: a name occurs twice in {', '.join(names)}")
        return ParticleMap(tuple(table[name] for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the conditions, in order."""
        return tuple(item.name for item in self.conditions)

    @property
    def width(self) -> int:
        """Numbers in the context: the incident energy and the conditions."""
        return 1 + len(self.conditions)

    def take(self, columns: Mapping[str, np.ndarray], rows: np.ndarray) -> Tensor | None:
        """(n, P) float64 conditions of chosen showers; None without conditions.

        Args:
            columns: (N,) values of every condition by name.
            rows: (n,) positions.

        Raises:
            DataError: A condition is not there.
        """
        if not self.conditions:
            return None
        missing = [name for name in self.names if name not in columns]
        if missing:
            raise DataError(
                f"the showers have no condition {', '.join(missing)}",
                hint="ingest files that hold it, or leave it out of scheme.conditions",
            )
        return torch.as_tensor(np.stack([columns[name][rows] for name in self.names], axis=1))

    def context(self, incident: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(n, 1 + P) from incident energies (n,) [MeV] and conditions (n, P) in their own units.

        Raises:
            ConfigError: Other conditions than the model has.
        """
        energy = (torch.log10(incident) - ENERGY_CENTRE)[:, None]
        found = 0 if conditions is None else conditions.shape[1]
        if found != len(self.conditions):
            raise ConfigError(
                f"{found} conditions for a model with {len(self.conditions)} "
                f"({', '.join(self.names) or 'none'})"
            )
        if conditions is None or not self.conditions:
            return energy
        low, high = (
            torch.tensor([getattr(c, end) for c in self.conditions]).to(conditions) for end in ("low", "high")
        )
        half = (high - low) / 2
        scaled = (conditions - (low + high) / 2) / torch.where(half > 0, half, torch.ones_like(half))
        return torch.cat([energy, scaled.to(energy)], dim=1)
