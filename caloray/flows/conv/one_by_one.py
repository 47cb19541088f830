"""Invertible 1x1 convolutions in LU form (Kingma & Dhariwal, "Glow", NeurIPS 2018, section 3.2)."""

from __future__ import annotations

__all__ = ["OneByOne"]

import torch
from nflows.transforms.conv import OneByOneConvolution
from torch import Tensor
from torch.nn import functional as nnf


class OneByOne(OneByOneConvolution):  # type: ignore[misc]
    """A fixed channel permutation P, then y = L U P x + b in every pixel; nflows' parameters and map.

    nflows multiplies by U and L in turn over rows of pixels, and solves two triangular systems in the
    inverse; here the product is formed once per call and applied as a convolution.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, using_cache=False, identity_init=True)

    def matrix(self) -> Tensor:
        """(channels, channels): L U P."""
        lower, upper = self._create_lower_upper()
        product: Tensor = (lower @ upper)[:, torch.argsort(self.permutation._permutation)]
        return product

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise, (batch, channels, h, w)."""
        del context
        outputs = nnf.conv2d(inputs, self.matrix()[:, :, None, None], self.bias)
        return outputs, self._log_det(inputs).expand(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise to data, (batch, channels, h, w); the matrix is inverted in float64."""
        del context
        inverse = torch.linalg.inv(self.matrix().double()).to(inputs.dtype)
        outputs = nnf.conv2d(inputs - self.bias[:, None, None], inverse[:, :, None, None])
        return outputs, -self._log_det(inputs).expand(len(inputs))

    def _log_det(self, inputs: Tensor) -> Tensor:
        pixels = inputs.shape[-2] * inputs.shape[-1]
        total: Tensor = pixels * self.logabsdet()
        return total
