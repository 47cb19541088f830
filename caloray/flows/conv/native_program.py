"""A folded layer flow as the native library reads it: a list of layers over a few images.

The images of a level are: the hidden one between a block's two convolutions; the one that the decoder reads,
with the skip's channels first and the up-sampled ones behind them; and, below the first level, what comes
down (later what goes up). The first image of all is the networks' input, with the context's channels first.
"""

from __future__ import annotations

__all__ = ["compile_flow"]

import torch
from torch import Tensor

from caloray.flows.conv.fold import Affine, Filter, FoldedFlow, FoldedNetwork
from caloray.flows.conv.native_layers import (
    BLOCK,
    DOWN,
    LAST,
    SAME,
    STEP,
    UP,
    Image,
    Layer,
    Program,
    layer,
    whole,
)


def compile_flow(flow: FoldedFlow, *, bf16: bool = False) -> Program:
    """Lay out the images and pack the weights."""
    program = Program(bf16)
    levels = _levels(flow)
    layout = _Layout(flow, bf16=bf16)
    layers = [each for network in flow.networks for each in _layers(program, layout, flow, network)]
    program.lay_out(levels, layout.images)
    program.pack(layers)
    program.set_spline(flow.spline)
    source = program.source
    source.cyclic, source.channels, source.transformed = flow.cyclic, len(flow.order), flow.transformed
    source.context, source.blocks = flow.context, len(flow.networks)
    source.layers = len(layers) // len(flow.networks)
    source.affine = program.keep(torch.cat([_numbers(affine) for affine in flow.affines]))
    source.order, source.log_det = program.keep(flow.order), flow.log_det
    return program


def _levels(flow: FoldedFlow) -> list[tuple[int, int]]:
    """Rows and columns of each level, the bottom included."""
    levels = [(flow.order.shape[1], flow.order.shape[2])]
    for down in flow.networks[0].downs:
        rows, columns = down.weight.shape[2:]
        levels.append((levels[-1][0] // rows, levels[-1][1] // columns))
    return levels


class _Layout:
    """Which image is where; numbers per pixel are whole blocks."""

    def __init__(self, flow: FoldedFlow, *, bf16: bool) -> None:
        self.unit = STEP if bf16 else BLOCK
        self.images: list[Image] = []
        network = flow.networks[0]
        widths = [len(encoder.second.bias) for encoder in network.encoders]
        self.input = self._add(0, flow.context + len(flow.order) - flow.transformed)
        self.below = [self.input]
        self.hidden, self.joined = [], []
        for level, width in enumerate(widths):
            self.hidden.append(self._add(level, width))
            # The up-sampled channels are stored in whole blocks, behind the skip's.
            self.joined.append(self._add(level, width + whole(width, self.unit)))
            self.below.append(self._add(level + 1, len(network.downs[level].bias)))

    def _add(self, level: int, numbers: int) -> int:
        self.images.append((level, whole(numbers, self.unit)))
        return len(self.images) - 1


def _layers(program: Program, layout: _Layout, flow: FoldedFlow, network: FoldedNetwork) -> list[Layer]:
    """One network in the order of computation."""
    layers = []
    depth = len(network.encoders)
    below, hidden, joined = layout.below, layout.hidden, layout.joined
    for level, ((first, second), down) in enumerate(zip(network.encoders, network.downs, strict=True)):
        # The context goes first in the network's input.
        context = 0 if level else flow.context
        layers += [
            layer(program, SAME, _last_first(first, context), below[level], hidden[level]),
            layer(program, SAME, second, hidden[level], joined[level]),
            layer(program, DOWN, down, joined[level], below[level + 1], leaky=level == depth - 1),
        ]
    for level in reversed(range(depth)):
        (first, second), width = network.decoders[level], len(network.encoders[level].second.bias)
        last = level == 0
        layers += [
            layer(
                program, UP, network.ups[level], below[level + 1], joined[level], offset=width, leaky=False
            ),
            layer(program, SAME, _last_first(first, width), joined[level], hidden[level]),
            layer(program, LAST if last else SAME, second, hidden[level], below[level], leaky=not last),
        ]
    return layers


def _last_first(folded: Filter, count: int) -> Filter:
    """The same convolution of inputs whose last ``count`` channels come before the others."""
    return Filter(folded.weight.roll(count, dims=1), folded.bias)


def _numbers(affine: Affine) -> Tensor:
    return torch.cat([affine.matrix.flatten(), affine.shift]).float()
