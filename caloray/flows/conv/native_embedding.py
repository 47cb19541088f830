"""The embedding of a layer flow's context in C++: one call per layer and batch."""

from __future__ import annotations

__all__ = ["NativeEmbedding"]

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from caloray.errors import ConfigError
from caloray.flows.conv.fold import Filter
from caloray.flows.conv.native_call import Prepared, checked
from caloray.flows.conv.native_layers import BLOCK, DOWN, SAME, Program, layer, whole
from caloray.flows.native_inverse import unavailable

if TYPE_CHECKING:
    from caloray.flows.conv.embedding import ContextEmbedding

PLANES, LAYERS, MIXED, SMALL = range(4)


class NativeEmbedding:
    """Flat context to context planes by the native library, in float32.

    Numbers as in torch up to rounding; a shower's planes depend neither on the others of the batch nor on the
    number of threads. The weights are copied.

    Args:
        embedding: One with previous layers.

    Raises:
        ConfigError: There is no native library.
    """

    def __init__(self, embedding: ContextEmbedding) -> None:
        if why_not := unavailable():
            raise ConfigError(f"there is no native embedding: {why_not}", hint="or use the backend torch")
        grid, squeeze = embedding.grid, embedding.squeeze
        self.inputs = embedding.previous * grid.size + embedding.scalars
        self.planes = (embedding.channels, grid.rows // squeeze[0], grid.columns // squeeze[1])
        self._prepared = Prepared(_compile(embedding))

    def __call__(self, context: Tensor) -> Tensor:
        """(batch, previous * voxels + scalars) float32 to (batch, channels, h, w).

        Raises:
            ConfigError: Wrong shape, dtype or device.
        """
        context = checked("context", context, (len(context), self.inputs))
        planes = context.new_empty(len(context), *self.planes)
        self._prepared.run(context, None, planes, None)
        return planes

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Packed weights stay in their process."""
        raise TypeError("a native embedding cannot be pickled or copied; prepare it again")


@torch.no_grad()
def _compile(embedding: ContextEmbedding) -> Program:
    grid, squeeze, channels = embedding.grid, embedding.squeeze, embedding.channels
    program = Program(bf16=False)
    numbers = whole(channels, BLOCK)
    entry = whole(embedding.previous + embedding.scalars, BLOCK)
    levels = [(grid.rows // squeeze[0], grid.columns // squeeze[1]), (grid.rows, grid.columns)]
    program.lay_out(levels, [(0, numbers), (1, max(entry, numbers)), (1, numbers), (0, numbers)])
    step = embedding.step
    down = _mean(channels, squeeze) if step is None else _filter(step)
    layers = [
        layer(program, DOWN, _filter(embedding.mix), LAYERS, MIXED),
        layer(program, SAME, _filter(embedding.look), MIXED, LAYERS),
        layer(program, DOWN, down, LAYERS, SMALL, leaky=step is not None),
        layer(program, SAME, _filter(embedding.join), SMALL, PLANES, leaky=False),
    ]
    program.pack(layers)
    source = program.source
    source.cyclic, source.layers, source.context = grid.cyclic, len(layers), channels
    source.previous, source.scalars = embedding.previous, embedding.scalars
    source.order = program.keep(grid.images(torch.arange(grid.size)))
    # No splines; any will do.
    source.bins, source.min_slope = 2, 0.5
    return program


def _filter(convolution: nn.Conv2d) -> Filter:
    weight, bias = convolution.weight, convolution.bias
    return Filter(weight.double(), weight.new_zeros(len(weight)).double() if bias is None else bias.double())


def _mean(channels: int, window: tuple[int, int]) -> Filter:
    """The average over a window, as a convolution."""
    weight = torch.eye(channels, dtype=torch.float64)[:, :, None, None].expand(-1, -1, *window)
    return Filter(weight / (window[0] * window[1]), torch.zeros(channels, dtype=torch.float64))
