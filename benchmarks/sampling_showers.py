"""Whole showers of the published architectures through caloray's own scheme, and through its competitors."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.base import CompositeTransform, InverseTransform
from sampling_clock import Candidate, Spread, Timing, alternate, clock
from sampling_models import ENLARGED, nflows_inverse, nflows_twin
from torch import Tensor

from caloray.flows.freeze import freeze
from caloray.flows.maf import MAFConfig
from caloray.flows.masked import MaskedSpline
from caloray.flows.names import Backend
from caloray.geometry import load_geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.inductive import COMPONENTS, InductiveScheme
from caloray.schemes.inductive import _Particle as Particle
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layer_energies import sample_layer_energies
from caloray.schemes.streams import BlockStreams

CONFIGS = Path(__file__).parents[1] / "configs"
STATISTICS = TrainingStatistics(
    showers=1, max_ratio=1.1, max_layer_energy=6e4, min_incident=1e3, max_incident=1e6
)
STREAMS = BlockStreams(StreamKey(1, "", ""))
Started = tuple[Particle, Tensor, Tensor]
TOO_LONG = 20.0
STUDENT, TEACHER = "IAF student", "nflows teacher"


@dataclass(frozen=True)
class Model:
    """A scheme with random weights, sampled in several ways.

    Args:
        scheme: The published scheme of one dataset.
        ways: Flows of all components for each way of sampling.
        twins: One MADE of each component in nflows' class.
    """

    scheme: InductiveScheme
    ways: dict[str, dict[str, Flow]]
    twins: dict[str, MaskedSpline]

    @staticmethod
    def build(dataset: str, names: list[str], *, float64: bool) -> Model:
        """The published architecture of ``ds2`` or ``ds3``; the student has the teacher's size.

        The student keeps its autoregressive flow-1, here inverted by the first of ``names``.
        """
        settings = yaml.safe_load((CONFIGS / f"icaloflow_{dataset}.yaml").read_text())["scheme"]
        scheme = InductiveScheme(
            InductiveConfig.model_validate(settings), load_geometry(dataset), STATISTICS, 1
        )
        weights = {name: _enlarged(scheme.component(name).build()) for name in COMPONENTS}
        ways = {name: {part: _inverted_by(flow, name) for part, flow in weights.items()} for name in names}
        shapes: Mapping[str, MAFConfig] = dict(scheme.config.flows)
        twins = {part: _twins(flow, shapes[part]) for part, flow in weights.items()}
        student = {part: _student(flow, twins[part]) for part, flow in weights.items()}
        ways[STUDENT] = student | {"layer_energies": ways[names[0]]["layer_energies"]}
        if float64:
            ways[f"{STUDENT} f64"] = {
                part: copy.deepcopy(flow).double() for part, flow in ways[STUDENT].items()
            }
        return Model(scheme, ways, {part: made[0] for part, made in twins.items()})

    def draw(self, way: str, incident: np.ndarray) -> np.ndarray:
        """Whole showers."""
        return self.scheme.sample(self.ways[way], incident, STREAMS).voxels

    def start(self, way: str, incident: np.ndarray) -> Started:
        """Flow-1 and flow-2: particles, layer energies and the first layer."""
        particle = Particle.of(incident, None, torch.device("cpu"))
        part = self.scheme.component(COMPONENTS[0])
        with torch.no_grad():
            flow = self.ways[way][part.name]
            energies, _ = sample_layer_energies(part, flow, particle.incident, None, STREAMS)
            first, _ = self.scheme._layer(self.ways[way], particle, energies, None, 0, STREAMS)
            return particle, energies, first

    def go_on(self, way: str, started: Started, layers: int) -> None:
        """Flow-3 for some layers."""
        particle, energies, previous = started
        with torch.no_grad():
            for layer in range(1, layers + 1):
                previous, _ = self.scheme._layer(self.ways[way], particle, energies, previous, layer, STREAMS)

    def candidates(self, way: str, incident: np.ndarray, seconds: float) -> list[Candidate]:
        """Whole showers where that takes less than ``seconds``, else the start and some of the layers.

        Nothing at all where the start takes more than TOO_LONG seconds.
        """
        further = self.scheme.geometry.n_layers - 1
        began = time.perf_counter()
        started = self.start(way, incident)
        if (first := time.perf_counter() - began) > TOO_LONG:
            return []
        self.go_on(way, started, 1)
        each = clock(partial(self.go_on, way, started, 1))[1]
        if first + further * each < seconds:
            return [Candidate(way, partial(self.draw, way, incident))]
        layers = min(further, max(1, int(seconds / each / 2)))
        return [
            Candidate(f"{way}: start", partial(self.start, way, incident)),
            Candidate(f"{way}: layers", partial(self.go_on, way, started, layers), further / layers),
        ]

    def teacher(self, batch: int, seconds: float, *, float64: bool) -> list[Candidate]:
        """Nflows' inverse of one MADE of each component, some passes of it."""
        candidates = []
        for part, twin in self.twins.items():
            component = self.scheme.component(part)
            noise = torch.randn(batch, component.features)
            context = torch.randn(batch, component.context_features)
            name = f"{TEACHER}: {part}"
            candidates.append(nflows_inverse(name, twin, noise, context, seconds))
            if float64:
                name, twin64 = f"{TEACHER} f64: {part}", copy.deepcopy(twin).double()
                pair = noise.double(), context.double()
                candidates.append(nflows_inverse(name, twin64, *pair, seconds))
        return candidates


