"""A whole layer flow from its settings: squeeze, then blocks of ActNorm, coupling and 1x1 convolution."""

from __future__ import annotations

__all__ = ["ConvFlowConfig", "activation_bytes", "build_conv", "conv_parameters"]

import math

import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.base import Transform
from pydantic import BaseModel, ConfigDict, Field, model_validator

from caloray.errors import ConfigError
from caloray.flows.conv.actnorm import ActNorm
from caloray.flows.conv.coupling import SplineCoupling
from caloray.flows.conv.embedding import ContextEmbedding
from caloray.flows.conv.grid import Flatten, Grid, ToImage
from caloray.flows.conv.one_by_one import OneByOne
from caloray.flows.conv.squeeze import Squeeze
from caloray.flows.conv.transform import ConvTransform
from caloray.flows.conv.unet import UNet
from caloray.flows.maf import count_parameters
from caloray.flows.spline import SplineConfig
from caloray.rng import StreamKey

Window = tuple[int, int]


class ConvFlowConfig(BaseModel):
    """One convolutional coupling flow (arXiv:2405.20407); the defaults are the published ILD ones.

    Args:
        blocks: Number of blocks (ActNorm, coupling, 1x1 convolution).
        hidden: Channels of the U-Nets' highest level.
        squeeze: Neighbourhood (rows, columns) that becomes channels; rows are r or x, columns alpha or y.
        kernels: Windows (rows, columns) of the U-Nets' steps down, after the squeeze.
        context_channels: Planes that the context is embedded into.
        spline: Shape of the splines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: int = Field(8, ge=1)
    hidden: int = Field(32, ge=1)
    squeeze: Window = (2, 2)
    kernels: tuple[Window, ...] = Field(((3, 3), (5, 5)), min_length=1)
    context_channels: int = Field(8, ge=1)
    spline: SplineConfig = SplineConfig(
        bins=10, tail_bound=15.0, min_width=1e-3, min_height=1e-3, min_derivative=1e-3
    )

    @model_validator(mode="after")
    def _two_channels(self) -> ConvFlowConfig:
        if min(self.squeeze) < 1 or math.prod(self.squeeze) < 2:
            raise ValueError(f"squeeze {list(self.squeeze)} leaves one channel; a coupling needs two or more")
        if min(min(window) for window in self.kernels) < 1:
            raise ValueError("kernels are windows of one or more rows and columns")
        return self

    def require(self, grid: Grid) -> None:
        """Refuse a grid that squeeze and kernels do not divide.

        Raises:
            ConfigError: Naming the axis and its factors.
        """
        for axis, name, size in ((0, "rows", grid.rows), (1, "columns", grid.columns)):
            factors = [self.squeeze[axis], *(window[axis] for window in self.kernels)]
            if size % math.prod(factors):
                raise ConfigError(
                    f"a layer of {size} {name} cannot be divided by squeeze and kernels "
                    f"({' x '.join(str(f) for f in factors)})",
                    hint="rows are r (or x), columns alpha (or y): choose factors whose product divides them",
                )


def build_conv(config: ConvFlowConfig, grid: Grid, previous: int, scalars: int, key: StreamKey) -> Flow:
    """A fresh flow: flat layers (batch, voxels) to standard normal noise, given flat context.

    Args:
        config: Architecture.
        grid: The layer.
        previous: Previous layers in the context (batch, previous * voxels + scalars).
        scalars: Numbers after them.
        key: Random stream of initial weights and permutations; the global generators stay untouched.

    Raises:
        ConfigError: Squeeze and kernels do not divide the grid.
    """
    config.require(grid)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key.seed64())
        embedding = ContextEmbedding(grid, previous, scalars, config.context_channels, config.squeeze)
        rows, columns = config.squeeze
        channels = rows * columns
        transforms: list[Transform] = [ToImage(grid), Squeeze(rows, columns)]
        for _ in range(config.blocks):
            transforms += [ActNorm(channels), _coupling(config, grid, embedding.channels), OneByOne(channels)]
        transforms.append(Flatten((channels, grid.rows // rows, grid.columns // columns)))
    return Flow(ConvTransform(transforms), StandardNormal([grid.size]), embedding_net=embedding)


def _coupling(config: ConvFlowConfig, grid: Grid, context: int) -> SplineCoupling:
    def network(identity: int, outputs: int) -> UNet:
        return _network(config, grid, identity, context, outputs)

    return SplineCoupling(math.prod(config.squeeze), network, config.spline)


def _network(config: ConvFlowConfig, grid: Grid, identity: int, context: int, outputs: int) -> UNet:
    return UNet(identity, context, outputs, config.hidden, config.kernels, cyclic=grid.cyclic)


def conv_parameters(config: ConvFlowConfig, grid: Grid, previous: int, scalars: int) -> int:
    """Number of trainable parameters; the networks are laid out without their memory."""
    channels = math.prod(config.squeeze)
    half = channels // 2
    with torch.device("meta"):
        embedding = ContextEmbedding(grid, previous, scalars, config.context_channels, config.squeeze)
        outputs = half * config.spline.n_raw
        network = _network(config, grid, channels - half, embedding.channels, outputs)
    affine = 2 * channels + channels * (channels + 1)
    return config.blocks * (affine + count_parameters(network)) + count_parameters(embedding)


def activation_bytes(config: ConvFlowConfig, grid: Grid, previous: int, batch: int, width: int = 4) -> int:
    """About what forward and backward pass of one batch take on a CPU besides weights [bytes].

    Counted is what autograd keeps: inputs of convolutions (padded copies where columns are cyclic), of
    BatchNorm and of LeakyReLU, and the raw numbers of the splines; twice that of one block is added for the
    gradients and the working memory of the block under way. Measured peaks agree within 20 %.

    Args:
        config: Architecture.
        grid: The layer.
        previous: Previous layers in the context.
        batch: Rows.
        width: Bytes of a number.
    """
    channels = math.prod(config.squeeze)
    rows, columns = grid.rows // config.squeeze[0], grid.columns // config.squeeze[1]
    entry = channels - channels // 2 + config.context_channels
    block = (4 * channels + channels // 2 * config.spline.n_raw) * rows * columns
    for level, (high, wide) in enumerate(config.kernels):
        pixels, hidden = rows * columns, config.hidden * 2**level
        padded = rows * (columns + 2) if grid.cyclic else pixels
        # Encoder and decoder each keep four outputs of convolutions and norms; the skip is kept by the step
        # down. The decoder of the highest level ends without a norm.
        norms = 4 + 2 + 1 + (3 if level else 0)
        block += padded * (entry + 4 * hidden) + pixels * hidden * norms
        entry, rows, columns = 2 * hidden, rows // high, columns // wide
    block += 2 * entry * rows * columns
    embedding = grid.size * (2 * previous + 4 * config.context_channels) if previous else 0
    return batch * width * ((config.blocks + 2) * block + embedding)
