"""Rational-quadratic spline coupling of image channels (Durkan et al., "Neural Spline Flows", NeurIPS 2019).

The class derives from nflows' coupling, and its map is that of nflows' rational-quadratic one with linear
tails; only the arithmetic of the spline is that of :mod:`caloray.flows.spline`. Published models rescale
the softplus of the slopes so that zeros mean the identity, and miss it at both ends of the interval; here
the last bias of the network starts where the plain softplus gives slope 1: at first the map is the identity
everywhere.
"""

from __future__ import annotations

__all__ = ["SplineCoupling"]

import math
from collections.abc import Callable

import torch
from nflows.transforms.coupling import CouplingTransform
from torch import Tensor

from caloray.flows.conv.unet import UNet
from caloray.flows.spline import SplineConfig, spline_forward, spline_inverse


class SplineCoupling(CouplingTransform):  # type: ignore[misc]
    """The first half of the channels is transformed, the second half feeds the network.

    Args:
        channels: Number of channels, at least 2; of an odd number the smaller part is transformed.
        network: Makes the network from (identity channels, raw numbers per pixel).
        spline: Shape of the splines.
    """

    def __init__(self, channels: int, network: Callable[[int, int], UNet], spline: SplineConfig) -> None:
        self.spline = spline
        half = channels // 2
        super().__init__([1] * half + [0] * (channels - half), network)
        with torch.no_grad():
            bias = self.transform_net.last.bias.view(half, spline.n_raw)
            bias[:, 2 * spline.bins :] = math.log(math.expm1(1 - spline.min_derivative))

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise, (batch, channels, h, w)."""
        return self._map(inputs, context, spline_forward)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, (batch, channels, h, w)."""
        return self._map(inputs, context, spline_inverse)

    def _transform_dim_multiplier(self) -> int:
        return self.spline.n_raw

    def _map(
        self,
        inputs: Tensor,
        context: Tensor | None,
        spline: Callable[[Tensor, Tensor, SplineConfig], tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        half = self.num_transform_features
        kept = inputs[:, half:]
        raw = self.transform_net(kept, context)
        # Raw numbers come channel by channel, so that every transformed channel is one row of the spline.
        rows = inputs[:, :half].reshape(len(inputs) * half, -1)
        mapped, slopes = spline(rows, raw.reshape(len(rows), self.spline.n_raw, -1), self.spline)
        outputs = torch.cat([mapped.view(len(inputs), half, *inputs.shape[2:]), kept], dim=1)
        return outputs, slopes.view(len(inputs), -1).sum(dim=1)
