"""Back-ends of the inverse: one contract, chosen at run time.

All give the same numbers up to rounding: ``torch`` walks through the degrees
(:mod:`caloray.flows.incremental`) and ``jacobi`` iterates over all dimensions at once
(:mod:`caloray.flows.jacobi`); both need nothing but torch. ``auto`` is ``jacobi`` on a GPU, where few large
operations cost less than many small ones, and ``torch`` elsewhere.
"""

from __future__ import annotations

__all__ = ["Backend", "Inverter", "fingerprint", "prepare", "resolve"]

from typing import Protocol

from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.incremental import IncrementalInverter
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.names import Backend
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig


class Inverter(Protocol):
    """Noise to data for one MADE whose weights do not change any more."""

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Data (batch, D) and log |det Jacobian| (batch,) for noise (batch, D) and context (batch, C)."""
        ...


def prepare(schedule: DegreeSchedule, spline: SplineConfig, backend: Backend) -> Inverter:
    """The inverse of one MADE by one back-end."""
    match resolve(backend, schedule.final.device.type):
        case "jacobi":
            return JacobiInverter(schedule, spline)
        case "torch":
            return IncrementalInverter(schedule, spline)
        case other:
            raise ConfigError(f"back-end {other} is not available")


def resolve(backend: Backend, device: str) -> Backend:
    """The back-end that is meant on a device: "auto" becomes the fastest exact one.

    Raises:
        ConfigError: The back-end is not available there.
    """
    if backend == "auto":
        return "jacobi" if device.startswith("cuda") else "torch"
    return backend


def fingerprint(backend: Backend) -> str:
    """The back-end as manifests record it: its name, and for compiled ones what it was compiled for."""
    return backend
