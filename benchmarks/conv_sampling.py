"""How fast convolutional layer flows are sampled on a CPU core: caloray's back-ends against plain nflows.

    python benchmarks/conv_sampling.py [--sizes ild ds3 ds2] [--batches 1 10 100] [--markdown FILE]

Whole showers at the published sizes (arXiv:2405.20407): the flow of the layer energies, then every layer's
context embedding and flow one after the other, each conditioned on what came before; without what turns the
flows' numbers into MeV. Weights are random, running statistics and last convolutions too, so that no spline
is the identity. "eager" is what peers run, nflows' own classes with the same weights: its rational-quadratic
coupling, ActNorm, 1x1 convolutions with cached inverses and MAF inverse around the same U-Nets, nothing
folded. One process, one thread; candidates alternate. Up to batch 99 all layers are run. From batch 100 on it
is the flow of the energies, layer 0, layer 5 and --layers more that are like it; all layers are then taken to
cost their mean (marked *).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from nflows.transforms.base import CompositeTransform, Transform
from nflows.transforms.conv import OneByOneConvolution
from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform
from nflows.transforms.normalization import ActNorm as NflowsActNorm
from sampling_clock import Candidate, Spread, Timing, alternate
from sampling_machine import describe
from sampling_tables import table
from torch import Tensor, nn

from caloray.flows.backends import backends
from caloray.flows.conv.actnorm import ActNorm
from caloray.flows.conv.build import ConvFlowConfig, build_conv
from caloray.flows.conv.coupling import SplineCoupling
from caloray.flows.conv.grid import Grid
from caloray.flows.conv.one_by_one import OneByOne
from caloray.flows.freeze import freeze
from caloray.flows.maf import MAFConfig, build_maf
from caloray.flows.masked import MaskedSpline
from caloray.flows.spline import SplineConfig
from caloray.rng import StreamKey

PREVIOUS, SCALARS = 5, 2
LARGE = 100
ENERGIES = MAFConfig(
    blocks=6,
    hidden=64,
    hidden_layers=2,
    permutations="random",
    spline=SplineConfig(bins=8, tail_bound=13.8155),
)


@dataclass(frozen=True)
class Size:
    """A published model."""

    layers: int
    grid: Grid
    config: ConvFlowConfig


SIZES = {
    "ds2": Size(
        45,
        Grid(9, 16, cyclic=True, transposed=True),
        ConvFlowConfig(squeeze=(3, 1), kernels=((1, 4), (3, 4))),
    ),
    "ds3": Size(45, Grid(18, 50, cyclic=True, transposed=True), ConvFlowConfig(kernels=((3, 5), (3, 5)))),
    "ild": Size(30, Grid(30, 30), ConvFlowConfig()),
}
Draw = Callable[[Tensor, Tensor], Tensor]
"""Noise and context to data."""


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    names = [status.name for status in backends() if status.available and status.name != "jacobi"]
    results = {"machine": describe(), "sizes": {}}
    for key in options.sizes:
        results["sizes"][key] = measure(SIZES[key], names, options)
    text = markdown(results)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1, default=vars))


def measure(size: Size, names: list[str], options: argparse.Namespace) -> dict[str, object]:
    """All batches of one model; deviations of whole showers' numbers in the flows' space."""
    whole = any(batch < LARGE for batch in options.batches)
    model = Model.build(size, size.layers if whole else PREVIOUS + 1 + options.layers, names)
    few = replace(model, flows=[model.flows[0], *model.flows[PREVIOUS : PREVIOUS + 1 + options.layers]])
    batches = {}
    for batch in options.batches:
        large = batch >= LARGE
        part = few if large else model
        inputs = part.inputs(batch)
        given = inputs.energies if large else None
        times = alternate(
            [
                Candidate(way, lambda way=way, p=part, i=inputs, e=given: p.run(way, i, e))
                for way in model.ways
            ],
            options.rounds,
            options.seconds,
        )
        if large:
            # Layers 1 to 4 have a little less context and count as layers like the fifth.
            energies = [
                Candidate(way, lambda way=way, i=inputs: model.energies(way, i)) for way in model.ways
            ]
            once = alternate(energies, options.rounds, options.seconds)
            times = {way: together(times[way], once[way], size.layers / len(part.flows)) for way in times}
        batches[batch] = {way: found.milliseconds() for way, found in times.items()}
    return {"layers": size.layers, "batches": batches, "deviation": deviations(model, options.deviations)}


def together(layers: Timing, energies: Timing, share: float) -> Timing:
    """A part of the layers, taken ``share`` times, and the energies once."""

    def both(some: Spread, once: Spread) -> Spread:
        return Spread(*(share * a + b for a, b in zip(vars(some).values(), vars(once).values(), strict=True)))

    cpu, wall = both(layers.cpu, energies.cpu), both(layers.wall, energies.wall)
    return replace(layers, cpu=cpu, wall=wall, scaled=True)


@dataclass(frozen=True)
class Inputs:
    """Noise and conditions of one batch."""

    incident: Tensor
    energies: Tensor
    layers: list[Tensor]


@dataclass(frozen=True)
class Model:
    """Flows of one published model in all their forms.

    Args:
        size: Which.
        ways: Names of the forms.
        first: The flow of the energies, by way.
        flows: The layers' flows, by way.
    """

    size: Size
    ways: list[str]
    first: dict[str, Draw]
    flows: list[dict[str, Draw]]

    @staticmethod
    def build(size: Size, layers: int, names: list[str]) -> Model:
        """Random weights, prepared for every back-end."""
        first: dict[str, Draw] = {}
        flows: list[dict[str, Draw]] = []
        for name in names:
            first[name] = frozen(build_maf(ENERGIES, size.layers, 1, StreamKey(0, "bench", "energies")), name)
            if name == names[0]:
                twin = build_maf(ENERGIES, size.layers, 1, StreamKey(0, "bench", "energies")).eval()
                first["eager"] = composed(nn.Identity(), nflows_maf(twin._transform, size.layers))
        for layer in range(layers):
            flow = layer_flow(size, min(layer, PREVIOUS), layer)
            eager = CompositeTransform([nflows_part(part) for part in flow._transform._transforms]).eval()
            forms = {"eager": composed(flow._embedding_net, eager)}
            for name in names:
                freeze(flow, name)
                forms[name] = prepared(flow)
            flows.append(forms)
        return Model(size, ["eager", *names], first, flows)

    def inputs(self, batch: int) -> Inputs:
        """Random numbers."""
        generator = torch.Generator().manual_seed(batch)

        def draw(columns: int) -> Tensor:
            return torch.randn(batch, columns, generator=generator)

        return Inputs(draw(1), draw(self.size.layers), [draw(self.size.grid.size) for _ in self.flows])

    def energies(self, way: str, inputs: Inputs) -> Tensor:
        """The flow of the energies."""
        return self.first[way](inputs.energies, inputs.incident)

    def run(self, way: str, inputs: Inputs, energies: Tensor | None) -> list[Tensor]:
        """A batch of showers; the energies are drawn, too, unless they are given."""
        energies = self.energies(way, inputs) if energies is None else energies
        done: list[Tensor] = []
        for layer, flow in enumerate(self.flows):
            # Where layers are left out, the first ones stand in for those before.
            before = [done[max(0, k)] for k in range(layer - PREVIOUS, layer)] if layer else []
            if len(self.flows) == self.size.layers or layer == 0:
                before = before[-min(layer, PREVIOUS) :] if layer else []
            context = torch.cat([*before, energies[:, layer : layer + 1], inputs.incident], dim=1)
            done.append(flow[way](inputs.layers[layer], context))
        return done


def layer_flow(size: Size, previous: int, layer: int) -> nn.Module:
    """A flow in which nothing is as it was initialised."""
    flow = build_conv(size.config, size.grid, previous, SCALARS, StreamKey(layer, "bench", "layer")).eval()
    generator = torch.Generator().manual_seed(layer)
    for name, module in flow.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.7, 1.4, generator=generator)
        if isinstance(module, ActNorm):
            module.log_scale.normal_(0, 0.1, generator=generator)
            module.initialized.fill_(True)
        if name.endswith("transform_net"):
            module.last.weight.normal_(0, 0.03, generator=generator)
    return flow


def frozen(flow: nn.Module, name: str) -> Draw:
    freeze(flow.eval(), name)
    return prepared(flow)


def prepared(flow: nn.Module) -> Draw:
    """The flow as it is prepared now."""
    transform = flow._transform
    sampler = getattr(transform, "_sampler", None) or transform.inverse
    embed = getattr(flow._embedding_net, "_prepared", None) or flow._embedding_net
    return lambda noise, context: sampler(noise, embed(context))[0]


def composed(embedding: nn.Module, transform: Transform) -> Draw:
    return lambda noise, context: transform.inverse(noise, embedding(context))[0]


def nflows_part(part: Transform) -> Transform:
    """The same part in nflows' own arithmetic."""
    twin: Transform
    if isinstance(part, ActNorm):
        twin = NflowsActNorm(len(part.shift))
    elif isinstance(part, OneByOne):
        twin = OneByOneConvolution(len(part.bias), using_cache=True)
    elif isinstance(part, SplineCoupling):
        spline = part.spline
        twin = PiecewiseRationalQuadraticCouplingTransform(
            [1] * part.num_transform_features + [0] * part.num_identity_features,
            lambda _in, _out: part.transform_net,
            num_bins=spline.bins,
            tails="linear",
            tail_bound=spline.tail_bound,
            min_bin_width=spline.min_width,
            min_bin_height=spline.min_height,
            min_derivative=spline.min_derivative,
        )
    else:
        return part
    twin.load_state_dict(part.state_dict())
    return twin.eval()


