"""What `gpu.py` runs: the published flows with random weights, and every way to invert them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.flows.cuda_graph import cuda_graph_stepper
from caloray.flows.incremental import IncrementalInverter
from caloray.flows.jacobi import JacobiInverter
from caloray.flows.maf import MAFConfig, build_maf
from caloray.flows.masked import MaskedSpline
from caloray.flows.stepper import Stepper
from caloray.flows.triton_spline import available, triton_spline_inverse
from caloray.rng import StreamKey

Solve = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Shape(NamedTuple):
    """One flow of the published models (iCaloFlow, arXiv:2305.11934, table 1)."""

    features: int
    context: int
    hidden_layers: int
    hidden: int = 256


class Dataset(NamedTuple):
    """The three flows of one dataset; the last runs once for every layer but the first."""

    layers: int
    energies: Shape
    first: Shape
    following: Shape


DATASETS = {
    "DS2": Dataset(45, Shape(45, 1, 2), Shape(144, 2, 3), Shape(144, 191, 3)),
    "DS3": Dataset(45, Shape(45, 1, 2), Shape(900, 2, 3), Shape(900, 947, 2)),
}
SMOKE = {"tiny": Dataset(3, Shape(3, 1, 2, 8), Shape(8, 2, 3, 8), Shape(8, 11, 3, 8))}

GRAPHS = {
    "walk, graph": IncrementalInverter,
    "jacobi, graph": JacobiInverter,
    "jacobi + triton, graph": partial(JacobiInverter, solve=triton_spline_inverse),
    "jacobi panels of 36, graph": partial(JacobiInverter, panel=36),
}


def build(shape: Shape, *, blocks: int, step: int, name: str) -> Flow:
    """A fresh flow in float32; ``step`` is the size p of the groups of dimensions."""
    config = MAFConfig(
        blocks=blocks, hidden=shape.hidden, hidden_layers=shape.hidden_layers, autoregressive_step=step
    )
    return build_maf(config, shape.features, shape.context, StreamKey(1, name, "initialise")).eval()


def draw(shape: Shape, rows: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Noise and context, drawn on the host so that they do not depend on the device."""
    generator = torch.Generator().manual_seed(shape.features)
    noise, context = (
        torch.randn(rows, columns, generator=generator) for columns in (shape.features, shape.context)
    )
    return noise.to(like), context.to(like)


def methods() -> list[str]:
    """Names of the ways to invert a flow that this machine has, the plain ones first."""
    return ["walk", "jacobi", *(name for name in GRAPHS if "triton" not in name or available())]


def prepare(method: str, flow: Flow, rows: int, context: int, sweeps: int) -> Solve:
    """One way to invert a flow that is on its device already; on a CPU graphs run piece by piece."""
    if method in GRAPHS:
        make = cuda_graph_stepper if next(flow.parameters()).is_cuda else Stepper
        return make(flow._transform, rows, context=context, make=GRAPHS[method], sweeps=sweeps)
    for part in flow.modules():
        if isinstance(part, MaskedSpline):
            part.backend = "torch" if method == "walk" else "jacobi"
    inverse: Solve = flow._transform.inverse
    return inverse


def sweeps_of(flow: Flow, noise: Tensor, context: Tensor) -> list[int]:
    """Number of Jacobi iterations that each MADE takes, one panel each, in sampling order."""
    found = []
    with torch.no_grad():
        for part in reversed(list(flow._transform._transforms)):
            if isinstance(part, MaskedSpline):
                solution = JacobiInverter(part.schedule(), part.spline).solution(noise, context)
                noise = solution.x
                found.append(solution.sweeps[0])
            else:
                noise, _ = part.inverse(noise)
    return found


class Shower:
    """All flows of a dataset in sampling order; only the flows, no preprocessing and no random numbers.

    The context of a layer starts with the (squashed) output of the layer before, as in the real model, so
    that the layers cannot overlap; the rest of it is fixed.
    """

    def __init__(self, dataset: Dataset, solves: list[Solve], rows: int, like: Tensor) -> None:
        shapes = (dataset.energies, dataset.first, dataset.following)
        self.layers = dataset.layers
        self.solves = solves
        self.inputs = [draw(shape, rows, like) for shape in shapes]

    def __call__(self) -> Tensor:
        """The last layer's output (rows, D)."""
        energies, first, following = self.solves
        energies(*self.inputs[0])
        voxels, _ = first(*self.inputs[1])
        noise, context = self.inputs[2]
        for _ in range(self.layers - 1):
            context[:, : voxels.shape[1]] = torch.tanh(voxels / 7)
            voxels, _ = following(noise, context)
        return voxels
