"""Back-ends of the inverse: one contract, chosen at run time.

All but ``native-bf16`` give the same numbers up to rounding. ``native`` walks through the degrees in C++, for
CPUs (:mod:`caloray.flows.native_inverse`). ``torch`` and ``jacobi`` need nothing but torch: the first walks
(:mod:`caloray.flows.incremental`) or iterates over panels (:mod:`caloray.flows.jacobi`), as suits the
batch; the second iterates over all dimensions at once. ``auto`` is ``jacobi`` on a GPU, where few large
operations cost less than many small ones, and elsewhere ``native`` where it was built, ``torch`` where not.
"""

from __future__ import annotations

__all__ = ["Backend", "Inverter", "fingerprint", "prepare", "resolve"]

from typing import Protocol, get_args

from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.names import Backend
from caloray.flows.native_inverse import NativeInverter, fits, unavailable
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig
from caloray.flows.torch_inverse import TorchInverter
from caloray.native import library


class Inverter(Protocol):
    """Noise to data for one MADE whose weights do not change any more."""

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Data (batch, D) and log |det Jacobian| (batch,) for noise (batch, D) and context (batch, C)."""
        ...


def prepare(schedule: DegreeSchedule, spline: SplineConfig, backend: Backend) -> Inverter:
    """The inverse of one MADE by one back-end."""
    meant = resolve(backend, schedule.final.device.type)
    if backend == "auto" and meant == "native" and not fits(schedule):
        meant = "torch"
    match meant:
        case "jacobi":
            return JacobiInverter(schedule, spline)
        case "torch":
            return TorchInverter(schedule, spline)
        case "native" | "native-bf16":
            return NativeInverter(schedule, spline, bf16=meant == "native-bf16")
        case other:
            raise ConfigError(f"there is no back-end {other}")


def resolve(backend: Backend, device: str) -> Backend:
    """The back-end that is meant on a device: "auto" becomes the fastest exact one.

    Raises:
        ConfigError: The back-end is not available there.
    """
    if backend not in get_args(Backend):
        raise ConfigError(f"there is no back-end {backend!r}", hint=f"choose {', '.join(get_args(Backend))}")
    if backend == "auto":
        if device.startswith("cuda"):
            return "jacobi"
        return "native" if library.load() else "torch"
    if backend in {"native", "native-bf16"} and (why_not := unavailable(bf16=backend == "native-bf16")):
        raise ConfigError(
            f"the back-end {backend} is not available: {why_not}", hint="put that right, or choose auto"
        )
    return backend


def fingerprint(backend: Backend) -> str:
    """The back-end as manifests record it: its name, and for compiled ones what it was compiled for."""
    if backend == "native-bf16":
        return f"{backend} amx"
    return f"{backend} {library.isa()}" if backend == "native" else backend
