"""The log density of sampled showers: that which the flows themselves give to what was drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from nflows.flows.base import Flow

from caloray.geometry import Geometry, Layer
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.build import Scheme
from caloray.schemes.component import Sampled
from caloray.schemes.draws import of_asked
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.schemes.streams import BlockStreams

STREAMS = BlockStreams(StreamKey(3, "", "", 5))
INCIDENT = np.geomspace(2e3, 4e4, 40)
CYLINDER = Geometry(
    "cylinder",
    "cylindrical",
    tuple(Layer(i, tuple(np.linspace(-np.pi, np.pi, 5)), (0.0, 1.0, 2.0)) for i in range(4)),
)
SMALL = {
    "layer_energies": {"blocks": 2, "hidden": 8},
    "layer": {"blocks": 2, "hidden": 3, "squeeze": (2, 1), "kernels": ((1, 2),), "context_channels": 4},
}


class Witness:
    """A component's flow in float64 that remembers what it drew, to be asked again in the other direction."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow.double().eval()
        self.contexts: list[torch.Tensor] = []
        self.drawn: list[torch.Tensor] = []
        flow._embedding_net.register_forward_pre_hook(lambda _, given: self.contexts.append(given[0].clone()))
        inverse, maf = flow._transform.inverse, isinstance(flow._embedding_net, torch.nn.Identity)

        def recorded(noise: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            if maf:
                self.contexts.append(context.clone())
            x, log_det = inverse(noise, context)
            self.drawn.append(x.clone())
            return x, log_det

        flow._transform.inverse = recorded

    def densities(self) -> np.ndarray:
        """(calls, B) of everything that was drawn, by the flow's forward direction."""
        contexts = list(self.contexts)
        with torch.no_grad():
            found = [self.flow.log_prob(x, c) for x, c in zip(self.drawn, contexts, strict=True)]
        return torch.stack(found).numpy()


def _sampled(scheme: Scheme, seed: int = 0) -> tuple[Sampled, Mapping[str, Witness]]:
    draws, witnesses = torch.Generator().manual_seed(seed), {}
    for name in scheme.components:
        flow = scheme.component(name).build()
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
        witnesses[name] = Witness(flow)
    flows = {name: witness.flow for name, witness in witnesses.items()}
    return scheme.sample(flows, INCIDENT, STREAMS), witnesses


def _layerwise(**changes: Any) -> LayerwiseScheme:
    voxels = np.random.default_rng(0).exponential(1e3, (50, 4, 8))
    statistics = TrainingStatistics.of(
        voxels.sum(axis=2), np.geomspace(1e3, 5e4, 50), voxel_maxima=voxels.max(axis=(0, 2))
    )
    fields = {"kind": "layerwise", "flows": SMALL, "threshold": 0.1, **changes}
    return LayerwiseScheme(LayerwiseConfig.model_validate(fields), CYLINDER, statistics, seed=3)


@pytest.mark.parametrize("empty", [0.0, 0.4])
@pytest.mark.parametrize("published", [False, True])
def test_inductive_showers_have_the_density_that_their_flows_give_them(toy, published, empty):
    changes = toy.PUBLISHED if published else {}
    threshold = float(np.quantile(_sampled(toy.scheme(**changes))[0].layer_energies, empty))
    drawn, found = _sampled(toy.scheme(threshold=threshold, **changes))
    layers = np.concatenate([found[name].densities() for name in ("first_layer", "next_layer")]).T
    assert (drawn.layer_energies == 0).mean() == pytest.approx(empty, abs=0.01)
    asked = np.ones_like(layers, dtype=bool) if published else drawn.layer_energies > 0
    expected = found["layer_energies"].densities()[0] + np.where(asked, layers, 0).sum(axis=1)
    assert drawn.log_prob is not None
    assert drawn.log_prob.dtype == np.float64
    assert drawn.log_prob.std() > 0.1
    np.testing.assert_allclose(drawn.log_prob, expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("rescale", ["renormalise", "none"])
@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_layerwise_showers_have_the_density_that_their_flows_give_them(network, rescale):
    threshold = float(np.quantile(_sampled(_layerwise(network=network))[0].layer_energies, 0.4))
    drawn, found = _sampled(_layerwise(network=network, rescale=rescale, threshold=threshold))
    names = ("layers",) if network == "shared" else tuple(f"layer_{n:02d}" for n in range(4))
    layers = np.concatenate([found[name].densities() for name in names]).T
    assert (drawn.layer_energies == 0).mean() == pytest.approx(0.4, abs=0.01)
    asked = np.ones_like(layers, dtype=bool) if rescale == "none" else drawn.layer_energies > 0
    expected = found["layer_energies"].densities()[0] + np.where(asked, layers, 0).sum(axis=1)
    np.testing.assert_allclose(drawn.log_prob, expected, rtol=1e-9, atol=1e-7)


def test_vetoed_showers_have_the_density_of_the_draw_that_was_kept():
    ratios = _sampled(_layerwise())[0].layer_energies.sum(axis=1) / INCIDENT
    limit = float(np.quantile(ratios, 0.5))
    drawn, found = _sampled(_layerwise(max_ratio=limit, veto_attempts=3))
    layers = np.concatenate([found[f"layer_{n:02d}"].densities() for n in range(4)]).sum(axis=0)
    lost = drawn.vetoes == 3
    assert drawn.vetoes is not None
    assert {0, 1, 2} <= set(drawn.vetoes.tolist())
    energies = found["layer_energies"].densities()
    kept = np.where(lost, 0, drawn.vetoes), np.arange(len(INCIDENT))
    np.testing.assert_allclose(drawn.log_prob[~lost], (energies[kept] + layers)[~lost], rtol=1e-9, atol=1e-7)
    assert np.isnan(drawn.log_prob[lost]).all()


def test_a_flow_that_fails_leaves_no_density(toy, monkeypatch):
    monkeypatch.setattr(f"{__name__}.INCIDENT", np.array([2e3, np.nan, 4e3]))
    for scheme in (toy.scheme(), _layerwise(network="shared")):
        drawn, _ = _sampled(scheme)
        assert np.isfinite(drawn.log_prob).tolist() == [True, False, True]
        parts = [drawn.take(np.array([2])), drawn.take(slice(0, 2))]
        assert np.isfinite(Sampled.joined(parts).log_prob).tolist() == [True, True, False]


def test_a_layer_that_is_empty_anyway_adds_nothing_unless_its_flow_fails():
    found = of_asked(torch.tensor([-1.0, -2.0, torch.nan]), torch.tensor([True, False, False]))
    assert torch.equal(found.nan_to_num(nan=9.0), torch.tensor([-1.0, 0.0, 9.0]))
