"""A layer flow's weights as sampling needs them.

Weights that do not change any more are put together once: each BatchNorm into the convolution before it, each
1x1 convolution's inverse and the neighbouring ActNorm's into one affine map of the channels, and all their
determinants into one number. The function stays the same up to rounding.
"""

from __future__ import annotations

__all__ = ["Affine", "Filter", "FoldedBlock", "FoldedFlow", "FoldedNetwork", "fold"]

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from caloray.flows.conv.actnorm import ActNorm
from caloray.flows.conv.coupling import SplineCoupling
from caloray.flows.conv.grid import ToImage
from caloray.flows.conv.one_by_one import OneByOne
from caloray.flows.conv.squeeze import Squeeze
from caloray.flows.conv.unet import Convolution, UNet
from caloray.flows.spline import SplineConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from caloray.flows.conv.transform import ConvTransform


class Filter(NamedTuple):
    """A convolution: weight (outputs, inputs, rows, columns), of transposed ones (inputs, outputs, ...)."""

    weight: Tensor
    bias: Tensor


class Affine(NamedTuple):
    """``matrix @ x + shift`` of the channels of every pixel: (channels, channels) and (channels,)."""

    matrix: Tensor
    shift: Tensor

    def after(self, first: Affine) -> Affine:
        """Both in one: this map of what ``first`` gives."""
        return Affine(self.matrix @ first.matrix, self.matrix @ first.shift + self.shift)


class FoldedBlock(NamedTuple):
    """Two convolutions of a U-Net's level."""

    first: Filter
    second: Filter


@dataclass(frozen=True)
class FoldedNetwork:
    """One coupling's U-Net; see :class:`caloray.flows.conv.unet.UNet`."""

    encoders: tuple[FoldedBlock, ...]
    downs: tuple[Filter, ...]
    ups: tuple[Filter, ...]
    decoders: tuple[FoldedBlock, ...]

    def map(self, change: Callable[[Filter], Filter]) -> FoldedNetwork:
        """The same network with every convolution changed."""
        encoders, decoders = (
            tuple(FoldedBlock(change(block.first), change(block.second)) for block in blocks)
            for blocks in (self.encoders, self.decoders)
        )
        return FoldedNetwork(
            encoders,
            tuple(change(down) for down in self.downs),
            tuple(change(up) for up in self.ups),
            decoders,
        )


@dataclass(frozen=True)
class FoldedFlow:
    """The inverse of a layer flow.

    Args:
        affines: The maps before the couplings and, as the last, after them, in the order of sampling.
        networks: The couplings' networks, in the order of sampling.
        order: (channels, h, w) int64: where each number belongs in a flat layer.
        log_det: Of all affine maps together.
        transformed: Channels that a coupling transforms, the first ones.
        context: Context planes.
        cyclic: Whether columns are cyclic.
        spline: Shape of the splines.
    """

    affines: tuple[Affine, ...]
    networks: tuple[FoldedNetwork, ...]
    order: Tensor
    log_det: float
    transformed: int
    context: int
    cyclic: bool
    spline: SplineConfig


@torch.no_grad()
def fold(transform: ConvTransform) -> FoldedFlow:
    """Put the weights of a layer flow together, in float64 on the CPU; they are copied."""
    parts = list(transform._transforms)
    couplings = [part for part in parts if isinstance(part, SplineCoupling)][::-1]
    norms = [part for part in parts if isinstance(part, ActNorm)][::-1]
    # In float64 from the start: the matrix is a product.
    mixers = [copy.deepcopy(part).double().cpu() for part in parts if isinstance(part, OneByOne)][::-1]
    order = _order(parts)
    unmixed, unscaled = [_unmix(m) for m in mixers], [_unscale(n) for n in norms]
    between = [unmix.after(unscale) for unscale, unmix in zip(unscaled, unmixed[1:], strict=False)]
    volume = sum(float(n.log_scale.double().sum()) for n in norms)
    volume += sum(float(torch.linalg.slogdet(m.matrix())[1]) for m in mixers)
    half = couplings[0].num_transform_features
    networks = tuple(_network(coupling.transform_net) for coupling in couplings)
    return FoldedFlow(
        affines=(unmixed[0], *between, unscaled[-1]),
        networks=networks,
        order=order,
        log_det=-volume * order[0].numel(),
        transformed=half,
        context=networks[0].encoders[0].first.weight.shape[1] - (len(order) - half),
        cyclic=couplings[0].transform_net.last.cyclic,
        spline=couplings[0].spline,
    )


def _unmix(mixer: OneByOne) -> Affine:
    inverse = torch.linalg.inv(mixer.matrix())
    return Affine(inverse, -inverse @ mixer.bias)


def _unscale(norm: ActNorm) -> Affine:
    scale = torch.exp(-norm.log_scale.double().cpu())
    return Affine(torch.diag(scale), -scale * norm.shift.double().cpu())


def _order(parts: list[nn.Module]) -> Tensor:
    """Where each (channel, row, column) of the squeezed image comes from in a flat layer."""
    numbers = torch.arange(next(part.grid.size for part in parts if isinstance(part, ToImage)))[None]
    for part in parts:
        if isinstance(part, ToImage | Squeeze):
            numbers, _ = part(numbers)
    return numbers[0]


def _network(network: UNet) -> FoldedNetwork:
    return FoldedNetwork(
        encoders=tuple(_block(block) for block in network.encoders),
        downs=tuple(_filter(down) for down in network.downs),
        ups=tuple(_filter(up) for up in network.ups),
        decoders=tuple(_block(block) for block in network.decoders),
    )


def _block(block: nn.Module) -> FoldedBlock:
    return FoldedBlock(
        _normalised(block.first, block.first_norm),  # type: ignore[arg-type]
        _normalised(block.second, block.second_norm),  # type: ignore[arg-type]
    )


def _normalised(convolution: Convolution, norm: nn.BatchNorm2d | None) -> Filter:
    """The convolution with the running statistics of the BatchNorm behind it."""
    plain = _filter(convolution)
    if norm is None:
        return plain
    mean, variance = norm.running_mean, norm.running_var
    scale = norm.weight.double().cpu() / torch.sqrt(variance.double().cpu() + norm.eps)  # type: ignore[union-attr]
    shift = (plain.bias - mean.double().cpu()) * scale + norm.bias.double().cpu()  # type: ignore[union-attr]
    return Filter(plain.weight * scale[:, None, None, None], shift)


def _filter(convolution: nn.Module) -> Filter:
    weight, bias = convolution.weight, convolution.bias
    return Filter(weight.detach().double().cpu(), bias.detach().double().cpu())  # type: ignore[operator]
