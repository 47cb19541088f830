"""The exact inverse of a MADE in plain torch, every hidden unit computed once, on any device."""

from __future__ import annotations

__all__ = ["IncrementalInverter"]

from dataclasses import dataclass

import torch
from torch import Tensor

from caloray.flows.schedule import DegreeSchedule, Step
from caloray.flows.spline import SplineConfig, spline_inverse


@dataclass(frozen=True)
class IncrementalInverter:
    """Walk through the schedule; see :mod:`caloray.flows.schedule`.

    Args:
        schedule: Sorted weights of the MADE.
        spline: Shape of the spline.
    """

    schedule: DegreeSchedule
    spline: SplineConfig

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Solve for the data one step's dimensions at a time.

        Args:
            noise: (batch, D).
            context: (batch, C) or None.

        Returns:
            Data (batch, D) and log |det Jacobian| (batch,).
        """
        batch = len(noise)
        z = noise.t().contiguous()
        x = torch.zeros_like(z)
        log_det = noise.new_zeros(batch)
        units = _Units(self.schedule, context, batch, noise)
        for step in self.schedule.steps:
            raw = self._raw(units.last, step, context)
            values, log_slope = spline_inverse(z[step.dims].view(1, -1), raw, self.spline)
            x[step.dims] = values.view(-1, batch)
            log_det = log_det + log_slope.view(-1, batch).sum(dim=0)
            if step.units.start < step.units.stop:
                units.complete(x, step)
        return x.t().contiguous(), log_det

    def _raw(self, last: Tensor, step: Step, context: Tensor | None) -> Tensor:
        """Spline parameters of the step's dimensions as (1, 3K - 1, dims * batch)."""
        schedule = self.schedule
        bias = schedule.final_bias[:, step.dims]
        weight = schedule.final[:, step.dims, : step.ready].reshape(bias.numel(), step.ready)
        flat = torch.addmm(bias.reshape(-1, 1), weight, last[: step.ready])
        direct = schedule.output_context
        if context is not None and direct is not None and step.dims.stop <= direct.shape[1]:
            flat = torch.addmm(flat, direct[:, step.dims].reshape(bias.numel(), -1), context.t())
        return flat.view(1, bias.shape[0], -1)


class _Units:
    """Hidden units of all layers, (H, batch) each, filled in order of degree."""

    def __init__(self, schedule: DegreeSchedule, context: Tensor | None, batch: int, like: Tensor) -> None:
        self.schedule = schedule
        self.offsets = [
            layer.offset(context, batch, rectify=index == 0) for index, layer in enumerate(schedule.layers)
        ]
        width = len(schedule.layers[0].bias)
        self.layers = [like.new_empty(width, batch) for _ in schedule.layers]
        # What the layer above reads of a residual sum: its positive part.
        self.rectified = [like.new_empty(width, batch) for _ in schedule.layers[::2]]

    @property
    def last(self) -> Tensor:
        """What the output layer reads."""
        return self.layers[-1]

    def complete(self, x: Tensor, step: Step) -> None:
        """Compute, layer by layer, the units whose inputs are now all known."""
        fill = self._fill_residual if self.schedule.residual else self._fill_feedforward
        fill(self._weighted(0, x[: step.dims.stop], step.units), step.units)

    def _weighted(self, layer: int, inputs: Tensor, units: slice) -> Tensor:
        weight = self.schedule.layers[layer].weight[units, : len(inputs)]
        return torch.addmm(self.offsets[layer][units], weight, inputs)

    def _fill_feedforward(self, first: Tensor, units: slice) -> None:
        self.layers[0][units] = torch.relu(first)
        for index in range(1, len(self.layers)):
            below = self.layers[index - 1][: units.stop]
            self.layers[index][units] = torch.relu(self._weighted(index, below, units))

    def _fill_residual(self, first: Tensor, units: slice) -> None:
        self.layers[0][units] = first
        for index in range(1, len(self.layers), 2):
            rectified, inner = self.rectified[index // 2], self.layers[index]
            rectified[units] = torch.relu(self.layers[index - 1][units])
            inner[units] = torch.relu(self._weighted(index, rectified[: units.stop], units))
            added = self._weighted(index + 1, inner[: units.stop], units)
            self.layers[index + 1][units] = self.layers[index - 1][units] + added
