"""What a layer flow is told: previous layers and scalars, as a few planes at the squeezed resolution."""

from __future__ import annotations

__all__ = ["ContextEmbedding"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as nnf

from caloray.flows.conv.grid import Grid
from caloray.flows.conv.sampler import prepare_embedding
from caloray.flows.conv.unet import SLOPE, Convolution
from caloray.flows.names import Backend

STRIDED = 2
"""Squeeze factors up to this are bridged by a strided convolution, larger ones by an average."""


class ContextEmbedding(nn.Module):
    """Previous layers (images) and scalars (constant planes) to context planes, trained with the flow.

    A 1x1 convolution, a 3x3 one, the step down to the squeezed resolution and another 3x3 one, with LeakyReLU
    between them (convolutional L2LFlows). The scalars' share of the first convolution is the same in every
    pixel and is computed once per sample.

    Args:
        grid: The layer.
        previous: Number of previous layers; 0 gives the scalars as they are, as constant planes.
        scalars: Number of scalars.
        channels: Context planes that come out.
        squeeze: Factors (rows, columns) of the resolution.
    """

    _prepared: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self, grid: Grid, previous: int, scalars: int, channels: int, squeeze: tuple[int, int]
    ) -> None:
        super().__init__()
        self.grid, self.previous, self.scalars, self.squeeze = grid, previous, scalars, squeeze
        self.channels = channels if previous else scalars
        if not previous:
            return
        self.mix = nn.Conv2d(previous + scalars, channels, 1)
        self.look = Convolution(channels, channels, cyclic=grid.cyclic)
        strided = max(squeeze) <= STRIDED
        self.step = nn.Conv2d(channels, channels, squeeze, stride=squeeze) if strided else None
        self.join = Convolution(channels, channels, cyclic=grid.cyclic)

    def freeze(self, backend: Backend) -> None:
        """Prepare the forward pass for final weights; ends as that of :meth:`ConvTransform.freeze` does."""
        self._prepared = prepare_embedding(self, backend)

    def forward(self, context: Tensor) -> Tensor:
        """(batch, previous * voxels + scalars) to (batch, channels, h, w)."""
        if self._prepared is not None and not torch.is_grad_enabled():
            return self._prepared(context)
        size = self.previous * self.grid.size
        layers, scalars = context[:, :size], context[:, size:]
        if not self.previous:
            rows, columns = self.grid.rows // self.squeeze[0], self.grid.columns // self.squeeze[1]
            return scalars[:, :, None, None].expand(-1, -1, rows, columns)
        images = self.grid.images(layers.reshape(len(context), self.previous, self.grid.size))
        weight = self.mix.weight
        constant = nnf.linear(scalars, weight[:, self.previous :, 0, 0], self.mix.bias)
        x = nnf.conv2d(images, weight[:, : self.previous]) + constant[:, :, None, None]
        x = nnf.leaky_relu(self.look(nnf.leaky_relu(x, SLOPE)), SLOPE)
        if self.step is None:
            return self._join(nnf.avg_pool2d(x, self.squeeze))
        return self._join(nnf.leaky_relu(self.step(x), SLOPE))

    def train(self, mode: bool = True) -> ContextEmbedding:
        """As every module; the forward pass follows the weights again."""
        self._prepared = None
        super().train(mode)
        return self

    def _apply(self, *arguments: Any, **options: Any) -> ContextEmbedding:
        self._prepared = None
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._prepared = None
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles prepare their own."""
        return {**super().__getstate__(), "_prepared": None}  # type: ignore[no-untyped-call]

    def _join(self, x: Tensor) -> Tensor:
        joined: Tensor = self.join(x)
        return joined
