"""The back-end ``torch``: whichever of the two ways to invert in plain torch is faster for a batch."""

from __future__ import annotations

__all__ = ["PANEL", "WALK_FROM", "TorchInverter"]

from functools import cached_property

import torch
from torch import Tensor

from caloray.flows.incremental import IncrementalInverter
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig

PANEL = 36
WALK_FROM = 256


class TorchInverter:
    """Small batches by Jacobi iteration over panels of 36 steps, larger ones step by step; both are exact.

    A step costs some sixty tensor operations whatever the batch, and a small batch waits for nothing else. A
    panel pays for them about five times instead of 36 times, at the price of more arithmetic; on one core of
    a CPU the two ways meet at 256 to 400 rows.

    Args:
        schedule: Sorted weights of the MADE.
        spline: Shape of the spline.
    """

    def __init__(self, schedule: DegreeSchedule, spline: SplineConfig) -> None:
        self.schedule = schedule
        self.spline = spline

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Data (batch, D) and log |det Jacobian| (batch,) for noise (batch, D) and context (batch, C)."""
        solve = self._walk if len(noise) >= WALK_FROM else self._panels
        # Saves a tenth to a fifth of the time; copies made outside of it are ordinary tensors again.
        with torch.inference_mode():
            x, log_det = solve(noise, context)
        return x.clone(), log_det.clone()

    @cached_property
    def _walk(self) -> IncrementalInverter:
        return IncrementalInverter(self.schedule, self.spline)

    @cached_property
    def _panels(self) -> JacobiInverter:
        return JacobiInverter(self.schedule, self.spline, panel=PANEL)
