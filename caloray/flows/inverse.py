"""Back-ends of the inverse: one contract, chosen at run time.

All give the same numbers up to rounding: ``torch`` walks through the degrees
(:mod:`caloray.flows.incremental`),
and needs nothing but torch.
"""

from __future__ import annotations

__all__ = ["Backend", "Inverter", "prepare"]

from typing import Literal, Protocol

from torch import Tensor

from caloray.flows.incremental import IncrementalInverter
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig

Backend = Literal["auto", "torch"]


class Inverter(Protocol):
    """Noise to data for one MADE whose weights do not change any more."""

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Data (batch, D) and log |det Jacobian| (batch,) for noise (batch, D) and context (batch, C)."""
        ...


def prepare(schedule: DegreeSchedule, spline: SplineConfig, backend: Backend) -> Inverter:
    """The inverse of one MADE by one back-end."""
    match backend:
        case "auto" | "torch":
            return IncrementalInverter(schedule, spline)
