"""Layers over images as the native library reads them (``native/src/conv.h``), with their weights packed."""

from __future__ import annotations

__all__ = [
    "BLOCK",
    "DOWN",
    "LAST",
    "SAME",
    "STEP",
    "UP",
    "Image",
    "Layer",
    "Program",
    "layer",
    "tile_of",
    "whole",
]

import ctypes
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from caloray.flows.conv.fold import Filter
from caloray.flows.conv.unet import SLOPE
from caloray.flows.spline import SplineConfig
from caloray.native import library

SAME, DOWN, UP, LAST = range(4)
BLOCK = 16
"""Output channels come in blocks of so many, the last filled up with zeros."""
GROUP = 2 * BLOCK
STEP = 32
"""Inputs per product of AMX."""
LINE = 64
"""Bytes of a cache line; all weights begin with one."""
CACHE = 1_500_000
"""Bytes that the images of a tile may take, so that they stay in the second-level cache."""
MOST = 32

Image = tuple[int, int]
"""Its level, and numbers per pixel."""


class _Image(ctypes.Structure):
    """``ConvImage`` of ``native/src/conv.h``."""

    _fields_ = (("level", ctypes.c_int64), ("stride", ctypes.c_int64))


class Layer(ctypes.Structure):
    """``ConvLayer``; see :func:`layer`."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in (
                "kind",
                "source",
                "target",
                "inputs",
                "outputs",
                "offset",
                "rows",
                "columns",
                "leaky",
            )
        ),
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


class _Source(ctypes.Structure):
    """``ConvSource``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("isa", "bf16", "cyclic", "unused")),
        *(
            (name, ctypes.c_int64)
            for name in ("channels", "transformed", "context", "blocks", "levels", "images", "layers", "tile")
        ),
        ("level", ctypes.c_void_p),
        ("image", ctypes.POINTER(_Image)),
        ("layer", ctypes.POINTER(Layer)),
        ("weights_end", ctypes.c_void_p),
        ("affine", ctypes.c_void_p),
        ("order", ctypes.c_void_p),
        ("log_det", ctypes.c_double),
        ("slope", ctypes.c_double),
        ("previous", ctypes.c_int64),
        ("scalars", ctypes.c_int64),
        ("bins", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("bound", "min_width", "min_height", "min_slope")),
    )


@dataclass
class Program:
    """What the library reads, and the tensors that own the memory.

    Args:
        bf16: Whether weights and images are in bfloat16.
    """

    bf16: bool
    owned: list[Tensor] = field(default_factory=list)
    weights: list[Tensor] = field(default_factory=list)
    source: _Source = field(default_factory=_Source)

    def keep(self, tensor: Tensor) -> int:
        """The address of a tensor that is kept."""
        self.owned.append(tensor.contiguous())
        return self.owned[-1].data_ptr()

    def pack(self, layers: list[Layer]) -> None:
        """Put the layers' weights one behind the other, where the library finds those it needs next."""
        total = sum(weights.nbytes for weights in self.weights)
        # From numpy, which asks for large pages: a small batch waits for little else than these bytes.
        room = torch.from_numpy(np.empty(total + LINE, np.uint8))
        at = self.keep(room) + -room.data_ptr() % LINE
        self.source.weights_end = at + total
        for layer, weights in zip(layers, self.weights, strict=True):
            layer.weights = at
            ctypes.memmove(at, weights.data_ptr(), weights.nbytes)
            at += weights.nbytes
        self.weights.clear()
        self.source.layer = (Layer * len(layers))(*layers)

    def lay_out(self, levels: list[tuple[int, int]], images: list[Image]) -> None:
        """Say how large the images are, and what computes."""
        source = self.source
        source.isa = library.ISAS.index("avx512" if self.bf16 else library.isa())
        source.bf16, source.slope = self.bf16, SLOPE
        source.levels, source.images = len(levels), len(images)
        source.tile = tile_of(levels, images, bf16=self.bf16)
        source.level = self.keep(torch.tensor(levels))
        source.image = (_Image * len(images))(*(_Image(*image) for image in images))

    def set_spline(self, spline: SplineConfig) -> None:
        """The splines behind the last layer."""
        source = self.source
        source.bins, source.bound, source.min_slope = spline.bins, spline.tail_bound, spline.min_derivative
        source.min_width, source.min_height = spline.min_width, spline.min_height

    @property
    def packed_bytes(self) -> int:
        """Bytes of all that is kept."""
        return sum(tensor.nbytes for tensor in self.owned)


def layer(
    program: Program,
    kind: int,
    folded: Filter,
    source: int,
    target: int,
    *,
    offset: int = 0,
    leaky: bool = True,
) -> Layer:
    """One convolution from an image to another; its packed weights wait for :meth:`Program.pack`.

    Args:
        program: Whose layer it is.
        kind: SAME (3x3), DOWN (window = stride), UP (its transpose) or LAST (SAME, to raw spline numbers).
        folded: The convolution, float64.
        source: Number of the image that it reads.
        target: Number of the image that it writes.
        offset: First channel that it writes.
        leaky: Whether a LeakyReLU follows.
    """
    weight = folded.weight.transpose(0, 1) if kind == UP else folded.weight
    outputs, inputs, rows, columns = weight.shape
    filled = whole(outputs, BLOCK)
    weight = torch.cat([weight, weight.new_zeros(filled - outputs, inputs, rows, columns)])
    bias = torch.cat([folded.bias, folded.bias.new_zeros(filled - outputs)])
    windows = weight.permute(2, 3, 1, 0).reshape(rows * columns, inputs, filled)
    pack = _packed_bf16 if program.bf16 else _packed
    parts = [pack(tap[None]) for tap in windows] if kind == UP else [pack(windows)]
    program.weights.append(torch.cat(parts))
    bias_at = program.keep(bias.float())
    return Layer(kind, source, target, inputs, filled, offset, rows, columns, leaky, None, bias_at)


def _packed(windows: Tensor) -> Tensor:
    """(window, input, output) to groups of outputs, one after the other."""
    return torch.cat([group.float().flatten() for group in torch.split(windows, GROUP, dim=2)])


def _packed_bf16(windows: Tensor) -> Tensor:
    """(window, input, output) to [block of outputs][window][step of inputs][pair of inputs][output][2]."""
    taps, inputs, outputs = windows.shape
    padded = torch.cat([windows, windows.new_zeros(taps, whole(inputs, STEP) - inputs, outputs)], dim=1)
    split = padded.reshape(taps, -1, STEP // 2, 2, outputs // BLOCK, BLOCK)
    return split.permute(4, 0, 1, 2, 5, 3).to(torch.bfloat16).flatten()


def tile_of(levels: list[tuple[int, int]], images: list[tuple[int, int]], *, bf16: bool) -> int:
    """Showers of a tile: as many as the cache holds."""
    numbers = sum((levels[level][0] + 2) * (levels[level][1] + 2) * stride for level, stride in images)
    if bf16:
        return BLOCK
    return max(1, min(MOST, CACHE // (4 * numbers)))


def whole(count: int, unit: int) -> int:
    """The count, filled up to whole units."""
    return -(-count // unit) * unit
