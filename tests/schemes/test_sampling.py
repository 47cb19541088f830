"""Sampling a block: a function of weights, energies and address; invalid rows stay alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloray.errors import NumericalError
from caloray.rng import StreamKey
from caloray.schemes import draws, inductive, layer_energies
from caloray.schemes.streams import BlockStreams

KEY = StreamKey(3, "", "", 5)
BLOCK = BlockStreams(KEY)
ENERGIES = np.geomspace(2e3, 4e4, 8)
MODES = [
    {},
    {"rescale": "published"},
    {"voxel_space": "share"},
    {"voxel_space": "share", "rescale": "noise-corrected"},
    {"published": True},
]
IDS = ["default", "log", "share", "corrected", "published"]


@pytest.fixture
def model(toy):
    """A scheme with its flows."""

    def build(published: bool = False, **changes):
        changes |= toy.PUBLISHED if published else {}
        scheme = toy.scheme(**changes)
        flows = {}
        for name, state in toy.weights(**changes).items():
            flows[name] = scheme.component(name).build()
            flows[name].load_state_dict(state)
            flows[name].eval()
        return scheme, flows

    return build


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_a_block_is_a_function_of_its_address(model, mode):
    scheme, flows = model(**mode)
    first = scheme.sample(flows, ENERGIES, BLOCK).voxels
    assert first.shape == (8, 36)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert (first >= 0).all()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    assert np.array_equal(scheme.sample(flows, ENERGIES, BLOCK).voxels, first)
    for other in (KEY.at(6), KEY.at(5, 1), StreamKey(4, "", "", 5)):
        found = scheme.sample(flows, ENERGIES, BlockStreams(other)).voxels
        assert not np.isclose(found, first).all(axis=1).any()


def test_sampling_leaves_the_global_generators_alone(model):
    scheme, flows = model()
    before = torch.random.get_rng_state()
    scheme.sample(flows, ENERGIES, BLOCK)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_layer_sums_are_those_of_the_first_component(toy, model):
    """Whole showers: each layer sums to the energy that was drawn for it."""
    scheme, flows = model()
    drawn = scheme.sample(flows, ENERGIES, BLOCK)
    found, energies = drawn.voxels, drawn.layer_energies
    assert energies.shape == (8, 3)
    assert energies.dtype == np.float64
    sums = np.stack([found[:, toy.GEOMETRY.span(n)].sum(1, dtype=np.float64) for n in range(3)], axis=1)
    assert (energies > 0).any()
    np.testing.assert_allclose(sums, energies, rtol=1e-5)


def test_each_shower_follows_its_own_energy_and_noise(model):
    scheme, flows = model()
    first = scheme.sample(flows, ENERGIES, BLOCK).voxels
    changed = ENERGIES.copy()
    changed[2] *= 2
    second = scheme.sample(flows, changed, BLOCK).voxels
    same = (first == second).all(axis=1)
    assert same.tolist() == [i != 2 for i in range(8)]
    equal = scheme.sample(flows, np.full(8, 1e4), BLOCK).voxels
    assert len(np.unique(equal, axis=0)) == 8


@pytest.mark.parametrize("mode", MODES, ids=IDS)
def test_an_invalid_row_stays_invalid_and_alone(model, mode):
    scheme, flows = model(**mode)
    clean = scheme.sample(flows, ENERGIES, BLOCK).voxels
    energies = ENERGIES.copy()
    energies[4] = np.nan
    found = scheme.sample(flows, energies, BLOCK).voxels
    assert np.isnan(found[4]).any()
    others = [i for i in range(8) if i != 4]
    assert np.array_equal(found[others], clean[others])


@pytest.mark.parametrize("name", ["layer_energies", "first_layer", "next_layer"])
def test_unusable_weights_are_told_with_component_and_block(model, name):
    scheme, flows = model()
    for parameter in flows[name].parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(NumericalError, match=rf"component {name}.*block 5, seed 3, attempt 0"):
        scheme.sample(flows, ENERGIES, BLOCK)


def test_the_next_layer_sees_the_layer_before(toy, model):
    """Changing what layer 0 became must change layers 1 and 2."""
    scheme, flows = model()
    first = scheme.sample(flows, ENERGIES, BLOCK).voxels
    with torch.no_grad():
        for parameter in flows["first_layer"].parameters():
            parameter.add_(0.1)
    second = scheme.sample(flows, ENERGIES, BLOCK).voxels
    for layer in range(3):
        span = toy.GEOMETRY.span(layer)
        assert not np.array_equal(first[:, span], second[:, span])
    assert np.allclose(first.sum(1), second.sum(1), rtol=1e-5)


def test_every_layer_draws_its_own_noise(model, monkeypatch):
    drawn = []
    real = draws.latent

    def latent(*arguments):
        noise = real(*arguments)
        drawn.append(noise.numpy())
        return noise

    for module in (inductive, layer_energies):
        monkeypatch.setattr(module, "latent", latent)
    scheme, flows = model()
    scheme.sample(flows, ENERGIES, BLOCK)
    assert [noise.shape for noise in drawn] == [(8, 3), (8, 12), (8, 12), (8, 12)]
    numbers = np.concatenate([noise.ravel() for noise in drawn])
    assert len(np.unique(numbers)) == len(numbers)
