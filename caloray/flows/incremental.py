"""The exact inverse of a MADE with every hidden unit computed once.

A hidden unit of degree d sees only the inputs 1 ... d. Sorted by degree, the units that become computable
after a dimension is known form a contiguous group, and their inputs a contiguous prefix: the inverse is
one walk through the groups, each solving the dimensions whose parameters are complete. Dimensions that see
the same hidden units (all those beyond the largest degree, in particular) are solved together, so a
network with G distinct degrees takes G + 1 steps instead of nflows' D passes of the whole network.
"""

from __future__ import annotations

__all__ = ["DegreeSchedule", "invert"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caloray.flows.spline import SplineConfig, spline_inverse


@dataclass(frozen=True)
class _Step:
    """Dimensions solved in one step, and the hidden units that they complete."""

    dims: slice
    ready: int
    units: slice


@dataclass(frozen=True)
class DegreeSchedule:
    """Masked weights of one MADE, hidden units sorted by degree.

    Args:
        first: (H, D) input weights; first_bias (H,).
        context: (H, C) context weights and bias (H,), or None.
        hidden: For each further layer the (H, H) weights and (H,) bias.
        final: (3K - 1, D, H) output weights; final_bias (3K - 1, D).
        steps: The walk.
    """

    first: Tensor
    first_bias: Tensor
    context: tuple[Tensor, Tensor] | None
    hidden: tuple[tuple[Tensor, Tensor], ...]
    final: Tensor
    final_bias: Tensor
    steps: tuple[_Step, ...]

    @staticmethod
    def of(net: Any, features: int, n_raw: int) -> DegreeSchedule:
        """Sort and mask the weights of an nflows MADE with ``n_raw`` outputs for each of its features."""
        degrees = net.initial_layer.degrees
        order = torch.argsort(degrees, stable=True)
        shape = (features, n_raw)
        context = getattr(net, "context_layer", None)
        final = (net.final_layer.weight * net.final_layer.mask)[:, order]
        return DegreeSchedule(
            first=(net.initial_layer.weight * net.initial_layer.mask)[order],
            first_bias=net.initial_layer.bias[order],
            context=None if context is None else (context.weight[order], context.bias[order]),
            hidden=tuple(
                ((b.linear.weight * b.linear.mask)[order][:, order], b.linear.bias[order]) for b in net.blocks
            ),
            final=final.view(*shape, -1).transpose(0, 1).contiguous(),
            final_bias=net.final_layer.bias.view(shape).t().contiguous(),
            steps=_steps(degrees[order], features),
        )


def _steps(degrees: Tensor, features: int) -> tuple[_Step, ...]:
    """Group the dimensions by the number of hidden units that are complete before them."""
    ready = torch.searchsorted(degrees, torch.arange(1, features + 1, device=degrees.device)).tolist()
    starts = [0] + [d for d in range(1, features) if ready[d] != ready[d - 1]]
    stops = [*starts[1:], features]
    after = [*(ready[s] for s in starts[1:]), len(degrees)]
    return tuple(
        _Step(slice(start, stop), ready[start], slice(ready[start], end))
        for start, stop, end in zip(starts, stops, after, strict=True)
    )


def invert(
    schedule: DegreeSchedule, noise: Tensor, context: Tensor | None, spline: SplineConfig
) -> tuple[Tensor, Tensor]:
    """Solve for the data one group of dimensions at a time.

    Args:
        schedule: Sorted weights of the MADE.
        noise: (batch, D).
        context: (batch, C) or None.
        spline: Shape of the spline.

    Returns:
        Data (batch, D) and log |det Jacobian| (batch,).
    """
    batch = len(noise)
    z = noise.t().contiguous()
    x = torch.zeros_like(z)
    log_det = noise.new_zeros(batch)
    start = schedule.first_bias[:, None].expand(-1, batch)
    if context is not None and schedule.context is not None:
        weight, bias = schedule.context
        start = start + torch.relu(torch.addmm(bias[:, None], weight, context.t()))
    layers = [noise.new_empty(len(schedule.first_bias), batch) for _ in range(1 + len(schedule.hidden))]
    for step in schedule.steps:
        raw = _raw(schedule, layers[-1], step)
        values, log_slope = spline_inverse(z[step.dims].view(1, -1), raw, spline)
        x[step.dims] = values.view(-1, batch)
        log_det = log_det + log_slope.view(-1, batch).sum(dim=0)
        if step.units.start < step.units.stop:
            _complete(schedule, layers, start, x, step)
    return x.t().contiguous(), log_det


def _raw(schedule: DegreeSchedule, last: Tensor, step: _Step) -> Tensor:
    """Spline parameters of the step's dimensions as (1, 3K - 1, dims * batch)."""
    bias = schedule.final_bias[:, step.dims]
    weight = schedule.final[:, step.dims, : step.ready].reshape(bias.numel(), step.ready)
    flat = torch.addmm(bias.reshape(-1, 1), weight, last[: step.ready])
    return flat.view(1, bias.shape[0], -1)


def _complete(schedule: DegreeSchedule, layers: list[Tensor], start: Tensor, x: Tensor, step: _Step) -> None:
    """Compute, layer by layer, the hidden units whose inputs are now all known."""
    units, known = step.units, step.dims.stop
    first = torch.addmm(start[units], schedule.first[units, :known], x[:known])
    layers[0][units] = torch.relu(first)
    for layer, (weight, bias) in enumerate(schedule.hidden, start=1):
        below = layers[layer - 1][: units.stop]
        layers[layer][units] = torch.relu(torch.addmm(bias[units, None], weight[units, : units.stop], below))