def time_showers(
    model: Model, batch: int, rounds: int, budget: float, seconds: float, *, float64: bool
) -> dict[str, Timing]:
    """Time of one batch by every way, the published student and teacher put together from their parts.

    Args:
        model: The model.
        batch: Showers.
        rounds: Most rounds.
        budget: Seconds for all rounds.
        seconds: Longest single run.
        float64: Whether to time the float64 competitors too.
    """
    incident = np.geomspace(1.1e3, 9e5, batch)
    candidates = [one for way in model.ways for one in model.candidates(way, incident, seconds)]
    energies = model.scheme.component("layer_energies")
    noise = torch.randn(batch, energies.features), torch.randn(batch, 1)
    fast = model.ways[STUDENT]["layer_energies"]._transform
    candidates.append(Candidate("fast flow-1", partial(fast.inverse, *noise)))
    candidates += model.teacher(batch, seconds / 4, float64=float64)
    with torch.no_grad():
        found = alternate(candidates, rounds, budget)
    return _together(model, found)


def _together(model: Model, found: dict[str, Timing]) -> dict[str, Timing]:
    """Sums of the parts."""
    further = model.scheme.geometry.n_layers - 1
    result = {}
    for way in model.ways:
        if way in found:
            result[way] = found[way]
        elif f"{way}: start" in found:
            result[way] = _sum([found[f"{way}: start"], found[f"{way}: layers"]])
    for kind in ("", " f64"):
        if f"{TEACHER}{kind}: {COMPONENTS[0]}" not in found or f"{STUDENT}{kind}" not in result:
            continue
        blocks = {part: dict(model.scheme.config.flows)[part].blocks for part in COMPONENTS}
        calls = dict(zip(COMPONENTS, (1, 1, further), strict=True))
        parts = [found[f"{TEACHER}{kind}: {part}"].times(calls[part] * blocks[part]) for part in COMPONENTS]
        result[f"{TEACHER}{kind}"] = _sum(parts)
        rest = _sum([result[f"{STUDENT}{kind}"], found["fast flow-1"].times(-1)])
        result[f"{STUDENT}{kind} as published"] = _sum([rest, parts[0]])
    return result


def _sum(parts: list[Timing]) -> Timing:
    """Times one after the other; the spreads are added as if all were slow together."""

    def added(spreads: list[Spread]) -> Spread:
        columns = zip(*((s.median, s.least, s.lower, s.upper) for s in spreads), strict=True)
        return Spread(*(sum(column) for column in columns))

    return Timing(
        cpu=added([part.cpu for part in parts]),
        wall=added([part.wall for part in parts]),
        runs=min(part.runs for part in parts),
        scaled=any(part.scaled for part in parts),
    )


def _enlarged(flow: Flow) -> Flow:
    with torch.no_grad():
        for weight in flow.parameters():
            weight.mul_(ENLARGED)
    return flow.eval().requires_grad_(requires_grad=False)


def _inverted_by(flow: Flow, backend: Backend) -> Flow:
    """A copy that shares all tensors and has a back-end of its own, prepared as a bundle prepares it."""
    shared = {id(tensor): tensor for tensor in [*flow.parameters(), *flow.buffers()]}
    twin = copy.deepcopy(flow, shared)
    freeze(twin, backend)
    return twin


def _twins(flow: Flow, config: MAFConfig) -> list[MaskedSpline]:
    """All MADEs of a flow in nflows' class."""
    mades = [module for module in flow.modules() if isinstance(module, MaskedSpline)]
    context = mades[0].autoregressive_net.context_layer.in_features
    return [nflows_twin(made, config.hidden, context, config.hidden_layers) for made in mades]


def _student(flow: Flow, twins: list[MaskedSpline]) -> Flow:
    """A flow of the same size that samples in one pass: every MADE forward."""
    left = iter(twins)
    transforms = [
        next(left) if isinstance(module, MaskedSpline) else module for module in flow._transform._transforms
    ]
    features = twins[0].autoregressive_net.initial_layer.in_features
    return Flow(InverseTransform(CompositeTransform(transforms)), StandardNormal([features]))