def nflows_maf(chain: CompositeTransform, features: int) -> Transform:
    """The flow of the energies as nflows inverts it."""
    parts = []
    for part in chain._transforms:
        if isinstance(part, MaskedSpline):
            spline = part.spline
            twin = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                features=features,
                hidden_features=ENERGIES.hidden,
                context_features=1,
                num_blocks=ENERGIES.hidden_layers - 1,
                num_bins=spline.bins,
                tails="linear",
                tail_bound=spline.tail_bound,
                use_residual_blocks=False,
                min_bin_width=spline.min_width,
                min_bin_height=spline.min_height,
                min_derivative=spline.min_derivative,
            )
            twin.load_state_dict(part.state_dict())
            parts.append(twin.eval())
        else:
            parts.append(part)
    return CompositeTransform(parts)


def deviations(model: Model, batch: int) -> dict[str, dict[str, float]]:
    """What differs from eager in one layer's flow, given the same inputs: the energies and layer 5's."""
    inputs, size = model.inputs(batch), model.size.grid.size
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(batch, PREVIOUS * size + SCALARS, generator=generator)
    flow = model.flows[PREVIOUS]
    reference = flow["eager"](inputs.layers[0], context)
    result = {}
    for way in model.ways[1:]:
        difference = flow[way](inputs.layers[0], context) - reference
        result[way] = {
            "rms": float(difference.square().mean().sqrt()),
            "max": float(difference.abs().max()),
            "spread": float(reference.std()),
        }
    return result


