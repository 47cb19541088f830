"""Masked autoregressive splines: the nflows transform with another spline and another inverse."""

from __future__ import annotations

__all__ = ["Degrees", "MaskedSpline"]

from typing import Literal

import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from torch import Tensor
from torch.nn import functional as nnf

from caloray.flows.incremental import DegreeSchedule, invert
from caloray.flows.spline import SplineConfig, spline_forward

Degrees = Literal["nflows", "spread"]


class MaskedSpline(MaskedPiecewiseRationalQuadraticAutoregressiveTransform):  # type: ignore[misc]
    """One MADE that sets the parameters of one spline per dimension.

    Papamakarios et al., "Masked autoregressive flow", NIPS 2017; Durkan et al. 2019, section 3.2.

    The network, its masks, its parameter names and their order are those of the nflows class it extends
    (feed-forward blocks, ReLU), so state dicts are interchangeable. Forward maps data to noise in one
    pass; inverse maps noise to data exactly, computing every hidden unit once
    (:mod:`caloray.flows.incremental`).

    Args:
        features: Dimension D.
        hidden: Width H of every hidden layer.
        context: Number of conditioning features.
        hidden_layers: Number of hidden layers (nflows' ``num_blocks`` + 1).
        spline: Shape of the spline.
        dropout: Dropout probability after every hidden layer but the first.
        degrees: How hidden units are assigned degrees. "nflows": unit j gets (j mod (D - 1)) + 1, so that
            with H < D - 1 the inputs above H condition nothing. "spread": floor(linspace) over 1 ... D - 1
            whenever H < D - 1 and the same as "nflows" otherwise.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        context: int,
        hidden_layers: int,
        spline: SplineConfig,
        *,
        dropout: float = 0.0,
        degrees: Degrees = "spread",
    ) -> None:
        super().__init__(
            features=features,
            hidden_features=hidden,
            context_features=context,
            num_blocks=hidden_layers - 1,
            num_bins=spline.bins,
            tails="linear",
            tail_bound=spline.tail_bound,
            use_residual_blocks=False,
            dropout_probability=dropout,
            min_bin_width=spline.min_width,
            min_bin_height=spline.min_height,
            min_derivative=spline.min_derivative,
        )
        self.features = features
        self.spline = spline
        self._schedule: tuple[tuple[int, ...], DegreeSchedule] | None = None
        if degrees == "spread" and hidden < features - 1:
            self._spread_degrees(hidden)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise.

        Args:
            inputs: (batch, D).
            context: (batch, C).

        Returns:
            Noise (batch, D) and log |det Jacobian| (batch,).
        """
        outputs, log_slope = spline_forward(inputs, self.raw_parameters(inputs, context), self.spline)
        return outputs, log_slope.sum(dim=1)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, the exact inverse of :meth:`forward`; not differentiable.

        Args:
            inputs: (batch, D).
            context: (batch, C).

        Returns:
            Data (batch, D) and log |det Jacobian| of this direction (batch,).
        """
        with torch.no_grad():
            return invert(self.schedule(), inputs, context, self.spline)

    def raw_parameters(self, inputs: Tensor, context: Tensor | None) -> Tensor:
        """The network's output, (batch, 3K - 1, D): the same numbers as nflows', parameter-major."""
        net = self.autoregressive_net
        hidden = net.initial_layer(inputs)
        if context is not None:
            hidden = hidden + torch.relu(net.context_layer(context))
        hidden = torch.relu(hidden)
        for block in net.blocks:
            hidden = block(hidden)
        final = net.final_layer
        weight = (final.weight * final.mask).view(self.features, self.spline.n_raw, -1)
        weight = weight.transpose(0, 1).reshape(-1, hidden.shape[1])
        bias = final.bias.view(self.features, -1).t().reshape(-1)
        return nnf.linear(hidden, weight, bias).view(-1, self.spline.n_raw, self.features)

    def schedule(self) -> DegreeSchedule:
        """The weights in the order in which the inverse uses them; rebuilt when one has changed."""
        tensors = [*self.parameters(), *self.buffers()]
        version = tuple(n for t in tensors for n in (t._version, t.data_ptr()))
        if self._schedule is None or self._schedule[0] != version:
            self._schedule = (
                version,
                DegreeSchedule.of(self.autoregressive_net, self.features, self.spline.n_raw),
            )
        return self._schedule[1]

    def _spread_degrees(self, hidden: int) -> None:
        degrees = torch.linspace(1, self.features - 1, hidden, dtype=torch.float64).floor().long()
        inputs = torch.arange(1, self.features + 1)
        net = self.autoregressive_net
        for layer, before in [(net.initial_layer, inputs), *((b.linear, degrees) for b in net.blocks)]:
            layer.degrees.copy_(degrees)
            layer.mask.copy_((degrees[:, None] >= before).float())
        outputs = inputs.repeat_interleave(self.spline.n_raw)
        net.final_layer.mask.copy_((outputs[:, None] > degrees).float())
