"""What inverts flows on this machine; `python -m caloray.flows.backends` says it, and why nothing faster."""

from __future__ import annotations

__all__ = ["BackendStatus", "attempt", "backends", "main", "summary"]

import sys
from dataclasses import dataclass
from typing import get_args

import torch

from caloray.errors import ConfigError
from caloray.flows.inverse import resolve
from caloray.flows.masked import MaskedSpline
from caloray.flows.names import Backend
from caloray.flows.native_spline import training_spline
from caloray.flows.spline import SplineConfig
from caloray.native import library

_ABOUT: dict[Backend, str] = {
    "torch": "any device, no compiler needed",
    "jacobi": "any device; meant for GPUs",
    "native": "CPU, C++",
    "native-bf16": "CPU, C++; part of the products in bfloat16, not exact",
}


@dataclass(frozen=True)
class BackendStatus:
    """One back-end of the inverse.

    Args:
        name: As ``caloray generate --backend`` takes it.
        available: Whether it inverted a small flow on the CPU just now.
        detail: What it is, or why it is not available and what to do.
    """

    name: Backend
    available: bool
    detail: str


def backends() -> list[BackendStatus]:
    """Every back-end, tried on a flow of three dimensions."""
    return [attempt(name) for name in get_args(Backend) if name != "auto"]


def summary() -> str:
    """One line: what samples and what trains on the CPU, and why not something faster."""
    chosen = resolve("auto", "cpu")
    line = f"flows are sampled by {chosen}{_instructions(chosen)}, trained by {training_spline('cpu')}"
    reason = library.why_not()
    return f"{line}; {reason}" if reason else line


def main() -> int:
    """Print the summary; the exit status."""
    sys.stdout.write(f"{summary()}\n")
    return 0


def attempt(name: Backend) -> BackendStatus:
    """Try one back-end on a flow of three dimensions, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        block = MaskedSpline(3, 4, 1, 2, SplineConfig()).eval()
    block.backend = name
    try:
        block.inverse(torch.zeros(2, 3), torch.zeros(2, 1))
        about = resolve("auto", "cpu") if name == "auto" else _ABOUT[name]
        return BackendStatus(name, available=True, detail=about + _instructions(name))
    except ConfigError as error:
        why = f"{error.message}; {error.hint}" if error.hint else error.message
        return BackendStatus(name, available=False, detail=why)


def _instructions(name: Backend) -> str:
    return f" ({library.isa()})" if name.startswith("native") else ""


if __name__ == "__main__":
    sys.exit(main())