def markdown(results: dict[str, dict]) -> str:
    """Tables of all sizes."""
    machine = results["machine"]
    head = (
        f"{machine['cpu']} ({', '.join(machine['flags'])}), torch {machine['torch']}, 1 thread, load "
        f"{machine['load'][0]:.1f} of {os.cpu_count()} processors when it began. Milliseconds per shower: "
        "CPU time, median [least]; wall time, median; * = some layers run and scaled. Ratios of CPU medians."
    )
    parts = [head]
    for key, found in results["sizes"].items():
        rows = []
        for batch, times in found["batches"].items():
            eager = times["eager"].cpu.median
            for way, timing in times.items():
                star = "*" if timing.scaled else ""
                cpu, wall = timing.cpu, timing.wall
                rows.append(
                    (
                        str(batch),
                        way,
                        f"{cpu.median / batch:.1f}{star} [{cpu.least / batch:.1f}]",
                        f"{wall.median / batch:.1f}",
                        f"{eager / cpu.median:.1f}",
                    )
                )
        differences = [
            (way, *(f"{values[name]:.1e}" for name in ("rms", "max", "spread")))
            for way, values in found["deviation"].items()
        ]
        parts += [
            f"### {key}, {found['layers']} layers",
            table(("batch", "", "ms per shower", "wall", "eager / this"), rows),
            table(("deviation from eager, layer 5", "rms", "max", "spread of the numbers"), differences),
        ]
    return "\n\n".join(parts) + "\n"


def parse() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=["ild", "ds3", "ds2"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 10, 100])
    parser.add_argument("--layers", type=int, default=2, help="further layers run at large batches")
    parser.add_argument("--deviations", type=int, default=50, help="showers to compare")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=90.0, help="no new round after so many, per batch")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
