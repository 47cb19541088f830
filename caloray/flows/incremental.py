"""The exact inverse of a MADE in plain torch, every hidden unit computed once, on any device."""

from __future__ import annotations

__all__ = ["IncrementalInverter"]

from typing import NamedTuple

import torch
from torch import Tensor

from caloray.flows.schedule import DegreeSchedule, Step
from caloray.flows.spline import SplineConfig, spline_inverse


class IncrementalInverter:
    """Walk through the schedule; see :mod:`caloray.flows.schedule`.

    Args:
        schedule: Sorted weights of the MADE.
        spline: Shape of the spline.
    """

    def __init__(self, schedule: DegreeSchedule, spline: SplineConfig) -> None:
        self.schedule = schedule
        self.spline = spline
        self._outputs = [_Output.of(schedule, step) for step in schedule.steps]

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Solve for the data one step's dimensions at a time.

        Args:
            noise: (batch, D).
            context: (batch, C) or None.

        Returns:
            Data (batch, D) and log |det Jacobian| (batch,).
        """
        z = noise.t().contiguous()
        x, log_slope = torch.zeros_like(z), torch.empty_like(z)
        units = HiddenUnits(self.schedule, context, len(noise), noise)
        units.complete_blind(x)
        for step, output in zip(self.schedule.steps, self._outputs, strict=True):
            raw = output(units.last[: step.ready], context)
            found = spline_inverse(z[step.dims].view(1, -1), raw, self.spline)
            for target, values in zip((x, log_slope), found, strict=True):
                target[step.dims].view(1, -1).copy_(values)
            if step.units.start < step.units.stop:
                units.complete(x, step)
        return x.t().contiguous(), log_slope.sum(dim=0)


class _Output(NamedTuple):
    """The rows of the output layer that set one step's splines: 3K - 1 parameters of n dimensions.

    Args:
        weight: ((3K - 1) n, ready).
        bias: ((3K - 1) n, 1).
        context: ((3K - 1) n, C), or None where the context does not reach the output layer.
        n_raw: 3K - 1.
    """

    weight: Tensor
    bias: Tensor
    context: Tensor | None
    n_raw: int

    @staticmethod
    def of(schedule: DegreeSchedule, step: Step) -> _Output:
        direct = schedule.output_context
        if direct is not None:
            direct = direct[:, step.dims].flatten(0, 1) if step.dims.stop <= direct.shape[1] else None
        weight = schedule.final[:, step.dims, : step.ready].flatten(0, 1)
        bias = schedule.final_bias[:, step.dims].reshape(-1, 1)
        return _Output(weight.contiguous(), bias, direct, schedule.n_raw)

    def __call__(self, hidden: Tensor, context: Tensor | None) -> Tensor:
        """Raw parameters (1, 3K - 1, n * batch) from the hidden units (ready, batch)."""
        flat = torch.addmm(self.bias, self.weight, hidden)
        if context is not None and self.context is not None:
            flat = torch.addmm(flat, self.context, context.t())
        return flat.view(1, self.n_raw, -1)


class HiddenUnits:
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

    def complete_blind(self, x: Tensor) -> None:
        """Compute the units that see no dimension, only the context: those of a network of one dimension."""
        blind = self.schedule.steps[0].units.start
        if blind:
            self.complete(x, Step(slice(0, 0), 0, slice(0, blind)))

    def complete(self, x: Tensor, step: Step) -> None:
        """Compute, layer by layer, the units whose inputs are now all known."""
        fill = self._fill_residual if self.schedule.residual else self._fill_feedforward
        fill(self.weighted(0, x[: step.dims.stop], step.units), step.units)

    def weighted(self, layer: int, inputs: Tensor, units: slice) -> Tensor:
        """(units, batch) weighted inputs of some units of a layer, offset included."""
        weight = self.schedule.layers[layer].weight[units, : len(inputs)]
        return torch.addmm(self.offsets[layer][units], weight, inputs)

    def _fill_feedforward(self, first: Tensor, units: slice) -> None:
        self.layers[0][units] = first.relu_()
        for index in range(1, len(self.layers)):
            below = self.layers[index - 1][: units.stop]
            self.layers[index][units] = self.weighted(index, below, units).relu_()

    def _fill_residual(self, first: Tensor, units: slice) -> None:
        self.layers[0][units] = first
        for index in range(1, len(self.layers), 2):
            rectified, inner = self.rectified[index // 2], self.layers[index]
            rectified[units] = torch.relu(self.layers[index - 1][units])
            inner[units] = self.weighted(index, rectified[: units.stop], units).relu_()
            added = self.weighted(index + 1, inner[: units.stop], units)
            self.layers[index + 1][units] = self.layers[index - 1][units] + added
