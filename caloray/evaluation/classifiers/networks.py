"""The CaloChallenge's two networks, with fresh weights that depend on the stream alone."""

from __future__ import annotations

__all__ = ["ResNet18", "build_dnn", "build_resnet", "count_parameters"]

from collections.abc import Callable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from caloray.evaluation.classifiers.config import DnnConfig, ResnetConfig
from caloray.rng import StreamKey


def build_dnn(width: int, config: DnnConfig, key: StreamKey) -> nn.Module:
    """Linear, LeakyReLU(0.01), ... , Linear to one logit (CaloChallenge evaluate.py, class DNN).

    With 2,048 units this has 21.67 M parameters for dataset 2 and 91.3 M for dataset 3 (low-level input).

    Args:
        width: Input columns.
        config: Hidden layers and precision.
        key: Stream of the weights.
    """

    def make() -> nn.Module:
        sizes = [width] + [config.width] * config.hidden
        layers: list[nn.Module] = []
        for first, second in pairwise(sizes):
            layers += [nn.Linear(first, second, dtype=_dtype(config.dtype)), nn.LeakyReLU()]
        return nn.Sequential(*layers, nn.Linear(sizes[-1], 1, dtype=_dtype(config.dtype)))

    return _seeded(make, key)


def build_resnet(shape: tuple[int, int, int], config: ResnetConfig, key: StreamKey) -> nn.Module:
    """A :class:`ResNet18` for showers of this shape (layers, first axis, second axis)."""
    return _seeded(lambda: ResNet18(shape, config.planes), key).to(_dtype(config.dtype))


def count_parameters(network: nn.Module) -> int:
    """Number of trainable numbers."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class ResNet18(nn.Module):
    """Residual network in three dimensions with two basic blocks in each of four stages.

    A 7 x 7 x 7 convolution of stride 2 and a 3 x 3 x 3 maximum of stride 2 come first; shortcuts that change
    the shape are 1 x 1 x 1 convolutions; the average over all places, together with log10 E_inc after a batch
    normalisation, gives the logit. All padding is with zeros, also around the axis of a cylinder (He et al.,
    arXiv:1512.03385; Hara et al., arXiv:1711.09577; CaloChallenge resnet.py).

    Args:
        shape: Of one shower: layers, first axis, second axis.
        planes: Channels of the four stages.
    """

    def __init__(self, shape: tuple[int, int, int], planes: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        stages: list[nn.Module] = [
            nn.Conv3d(1, planes[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm3d(planes[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, stride=2, padding=1),
        ]
        before = planes[0]
        for number, after in enumerate(planes):
            stages += [_Block(before, after, 1 if number == 0 else 2), _Block(after, after, 1)]
            before = after
        self.stages = nn.Sequential(*stages)
        self.energy = nn.BatchNorm1d(1)
        self.last = nn.Linear(planes[-1] + 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, 1) of inputs (B, 1 + V): log10 E_inc, voxels / E_inc."""
        energy = self.energy(inputs[:, :1])
        places = self.stages(inputs[:, 1:].reshape(-1, 1, *self.shape))
        return cast("Tensor", self.last(torch.cat([places.mean(dim=(2, 3, 4)), energy], dim=1)))


class _Block(nn.Module):
    """Two 3 x 3 x 3 convolutions around a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm3d(after),
            nn.ReLU(inplace=True),
            nn.Conv3d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm3d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), nn.BatchNorm3d(after)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        """Sum of both ways, rectified."""
        return torch.relu(self.path(inputs) + self.shortcut(inputs))


def _dtype(name: str) -> torch.dtype:
    return {"float32": torch.float32, "float64": torch.float64}[name]


def _seeded(make: Callable[[], nn.Module], key: StreamKey) -> nn.Module:
    """A module whose initial weights come from ``key``; torch's own stream is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key.seed64())
        return make()
