"""The inverse of a folded layer flow in plain torch: any device, any precision, no compiler."""

from __future__ import annotations

__all__ = ["FoldedInverse"]

import torch
from torch import Tensor
from torch.nn import functional as nnf

from caloray.flows.conv.fold import Affine, Filter, FoldedFlow, FoldedNetwork
from caloray.flows.conv.unet import SLOPE
from caloray.flows.spline import spline_inverse


class FoldedInverse:
    """Noise to data.

    Args:
        flow: The folded layer flow; it is not kept.
        dtype: Precision of the networks; splines are evaluated in float64 as always.
        device: Where to.
    """

    def __init__(self, flow: FoldedFlow, dtype: torch.dtype, device: torch.device) -> None:
        self.shape = tuple(flow.order.shape)
        self.transformed, self.cyclic, self.spline = flow.transformed, flow.cyclic, flow.spline
        self.log_det = flow.log_det
        # What is faster on a CPU in single precision.
        last = device.type == "cpu" and dtype != torch.float64
        self.layout = torch.channels_last if last else torch.contiguous_format

        def ready(each: Filter) -> Filter:
            weight = each.weight.to(device, dtype).contiguous(memory_format=self.layout)
            return Filter(weight, each.bias.to(device, dtype))

        self.networks = [network.map(ready) for network in flow.networks]
        self.affines = [Affine(a.matrix.to(device, dtype), a.shift.to(device, dtype)) for a in flow.affines]
        self.place = flow.order.flatten().argsort().to(device)

    @torch.no_grad()
    def __call__(self, noise: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Data and log |det Jacobian|.

        Args:
            noise: (batch, V).
            planes: (batch, C, h, w).
        """
        z = noise.reshape(len(noise), *self.shape)
        log_det = noise.new_full((len(noise),), self.log_det)
        half = self.transformed
        for affine, network in zip(self.affines, self.networks, strict=False):
            z = _apply(affine, z)
            kept = z[:, half:]
            inputs = torch.cat([kept, planes], dim=1).contiguous(memory_format=self.layout)
            raw = self._raw(network, inputs)
            rows = z[:, :half].reshape(len(z) * half, z.shape[2] * z.shape[3])
            raw = raw.reshape(len(rows), self.spline.n_raw, rows.shape[1])
            mapped, slopes = spline_inverse(rows, raw, self.spline)
            z = torch.cat([mapped.view(len(z), half, *z.shape[2:]), kept], dim=1)
            log_det = log_det + slopes.view(len(z), half * rows.shape[1]).sum(dim=1)
        return _apply(self.affines[-1], z).flatten(1)[:, self.place], log_det

    def _raw(self, network: FoldedNetwork, x: Tensor) -> Tensor:
        """The U-Net's outputs."""
        skips = []
        for encoder, down in zip(network.encoders, network.downs, strict=True):
            x = _leaky(self._same(encoder.second, _leaky(self._same(encoder.first, x))))
            skips.append(x)
            x = nnf.conv2d(x, *down, stride=tuple(down.weight.shape[2:]))
        x = _leaky(x)
        for level in reversed(range(len(skips))):
            up, decoder = network.ups[level], network.decoders[level]
            x = nnf.conv_transpose2d(x, *up, stride=tuple(up.weight.shape[2:]))
            x = _leaky(self._same(decoder.first, torch.cat([x, skips[level]], dim=1)))
            x = self._same(decoder.second, x)
            x = _leaky(x) if level else x
        return x

    def _same(self, folded: Filter, x: Tensor) -> Tensor:
        if self.cyclic:
            x = torch.cat([x[..., -1:], x, x[..., :1]], dim=-1)
        return nnf.conv2d(x, *folded, padding=(1, 0 if self.cyclic else 1))


def _leaky(x: Tensor) -> Tensor:
    return nnf.leaky_relu(x, SLOPE)


def _apply(affine: Affine, z: Tensor) -> Tensor:
    return nnf.conv2d(z, affine.matrix[:, :, None, None], affine.shift)
