"""For which showers a reference stands, and into which cells it sorts them."""

from __future__ import annotations

__all__ = ["ANGLE_CELLS", "ENERGY_CELLS", "ConditionSpan", "Layout"]

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from caloray.errors import DataError
from caloray.showers import DIRECTION

ENERGY_CELLS = 6
ANGLE_CELLS = 3
PER_DECADE = 2.5
EDGE = 1e-6
"""Relative slack at the edges of the energies: float32 files do not hold 1e3 exactly."""
MARGIN = 0.01
"""Slack at the edges of a condition, relative to its width."""
MOST_ROWS = 1024

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ConditionSpan(BaseModel):
    """One condition of the model and its trained range."""

    model_config = _FROZEN

    name: str
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> ConditionSpan:
        if self.high < self.low:
            raise ValueError(f"{self.name}: {self.high:g} is below {self.low:g}")
        return self


class Layout(BaseModel):
    """Ranges and cells of a reference.

    Cells are logarithmic in the incident energy; a model with a direction has as many again for each third
    of its direction_z, the cosine of the polar angle.
    """

    model_config = _FROZEN

    version: Literal[1] = 1
    energies: tuple[float, float] = Field(description="Trained range of the incident energies [MeV].")
    conditions: tuple[ConditionSpan, ...] = ()
    block_size: int = Field(ge=1, le=1 << 16)

    @model_validator(mode="after")
    def _ordered(self) -> Layout:
        if not 0 < self.energies[0] <= self.energies[1]:
            raise ValueError("energies do not ascend from above zero")
        return self

    @property
    def rows(self) -> int:
        """Rows of a block that are watched for stuck noise."""
        return min(self.block_size, MOST_ROWS)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return ENERGY_CELLS * (1 if self._polar is None else ANGLE_CELLS)

    @cached_property
    def intervals(self) -> int:
        """Pieces of the splines in the logarithm of the incident energy."""
        return max(1, math.ceil(PER_DECADE * math.log10(self.energies[1] / self.energies[0]) - EDGE))

    @cached_property
    def _polar(self) -> ConditionSpan | None:
        found = [item for item in self.conditions if item.name == DIRECTION[2]]
        return found[0] if found and found[0].high > found[0].low else None

    def scaled(self, energies: np.ndarray) -> np.ndarray:
        """(n,) logarithms of incident energies [MeV], 0 at the lower end of the range and 1 at the upper."""
        low, high = self.energies
        width = math.log(high / low)
        return np.clip(np.log(energies / low) / width, 0.0, 1.0) if width > 0 else np.zeros(len(energies))

    def inside(self, energies: np.ndarray, conditions: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) which particles lie in the ranges.

        Raises:
            DataError: A condition is missing.
        """
        low, high = self.energies
        found = (energies >= low * (1 - EDGE)) & (energies <= high * (1 + EDGE))
        for item in self.conditions:
            if item.name not in conditions:
                raise DataError(
                    f"showers without condition {item.name} cannot be held against the reference",
                    hint="give the showers with the conditions that they were made for",
                )
            slack = EDGE * max(abs(item.low), abs(item.high)) + MARGIN * (item.high - item.low)
            values = conditions[item.name]
            found &= (values >= item.low - slack) & (values <= item.high + slack)
        return np.asarray(found)

    def cell_of(self, scaled: np.ndarray, conditions: Mapping[str, np.ndarray]) -> np.ndarray:
        """(n,) cell of each particle; ``scaled`` is that of :meth:`scaled`."""
        energy = np.minimum((scaled * ENERGY_CELLS).astype(np.int64), ENERGY_CELLS - 1)
        if (polar := self._polar) is None:
            return energy
        share = (conditions[polar.name] - polar.low) / (polar.high - polar.low)
        angle = np.clip((share * ANGLE_CELLS).astype(np.int64), 0, ANGLE_CELLS - 1)
        return np.asarray(angle * ENERGY_CELLS + energy)

    def cell_name(self, cell: int) -> str:
        """Energies, and angles, of a cell."""
        angle, energy = divmod(cell, ENERGY_CELLS)
        low, high = self.energies
        ends = [low * (high / low) ** ((energy + step) / ENERGY_CELLS) for step in (0, 1)]
        text = f"{ends[0]:.4g} to {ends[1]:.4g} MeV"
        if (polar := self._polar) is None:
            return text
        step = (polar.high - polar.low) / ANGLE_CELLS
        cosines = polar.low + step * angle, polar.low + step * (angle + 1)
        near, far = (math.degrees(math.acos(min(1.0, max(-1.0, c)))) for c in reversed(cosines))
        return f"{text}, theta {near:.3g} to {far:.3g} degrees"
