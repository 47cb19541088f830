"""What the sampling benchmark times: one MADE as nflows, zuko and caloray's back-ends invert it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from sampling_clock import Candidate, clock
from torch import Tensor, nn
from zuko.flows.autoregressive import MaskedAutoregressiveTransform
from zuko.transforms import MonotonicRQSTransform

from caloray.flows.backends import backends
from caloray.flows.inverse import Inverter, prepare
from caloray.flows.masked import Degrees, MaskedSpline
from caloray.flows.spline import SplineConfig

SPLINE = SplineConfig()
ENLARGED = 1.5  # initial weights times this depend on each other about as much as trained ones
FEW_PASSES = 9


@dataclass(frozen=True)
class Size:
    """One MADE.

    Args:
        title: What it is from.
        features: Dimension D.
        hidden: Width H.
        context: Conditioning features C.
        hidden_layers: Number of hidden layers.
        degrees: How hidden units get their degrees.
    """

    title: str
    features: int
    hidden: int
    context: int
    hidden_layers: int
    degrees: Degrees = "nflows"

    @property
    def label(self) -> str:
        """For a table's head."""
        shape = f"D={self.features}, H={self.hidden}, C={self.context}, {self.hidden_layers} hidden layers"
        return f"{self.title} ({shape})"


SIZES = {
    "ds1": Size("dataset 1, photons", 368, 378, 6, 2),
    "ds2": Size("dataset 2", 144, 256, 191, 3),
    "ds2-384": Size("dataset 2, width of the published student", 144, 384, 191, 3),
    "ds3": Size("dataset 3, degrees as published", 900, 256, 947, 2),
    "ds3-spread": Size("dataset 3, degrees spread", 900, 256, 947, 2, "spread"),
}


@dataclass(frozen=True)
class Block:
    """One MADE in all its forms, with the same weights (zuko's are its own)."""

    size: Size
    ours: MaskedSpline
    nflows: nn.Module
    inverters: dict[str, Inverter]

    @staticmethod
    def build(size: Size, names: list[str]) -> Block:
        """Random weights, prepared for the named back-ends."""
        ours = made(size)
        schedule = ours.schedule()
        inverters = {name: prepare(schedule, SPLINE, name) for name in names}
        return Block(size, ours, nflows_twin(ours, size.hidden, size.context, size.hidden_layers), inverters)

    @property
    def masked_macs(self) -> int:
        """Multiply-adds of one sample that the masks leave, context included."""
        net = self.ours.autoregressive_net
        masked = sum(int(module.mask.sum()) for module in net.modules() if hasattr(module, "mask"))
        return masked + self.size.context * self.size.hidden

    @property
    def dense_macs(self) -> int:
        """Multiply-adds of one dense pass."""
        return sum(p.numel() for p in self.ours.autoregressive_net.parameters() if p.dim() == 2)

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """Noise (batch, D) and context (batch, C)."""
        generator = torch.Generator().manual_seed(batch)
        noise = torch.randn(batch, self.size.features, generator=generator)
        return noise, torch.randn(batch, self.size.context, generator=generator)


def made(size: Size) -> MaskedSpline:
    """A MADE with random, somewhat enlarged weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        block = MaskedSpline(
            size.features, size.hidden, size.context, size.hidden_layers, SPLINE, degrees=size.degrees
        )
    with torch.no_grad():
        for weight in block.parameters():
            weight.mul_(ENLARGED)
    return block.eval().requires_grad_(requires_grad=False)


def nflows_twin(ours: MaskedSpline, hidden: int, context: int, hidden_layers: int) -> nn.Module:
    """The same MADE by nflows' own class."""
    twin = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        ours.features,
        hidden,
        context,
        num_bins=ours.spline.bins,
        tails="linear",
        tail_bound=ours.spline.tail_bound,
        num_blocks=hidden_layers - 1,
        use_residual_blocks=False,
        min_bin_width=ours.spline.min_width,
        min_bin_height=ours.spline.min_height,
        min_derivative=ours.spline.min_derivative,
    )
    twin.load_state_dict(ours.state_dict())
    module: nn.Module = twin.eval().requires_grad_(requires_grad=False)
    return module


def available_backends() -> list[str]:
    """Back-ends that work here, on the CPU."""
    return [status.name for status in backends() if status.available]


def peers(block: Block, noise: Tensor, context: Tensor, seconds: float, *, float64: bool) -> list[Candidate]:
    """Everybody's inverse of one MADE, and the forward pass with which an IAF student samples."""
    candidates = [
        Candidate(name, partial(inverter, noise, context)) for name, inverter in block.inverters.items()
    ]
    candidates += [
        nflows_inverse("nflows f32", block.nflows, noise, context, seconds),
        Candidate("IAF pass", partial(block.nflows.forward, noise, context)),
    ]
    if float64:
        double = nflows_twin(block.ours, block.size.hidden, block.size.context, block.size.hidden_layers)
        candidates.append(
            nflows_inverse("nflows f64", double.double(), noise.double(), context.double(), seconds)
        )
    for name, passes in (("zuko", block.size.features), (f"zuko, {FEW_PASSES} passes", FEW_PASSES)):
        candidates.append(zuko_inverse(name, block.size, passes, noise, context, seconds))
    return candidates


def nflows_inverse(name: str, module: nn.Module, noise: Tensor, context: Tensor, seconds: float) -> Candidate:
    """D passes through the whole network: what ``AutoregressiveTransform.inverse`` does, or some of them."""

    def inverse(passes: int) -> Tensor:
        outputs = torch.zeros_like(noise)
        for _ in range(passes):
            parameters = module.autoregressive_net(outputs, context)
            outputs, _ = module._elementwise_inverse(noise, parameters)
        return outputs

    return some_passes(name, inverse, noise.shape[1], seconds)


def zuko_inverse(
    name: str, size: Size, passes: int, noise: Tensor, context: Tensor, seconds: float
) -> Candidate:
    """Zuko's inverse: ``passes`` passes through the whole network, or some of them."""
    bins = SPLINE.bins
    transform = MaskedAutoregressiveTransform(
        size.features,
        size.context,
        passes=passes,
        univariate=partial(MonotonicRQSTransform, bound=SPLINE.tail_bound),
        shapes=[(bins,), (bins,), (bins - 1,)],
        hidden_features=(size.hidden,) * size.hidden_layers,
    )
    transform.requires_grad_(requires_grad=False)

    def inverse(count: int) -> Tensor:
        transform.passes = count
        found: Tensor = transform(context).inv(noise)
        return found

    return some_passes(name, inverse, passes, seconds)


def some_passes(name: str, inverse: Callable[[int], object], passes: int, seconds: float) -> Candidate:
    """All passes if they take less than ``seconds``, otherwise as many as do, at least two."""
    inverse(1)
    each = clock(partial(inverse, 1))[1]
    count = min(passes, max(2, int(seconds / each)))
    return Candidate(name, partial(inverse, count), passes / count)
