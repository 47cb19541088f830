"""Widths and sizes of the published inductive models, and what the scheme refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from caloray.config import load_config
from caloray.errors import ConfigError
from caloray.flows.maf import count_parameters
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.inductive import COMPONENTS, InductiveScheme

CONFIGS = Path(__file__).parents[2] / "configs"
STATISTICS = TrainingStatistics(10, 2.0, 6e4, 1e3, 1e6)


@pytest.mark.parametrize(
    ("file", "features", "contexts", "parameters", "total"),
    [
        ("icaloflow_ds2", (45, 144, 144), (1, 2, 191), (2_752_600, 8_165_248, 8_552_320), 19_470_168),
        ("icaloflow_ds3", (45, 900, 900), (1, 2, 947), (2_752_600, 45_463_264, 46_872_288), 95_088_152),
    ],
)
def test_published_widths_and_parameter_counts(file, features, contexts, parameters, total):
    config = load_config(CONFIGS / f"{file}.yaml")
    scheme = build_scheme(config.scheme, load_geometry(config.data.geometry), STATISTICS, 1)
    parts = [scheme.component(name) for name in scheme.components]
    assert tuple(part.name for part in parts) == COMPONENTS
    assert tuple(part.features for part in parts) == features
    assert tuple(part.context_features for part in parts) == contexts
    assert tuple(part.parameters for part in parts) == parameters
    assert sum(parameters) == total


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("published", [True, False])
def test_batches_fit_the_flows(toy, name, published):
    part = toy.scheme(**(toy.PUBLISHED if published else {})).component(name)
    store = toy.store_of(toy.showers(30))
    flow = part.build()
    assert count_parameters(flow) == part.parameters
    target, context = part.batch(store, part.rows(store)[:17], torch.Generator().manual_seed(1))
    assert target.shape == (17, part.features)
    assert context.shape == (17, part.context_features)
    assert target.dtype == context.dtype == torch.float32
    assert flow.log_prob(target, context).isfinite().all()


def test_layers_that_each_component_needs(toy):
    scheme = toy.scheme()
    assert [scheme.component(name).layers for name in COMPONENTS] == [(0, 1, 2), (0,), (0, 1, 2)]


@pytest.mark.parametrize("name", COMPONENTS)
def test_initial_weights_come_from_the_seed(toy, name):
    def state(seed: int) -> dict[str, torch.Tensor]:
        scheme = InductiveScheme(toy.config(), toy.GEOMETRY, toy.statistics(), seed)
        return scheme.component(name).build().state_dict()

    one = state(1)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again, other = state(1), state(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one if key.endswith("weight"))


def test_a_ragged_geometry_is_refused(toy):
    with pytest.raises(ConfigError, match="geometry ragged") as caught:
        InductiveScheme(toy.config(), toy.RAGGED, STATISTICS, 1)
    assert "dataset 2 or 3" in caught.value.hint
    with pytest.raises(ConfigError):
        InductiveScheme(toy.config(), load_geometry("ds1_photons"), STATISTICS, 1)


def test_one_layer_is_refused(toy):
    with pytest.raises(ConfigError, match="two or more layers"):
        InductiveScheme(toy.config(), Geometry("one", "cylindrical", toy.GEOMETRY.layers[:1]), STATISTICS, 1)


@pytest.mark.parametrize(("name", "step", "most"), [("layer_energies", 3, 2), ("next_layer", 12, 11)])
def test_groups_must_leave_something_to_condition_on(toy, name, step, most):
    def scheme(size):
        flow = toy.FLOW.model_copy(update={"autoregressive_step": size})
        return InductiveScheme(toy.config(flows={**toy.FLOWS, name: flow}), toy.GEOMETRY, STATISTICS, 1)

    scheme(most)
    with pytest.raises(ConfigError, match=rf"scheme\.flows\.{name}\.autoregressive_step: {step}") as caught:
        scheme(step)
    assert f"at most {most}" in caught.value.hint


def test_a_grid_cannot_be_rotated(toy):
    edges = (0.0, 1.0, 2.0)
    grid = Geometry("grid", "cartesian", tuple(Layer(i, edges, edges) for i in range(2)))
    InductiveScheme(toy.config(), grid, STATISTICS, 1)
    with pytest.raises(ConfigError, match="cylindrical") as caught:
        InductiveScheme(toy.config(augment="rotate"), grid, STATISTICS, 1)
    assert "augment: none" in caught.value.hint


def test_an_unknown_component_is_refused_with_the_known_ones(toy):
    with pytest.raises(ConfigError, match="'next-layer'") as caught:
        toy.scheme().component("next-layer")
    assert "next_layer" in caught.value.hint
