"""What the layer flows see while sampling is what they would see in training with the same showers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from caloray.geometry import Geometry, Layer
from caloray.io.store import LayerStoreBuilder
from caloray.preprocess.conditions import ConditionRange
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.schemes.streams import BlockStreams

LAYERS, VOXELS, SHOWERS = 7, 8, 24
GEOMETRY = Geometry(
    "cylinder",
    "cylindrical",
    tuple(Layer(i, tuple(np.linspace(-np.pi, np.pi, 5)), (0.0, 1.0, 2.0)) for i in range(LAYERS)),
)
FLOWS = {
    "layer_energies": {"blocks": 2, "hidden": 8},
    "layer": {"blocks": 2, "hidden": 3, "squeeze": (2, 1), "kernels": ((1, 2),), "context_channels": 4},
}
# Every layer has its own largest voxel, so that one layer's map is not another's.
STATISTICS = TrainingStatistics(
    100, 0.6, 300.0, 1e3, 2e3, (ConditionRange("theta", "rad", 0.0, 0.8),), tuple(range(200, 207))
)


@dataclass
class Sampling:
    """A block of showers, the contexts that its layers were drawn with and what the flows then gave."""

    network: str
    changes: dict = field(default_factory=dict)

    def __post_init__(self):
        self.scheme = LayerwiseScheme(
            LayerwiseConfig.model_validate(
                {"kind": "layerwise", "network": self.network, "flows": FLOWS, "threshold": 0.1}
                | {"conditions": ("theta",)}
                | self.changes
            ),
            GEOMETRY,
            STATISTICS,
            seed=3,
        )
        rng = np.random.default_rng(2)
        self.incident, self.theta = rng.uniform(1e3, 2e3, SHOWERS), rng.uniform(0, 0.8, SHOWERS)
        self.contexts: list[torch.Tensor] = []
        self.drawn: list[torch.Tensor] = []
        flows = self._flows()
        block = BlockStreams(StreamKey(1, "", "", 4))
        self.out = self.scheme.sample(flows, self.incident, block, self.theta[:, None])

    def _flows(self):
        generator, flows = torch.Generator().manual_seed(1), {}
        for name in self.scheme.components:
            flows[name] = self.scheme.component(name).build().eval()
            with torch.no_grad():
                for parameter in flows[name].parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            if name != "layer_energies":
                self._record(flows[name])
        return flows

    def _record(self, flow):
        inverse = flow._transform.inverse

        def recorded(noise, planes):
            x, jacobian = inverse(noise, planes)
            self.drawn.append(x.double())
            return x, jacobian

        flow._transform.inverse = recorded
        flow._embedding_net.register_forward_pre_hook(lambda _, given: self.contexts.append(given[0].clone()))

    def part(self, layer):
        """The component that draws this layer."""
        return self.scheme.component("layers" if self.network == "shared" else f"layer_{layer:02d}")

    def store(self, layers):
        """The showers that came out, as training data."""
        builder = LayerStoreBuilder(GEOMETRY, layers)
        voxels = [self.out.voxels[:, GEOMETRY.span(layer)] for layer in layers]
        builder.add_dense(np.arange(SHOWERS), self.incident, voxels, {"theta": self.theta})
        return builder.build()


@pytest.mark.parametrize("rescale", ["renormalise", "none"])
@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_contexts_are_those_of_training_with_the_same_showers(network, rescale):
    """A filling of no width, so that none of it is left to chance."""
    sampling = Sampling(network, {"fill_std": 1e-9, "rescale": rescale})
    assert len(sampling.contexts) == LAYERS
    assert 0.1 < (sampling.out.voxels == 0).mean() < 0.9
    for layer, found in enumerate(sampling.contexts):
        part = sampling.part(layer)
        store = sampling.store(part.layers)
        rows = np.stack([np.arange(SHOWERS), np.full(SHOWERS, store.layers.index(layer))], axis=1)
        _, expected = part.batch(store, rows, torch.Generator().manual_seed(9))
        assert found.shape == (SHOWERS, part.context_features)
        energy = part.previous * VOXELS + 2
        drawn = np.log10(sampling.out.layer_energies[:, layer] + 1e-3) - 2
        np.testing.assert_allclose(found[:, energy], drawn, atol=1e-5)
        compared = [column for column in range(found.shape[1]) if rescale != "none" or column != energy]
        torch.testing.assert_close(found[:, compared], expected[:, compared], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_contexts_by_hand(network):
    """Layer 6: layers 1 to 5 in this order; the layers before the first are zeros in front, then layer 0."""
    sampling = Sampling(network)
    maps = sampling.scheme.maps
    voxels = torch.from_numpy(sampling.out.voxels).view(SHOWERS, LAYERS, VOXELS)
    for layer in (2, 6):
        found = sampling.contexts[layer].double()
        absent = sampling.part(layer).previous - min(layer, 5)
        assert absent == (3 if network == "shared" and layer == 2 else 0)
        assert (found[:, : absent * VOXELS] == 0).all()
        for place, before in enumerate(range(max(0, layer - 5), layer), start=absent):
            seen = found[:, place * VOXELS : (place + 1) * VOXELS]
            seen = maps.voxel_map.decode(seen, maps.maxima[before])
            hit = voxels[:, before] > 0
            assert hit.any()
            # Flows that were never trained go beyond the largest voxel of the training split.
            expected = voxels[:, before].double().clamp_max(STATISTICS.voxel_maxima[before] + 1e-3)
            torch.testing.assert_close(seen[hit], expected[hit], rtol=1e-4, atol=0)
            assert (seen[~hit] <= 0.1 * (1 + 1e-6)).all()
        if network == "shared":
            assert (found[:, -LAYERS:] == torch.eye(LAYERS)[layer]).all()


def test_empty_voxels_of_previous_layers_are_filled_at_random():
    """Log-normal about 1 keV, 0.2 decades wide, as in training; each layer with numbers of its own."""
    sampling = Sampling("shared")
    maps, fillings = sampling.scheme.maps, []
    for layer in range(1, 6):
        seen = sampling.contexts[6].double()[:, (layer - 1) * VOXELS : layer * VOXELS]
        logs = torch.log10(maps.voxel_map.decode(seen, maps.maxima[layer]))
        empty = torch.from_numpy(sampling.out.voxels[:, GEOMETRY.span(layer)]) == 0
        fillings.append(torch.where(empty, logs, torch.nan))
        assert float(logs[empty].std()) > 0.1
    found = torch.stack(fillings)
    values = found[found.isfinite()]
    assert len(values) > 200
    assert float(values.mean()) == pytest.approx(-3, abs=0.05)
    assert float(values.std()) == pytest.approx(0.2, rel=0.2)
    for one in range(5):
        for other in range(one):
            apart = (found[one] - found[other]).abs()
            assert (apart[apart.isfinite()] > 1e-4).float().mean() > 0.9


@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_a_layer_comes_out_by_its_own_largest_voxel(network):
    sampling = Sampling(network, {"rescale": "none"})
    voxel_map = sampling.scheme.maps.voxel_map
    for layer, x in enumerate(sampling.drawn):
        expected = voxel_map.decode(x, torch.tensor([[STATISTICS.voxel_maxima[layer]]]).double()).numpy()
        expected[expected < 0.1] = 0
        np.testing.assert_allclose(sampling.out.voxels[:, GEOMETRY.span(layer)], expected, rtol=1e-6)
