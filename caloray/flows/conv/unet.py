"""The network of a coupling: a U-Net whose windows and strides fit small calorimeter images.

Sizes are those of convolutional L2LFlows (arXiv:2405.20407 and its configuration files): level i has
``hidden * 2**i`` channels; a step down is a convolution whose kernel equals its stride, a step up its
transpose.
"""

from __future__ import annotations

__all__ = ["Convolution", "UNet"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

SLOPE = 0.01
"""Slope of the LeakyReLU below zero."""


class Convolution(nn.Conv2d):
    """A 3x3 convolution that keeps the image's size: zeros around it, or the far side along the columns.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        cyclic: Whether columns are cyclic.
    """

    def __init__(self, inputs: int, outputs: int, *, cyclic: bool) -> None:
        super().__init__(inputs, outputs, kernel_size=3, padding=(1, 0 if cyclic else 1))
        self.cyclic = cyclic

    def forward(self, images: Tensor) -> Tensor:
        """(batch, inputs, h, w) to (batch, outputs, h, w)."""
        if self.cyclic:
            images = torch.cat([images[..., -1:], images, images[..., :1]], dim=-1)
        return nnf.conv2d(images, self.weight, self.bias, padding=(1, 0 if self.cyclic else 1))


class UNet(nn.Module):
    """Identity channels and context planes to spline parameters.

    Args:
        inputs: Channels of the untransformed half.
        context: Channels of the context planes.
        outputs: Raw spline numbers per pixel.
        hidden: Channels of the highest level.
        kernels: Window (rows, columns) of each step down; their product divides the image.
        cyclic: Whether columns are cyclic.
    """

    def __init__(
        self,
        inputs: int,
        context: int,
        outputs: int,
        hidden: int,
        kernels: Sequence[tuple[int, int]],
        *,
        cyclic: bool,
    ) -> None:
        super().__init__()
        widths = [hidden * 2**level for level in range(len(kernels) + 1)]
        entries = [inputs + context, *widths[1:-1]]
        self.encoders = nn.ModuleList(
            _Block(entry, width, width, cyclic=cyclic)
            for entry, width in zip(entries, widths[:-1], strict=True)
        )
        pairs = list(zip(widths[:-1], widths[1:], kernels, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(low, high, k, stride=k) for low, high, k in pairs)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(high, low, k, stride=k) for low, high, k in pairs)
        self.decoders = nn.ModuleList(
            _Block(2 * width, width, width if level else outputs, cyclic=cyclic, last=level == 0)
            for level, width in enumerate(widths[:-1])
        )
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    @property
    def last(self) -> Convolution:
        """The convolution that gives the outputs; zero at first."""
        block: _Block = self.decoders[0]  # type: ignore[assignment]
        return block.second

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> Tensor:
        """(batch, inputs, h, w) and (batch, context, h, w) to (batch, outputs, h, w)."""
        x = inputs if context is None else torch.cat([inputs, context], dim=1)
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = nnf.leaky_relu(x, SLOPE)
        for level in reversed(range(len(skips))):
            x = self.decoders[level](torch.cat([self.ups[level](x), skips[level]], dim=1))
        return x


class _Block(nn.Module):
    """Two convolutions, each with BatchNorm and LeakyReLU; the last block has none after its second."""

    def __init__(self, inputs: int, hidden: int, outputs: int, *, cyclic: bool, last: bool = False) -> None:
        super().__init__()
        self.first = Convolution(inputs, hidden, cyclic=cyclic)
        self.first_norm = nn.BatchNorm2d(hidden)
        self.second = Convolution(hidden, outputs, cyclic=cyclic)
        self.second_norm = None if last else nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = nnf.leaky_relu(self.first_norm(self.first(x)), SLOPE)
        x = self.second(x)
        return x if self.second_norm is None else nnf.leaky_relu(self.second_norm(x), SLOPE)
