"""The weights of a MADE, masked once and sorted in the order in which its inverse uses them.

A hidden unit of degree d sees only the inputs 1 ... d. Sorted by degree, the units that become computable
after a dimension is known form a contiguous group, and what they read a contiguous prefix: the inverse is one
walk through the groups, each solving the dimensions whose parameters are complete. Dimensions that see the
same hidden units are solved together, so a network with G distinct degrees takes G + 1 steps, where nflows
passes through the whole network D times.
"""

from __future__ import annotations

__all__ = ["DegreeSchedule", "HiddenLayer", "Step"]

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One step of the walk.

    Args:
        dims: Dimensions solved together.
        ready: Number of hidden units (of every layer) that their parameters may read.
        units: Hidden units that become computable once these dimensions are known.
    """

    dims: slice
    ready: int
    units: slice


@dataclass(frozen=True)
class HiddenLayer:
    """One masked hidden layer.

    Args:
        weight: (H, inputs) masked weights, units sorted by degree; inputs are the D dimensions in the first
            layer and the H sorted units of the layer below in the others.
        bias: (H,).
        context: Weights (H, C) and bias (H,) of the context's share, or None.
    """

    weight: Tensor
    bias: Tensor
    context: tuple[Tensor, Tensor] | None = None

    def offset(self, context: Tensor | None, batch: int, *, rectify: bool) -> Tensor:
        """(H, batch) what is added to the weighted inputs: bias and the context's share."""
        offset = self.bias[:, None].expand(-1, batch)
        if context is None or self.context is None:
            return offset
        weight, bias = self.context
        share = torch.addmm(bias[:, None], weight, context.t())
        return offset + (torch.relu(share) if rectify else share)


@dataclass(frozen=True)
class DegreeSchedule:
    """All weights of one MADE, ready to be walked through.

    With c the context and W masked, the network is (nflows, ``transforms/made.py``)

    * feed-forward: a_0 = relu(W_0 x + b_0 + relu(C_0 c + e_0)), a_l = relu(W_l a_{l-1} + b_l);
    * residual: h_0 = W_0 x + b_0 + relu(C_0 c + e_0), then for each pair of further layers
      h = h + W_b relu(W_a relu(h) + b_a + C_a c + e_a) + b_b;

    and the raw spline parameters are W_out of the last of these plus the bias, plus ``output_context`` c for
    the first dimensions.

    Args:
        features: Dimension D.
        residual: Whether the layers above the first come in residual pairs.
        layers: The first layer and all others.
        final: (3K - 1, D, H) masked output weights.
        final_bias: (3K - 1, D).
        output_context: (3K - 1, F, C) weights of the context in the parameters of the first F dimensions
            (always whole steps), or None.
        steps: The walk.
    """

    features: int
    residual: bool
    layers: tuple[HiddenLayer, ...]
    final: Tensor
    final_bias: Tensor
    output_context: Tensor | None
    steps: tuple[Step, ...]

    @staticmethod
    def of(net: Any, features: int, n_raw: int, output_context: Tensor | None = None) -> DegreeSchedule:
        """Sort and mask the weights of an nflows MADE.

        Args:
            net: The MADE: all hidden layers with the same degrees, ReLU, no batch norm.
            features: Its dimension D.
            n_raw: Outputs per dimension, 3K - 1.
            output_context: (F * (3K - 1), C) dimension-major, or None.
        """
        degrees = net.initial_layer.degrees
        order = torch.argsort(degrees, stable=True)
        layers = [_layer(net.initial_layer, order, None, getattr(net, "context_layer", None))]
        for block in net.blocks:
            if net.use_residual_blocks:
                first, second = block.linear_layers
                layers.append(_layer(first, order, order, getattr(block, "context_layer", None)))
                layers.append(_layer(second, order, order, None))
            else:
                layers.append(_layer(block.linear, order, order, None))
        final = (net.final_layer.weight * net.final_layer.mask)[:, order].detach()
        if output_context is not None:
            output_context = _parameter_major(output_context.detach(), n_raw)
        return DegreeSchedule(
            features=features,
            residual=bool(net.use_residual_blocks),
            layers=tuple(layers),
            final=_parameter_major(final, n_raw),
            final_bias=net.final_layer.bias.detach().view(features, n_raw).t().contiguous(),
            output_context=output_context,
            steps=_steps(degrees[order], features),
        )

    @property
    def n_raw(self) -> int:
        """Raw parameters per dimension, 3K - 1."""
        return self.final.shape[0]

    @property
    def context_features(self) -> int:
        """Number of conditioning features C; 0 without a context."""
        context = self.layers[0].context
        return 0 if context is None else context[0].shape[1]


def _parameter_major(weight: Tensor, n_raw: int) -> Tensor:
    return weight.view(-1, n_raw, weight.shape[1]).transpose(0, 1).contiguous()


def _layer(linear: Any, order: Tensor, below: Tensor | None, context: nn.Linear | None) -> HiddenLayer:
    weight = (linear.weight * linear.mask).detach()[order]
    return HiddenLayer(
        weight=(weight if below is None else weight[:, below]).contiguous(),
        bias=linear.bias.detach()[order],
        context=None if context is None else (context.weight.detach()[order], context.bias.detach()[order]),
    )


def _steps(degrees: Tensor, features: int) -> tuple[Step, ...]:
    """Group the dimensions by the number of hidden units that are complete before them."""
    ready = torch.searchsorted(degrees, torch.arange(1, features + 1, device=degrees.device)).tolist()
    starts = [0] + [d for d in range(1, features) if ready[d] != ready[d - 1]]
    stops = [*starts[1:], features]
    after = [*(ready[s] for s in starts[1:]), len(degrees)]
    return tuple(
        Step(slice(start, stop), ready[start], slice(ready[start], end))
        for start, stop, end in zip(starts, stops, after, strict=True)
    )
