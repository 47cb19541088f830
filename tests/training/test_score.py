"""The score of a component: the same for the same model of the showers, whatever the preprocessing.

The showers come from a known density: entries that are empty with probability ``EMPTY``, else log-uniform. A
flow that has exactly the density which this gives in flow space is put in the place of a trained one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloray.errors import DataError, NumericalError
from caloray.preprocess.unit_space import from_unit_space
from caloray.training.rows import RowPlan
from caloray.training.score import score_component

_SPEC = importlib.util.spec_from_file_location("known_showers", Path(__file__).with_name("known_showers.py"))
known: Any = importlib.util.module_from_spec(_SPEC)
sys.modules["known_showers"] = known
_SPEC.loader.exec_module(known)


@pytest.fixture(scope="module")
def voxels():
    """Every voxel from the known density."""
    return known.store_of([known.drawn((known.COUNT, 8), seed) for seed in range(3)])


@pytest.fixture(scope="module")
def sums():
    """Every layer energy from the known density, all in its first voxel."""
    return known.store_of(
        [np.pad(known.drawn((known.COUNT, 1), 10 + seed), ((0, 0), (0, 7))) for seed in range(3)]
    )


@pytest.mark.parametrize("space", ["unit", "absolute"])
@pytest.mark.parametrize(("noise", "alpha"), [(1e-4, 1e-6), (5e-3, 1e-6), (5e-3, 1e-2), (0.1, 1e-4)])
def test_layer_energies_score_the_same_for_any_noise_margin_and_space(sums, space, noise, alpha):
    fields = {"energy_space": space, "voxel_noise": noise, "alpha": alpha}
    part = known.inductive(sums, "layer_energies", **fields)
    maps = part.maps

    def inverse(x: torch.Tensor) -> torch.Tensor:
        shares = known.opened(x, alpha)
        if space == "absolute":
            return shares * maps.max_layer_energy
        incident = torch.full((len(x),), known.INCIDENT, dtype=torch.float64)
        return from_unit_space(shares, incident, maps.max_ratio)

    found = known.scored(part, known.Known(inverse, noise, known.uniform(noise)), sums)
    assert (found.rows, found.features) == (known.COUNT, 3)
    assert found.nll_bits_per_dim == pytest.approx(
        known.bits_of(sums.layer_energies, noise), abs=0.02 * noise**0.5 + 2e-4
    )
    assert abs(found.nats_per_row / 3 / math.log(2) - found.nll_bits_per_dim) > 1


@pytest.mark.parametrize(("mean", "std"), [(1e-3, 0.2), (1e-3, 0.05), (1e-4, 0.2), (5e-3, 0.3)])
def test_voxels_in_the_logarithmic_space_score_the_same_for_any_filling(voxels, mean, std):
    part = known.inductive(voxels, "first_layer", rescale="published", fill_mean=mean, fill_std=std)
    flow = known.Known(lambda x: torch.pow(10.0, x / 2 - 1.5), 0.0, known.log_normal(mean, std))
    expected = known.bits_of(voxels.dense(np.arange(known.COUNT), np.zeros(known.COUNT, dtype=int)))
    assert known.scored(part, flow, voxels).nll_bits_per_dim == pytest.approx(expected, abs=1e-6)


class Told:
    """A component of shares that tells its flow the sum of the noisy voxels, which shares do not hold."""

    def __init__(self, part, noise: float) -> None:
        self.part, self.noise = part, noise
        self.name, self.features, self.rows = part.name, part.features, part.rows
        self.scale = torch.ones(())

    def measured_batch(self, store, rows, draws, dtype):
        replay = torch.Generator()
        replay.set_state(draws.get_state())
        voxels = torch.from_numpy(store.dense(rows[:, 0], rows[:, 1])).to(dtype)
        fill = torch.rand(voxels.shape, generator=replay, dtype=dtype)
        self.scale = (voxels + self.noise * fill).sum(dim=1, keepdim=True)
        return self.part.measured_batch(store, rows, draws, dtype)


@pytest.mark.parametrize(("noise", "alpha"), [(1e-4, 1e-6), (5e-3, 1e-6), (5e-3, 1e-2), (0.1, 1e-4)])
def test_shares_score_the_same_for_any_noise_and_margin(voxels, noise, alpha):
    fields = {"voxel_space": "share", "rescale": "published", "voxel_noise": noise, "alpha": alpha}
    part = Told(known.inductive(voxels, "first_layer", **fields), noise)

    class Scaled(known.Known):
        def log_prob(self, x, context):
            y = known.opened(x, alpha) * part.scale
            slope = torch.autograd.functional.jvp(lambda v: known.opened(v, alpha), x, torch.ones_like(x))[1]
            log_det = (torch.log(slope) + torch.log(part.scale)).sum(dim=1)
            return known.noisy_density(y, noise, known.uniform(noise)).sum(dim=1) + log_det

    expected = known.bits_of(voxels.dense(np.arange(known.COUNT), np.zeros(known.COUNT, dtype=int)), noise)
    found = known.scored(part, Scaled(None, noise, None), voxels)
    assert found.nll_bits_per_dim == pytest.approx(expected, abs=0.02 * noise**0.5 + 2e-4)


@pytest.mark.parametrize("alpha", [1e-2, 1e-5])
@pytest.mark.parametrize(
    ("noise", "mean", "std"), [(0.0, 1e-3, 0.2), (0.0, 2e-2, 0.1), (5e-3, 1e-3, 0.2), (5e-2, 1e-4, 0.1)]
)
@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_layerwise_voxels_score_the_same_for_any_noise_margin_and_filling(
    voxels, network, alpha, noise, mean, std
):
    fields = {"voxel_noise": noise, "alpha": alpha, "fill_mean": mean, "fill_std": std, "network": network}
    part = known.layerwise(voxels, "layer_01" if network == "per-layer" else "layers", **fields)
    top = 2 * torch.as_tensor(voxels.layer_maxima).double() + 1e-3
    top = top[1] if network == "per-layer" else top.mean()
    if network == "shared":  # one maximum, so that the flow need not be told the layer
        maxima = tuple(float(top) - 1e-3 for _ in range(3))
        part.maps.__dict__["maxima"] = torch.tensor(maxima, dtype=torch.float64)

    def inverse(x: torch.Tensor) -> torch.Tensor:
        return (torch.pow(10.0, 7 * (known.opened(x, alpha) - 1)) - 1e-7) * top

    found = known.scored(part, known.Known(inverse, noise, known.log_normal(mean, std, noise)), voxels)
    columns = [1] if network == "per-layer" else [0, 1, 2]
    energies = [voxels.dense(np.arange(known.COUNT), np.full(known.COUNT, column)) for column in columns]
    assert found.rows == len(columns) * known.COUNT
    expected = known.bits_of(np.stack(energies), noise)
    assert found.nll_bits_per_dim == pytest.approx(expected, abs=0.02 * noise**0.5 + 2e-4)


@pytest.mark.parametrize("noise", [1e-4, 0.2])
def test_a_perfect_flow_of_empty_showers_scores_their_probability(noise):
    nothing = known.store_of([np.zeros((50, 8), dtype=np.float32)] * 3)
    some = known.store_of([known.drawn((50, 8), seed) for seed in range(3)])
    part = known.inductive(some, "layer_energies", voxel_noise=noise, energy_space="absolute")
    flow = known.Known(
        lambda x: known.opened(x, 1e-6) * part.maps.max_layer_energy, noise, known.uniform(noise)
    )
    found = known.scored(part, flow, nothing)
    assert found.nll_bits_per_dim == pytest.approx(-math.log2(known.EMPTY), rel=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("noise", [0.0, 5e-3])
def test_a_perfect_flow_of_empty_layers_scores_their_probability(noise, voxels):
    nothing = known.store_of([np.zeros((50, 8), dtype=np.float32)] * 3)
    part = known.layerwise(voxels, "layer_02", voxel_noise=noise)
    top = float(part.maps.maxima[2]) + 1e-3
    flow = known.Known(
        lambda x: (torch.pow(10.0, 7 * (known.opened(x, 1e-2) - 1)) - 1e-7) * top,
        noise,
        known.log_normal(1e-3, 0.2, noise),
    )
    assert known.scored(part, flow, nothing).nll_bits_per_dim == pytest.approx(
        -math.log2(known.EMPTY), rel=1e-5
    )


def test_an_imperfect_filling_costs_what_jensen_says(voxels):
    """A flow that fills a little wider than the training does pays the divergence of the two fillings."""
    part = known.inductive(voxels, "first_layer", rescale="published")
    flow = known.Known(lambda x: torch.pow(10.0, x / 2 - 1.5), 0.0, known.log_normal(1e-3, 0.3))
    energies = voxels.dense(np.arange(known.COUNT), np.zeros(known.COUNT, dtype=int))
    divergence = math.log(0.3 / 0.2) + 0.5 * (0.2 / 0.3) ** 2 - 0.5
    cost = (energies == 0).mean() * divergence / math.log(2)
    found = [
        score_component(part, flow, voxels, rows=known.COUNT, seed=seed).nll_bits_per_dim for seed in range(8)
    ]
    assert np.mean(found) == pytest.approx(known.bits_of(energies) + cost, abs=4e-3)


@pytest.fixture
def layer_flow(toy):
    torch.manual_seed(0)
    part = toy.scheme().component("next_layer")
    flow = part.build()
    flow.load_state_dict(toy.weights()["next_layer"])
    return part, flow


def test_a_score_is_what_the_flow_says_of_the_measured_batches(toy, layer_flow):

    part, flow = layer_flow
    store = toy.store_of(toy.showers())
    found = score_component(part, flow, store, rows=150, seed=4, batch=64)
    plan = RowPlan(part, store, 64, 4)
    nats, plain, groups = [], [], []
    for rows, key in plan.fixed_batches(150, "score"):
        draws = torch.Generator().manual_seed(key.seed64())
        target, context, volume = part.measured_batch(store, rows, draws)
        with torch.no_grad():
            log_prob = flow.eval().log_prob(target, context).double()
        nats += (-log_prob - volume).tolist()
        plain += log_prob.tolist()
        groups += rows[:, 0].tolist()
    assert found.rows == len(nats) == 150
    unit = 12 * math.log(2)
    assert found.nll_bits_per_dim == pytest.approx(np.mean(nats) / unit, rel=1e-12)
    assert found.nats_per_row == pytest.approx(-np.mean(plain), rel=1e-12)
    left, names = np.array(nats) - np.mean(nats), np.unique(groups)
    squares = sum(left[np.array(groups) == name].sum() ** 2 for name in names)
    error = math.sqrt(squares * len(names) / (len(names) - 1)) / 150 / unit
    assert len(names) < 150
    assert found.error == pytest.approx(error, rel=1e-9)


def test_the_error_counts_showers_and_not_rows(voxels):
    """Three layers of a shower that are all alike are one observation."""
    same = known.store_of([known.drawn((known.COUNT, 8), 0)] * 3)
    expected = known.nats_of(known.drawn((known.COUNT, 8), 0)).sum(axis=1).std() / 8 / math.log(2)
    errors = []
    for store, names in ((same, 1), (voxels, 3)):
        part = known.layerwise(store, "layers", network="shared")
        part.maps.__dict__["maxima"] = torch.full((3,), 200.0, dtype=torch.float64)
        top = 200.001
        flow = known.Known(
            lambda x, top=top: (torch.pow(10.0, 7 * (known.opened(x, 1e-2) - 1)) - 1e-7) * top,
            0.0,
            known.log_normal(1e-3, 0.2),
        )
        errors.append(known.scored(part, flow, store).error)
        assert errors[-1] == pytest.approx(expected / math.sqrt(known.COUNT * names), rel=0.05)
    assert errors[0] > 1.6 * errors[1]


def test_the_same_again_and_the_flow_as_it_was(toy, layer_flow):
    part, flow = layer_flow
    store = toy.store_of(toy.showers())
    flow.train()
    first = next(flow.children())
    first.eval()
    modes = [module.training for module in flow.modules()]
    state = torch.get_rng_state()
    one, same = (score_component(part, flow, store, rows=100, seed=4) for _ in range(2))
    other = score_component(part, flow, store, rows=100, seed=5)
    assert one == same
    assert one != other
    assert [module.training for module in flow.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in flow.parameters())


def test_precision_hardly_matters(toy, layer_flow):
    part, flow = layer_flow
    store = toy.store_of(toy.showers())
    single = score_component(part, flow, store, rows=380, seed=4)
    double = score_component(part, flow.double(), store, rows=380, seed=4)
    assert abs(single.nll_bits_per_dim - double.nll_bits_per_dim) < 5 * single.error


@pytest.mark.parametrize("network", ["per-layer", "shared"])
def test_convolutional_flows_have_scores(voxels, network):
    part = known.layerwise(voxels, "layer_01" if network == "per-layer" else "layers", network=network)
    found = score_component(part, part.build(), voxels, rows=200, seed=1)
    assert math.isfinite(found.nll_bits_per_dim)
    assert 0 < found.error < 1
    assert (found.rows, found.features) == (200, 8)


def test_weights_that_give_no_number_are_an_error_that_names_the_component(toy, layer_flow):
    part, flow = layer_flow
    with torch.no_grad():
        next(flow.parameters()).fill_(math.nan)
    flow.train()
    with pytest.raises(NumericalError, match=r"component next_layer: .* 50 of 50 held-out rows is not"):
        score_component(part, flow, toy.store_of(toy.showers()), rows=50, seed=1)
    assert flow.training


def test_no_rows_are_an_error(toy, layer_flow):
    part, flow = layer_flow
    nothing = toy.store_of(toy.showers(3).select(slice(0, 0)))
    with pytest.raises(DataError, match="no rows"):
        score_component(part, flow, nothing, rows=50, seed=1)


@pytest.mark.parametrize("space", ["unit", "absolute"])
def test_rows_beyond_the_maps_are_no_gain(sums, space):
    """Clamped rows once counted with the logit's slope at its end, 14 nats better than any other row."""
    noise = 1e-3
    part = known.inductive(sums, "layer_energies", voxel_noise=noise, energy_space=space)
    flow = part.build()
    plain = known.scored(part, flow, sums)
    assert plain.outside == 0
    largest = sums.layer_energies.max(axis=1) if space == "absolute" else sums.layer_energies.sum(axis=1)
    for count, cut in ((12, np.sort(largest)[-12]), (200, np.sort(largest)[-200])):
        end = (
            {"max_layer_energy": cut - 1e-9}
            if space == "absolute"
            else {"max_ratio": (cut - 1e-9) / known.INCIDENT}
        )
        maps = dataclasses.replace(part.maps, **end)
        less = dataclasses.replace(part, maps=maps)
        if count > 0.01 * known.COUNT:
            with pytest.raises(
                NumericalError, match=rf"layer_energies: 2\d\d of {known.COUNT} held-out rows lie beyond"
            ):
                known.scored(less, flow, sums)
            continue
        found = known.scored(less, flow, sums)
        assert 12 <= found.outside <= 15
        assert math.isfinite(found.nll_bits_per_dim)
        draws = torch.Generator().manual_seed(0)
        volume = less.measured_batch(sums, less.rows(sums), draws)[2]
        beyond = torch.isneginf(volume)
        assert beyond.numpy()[np.argsort(largest)[-12:]].all()
        assert not beyond.numpy()[np.argsort(largest)[:-20]].any()


def test_a_layer_above_its_maximum_has_no_density(voxels):
    part = known.layerwise(voxels, "layer_01")
    rows = part.rows(voxels)
    assert torch.isfinite(part.measured_batch(voxels, rows, torch.Generator().manual_seed(0))[2]).all()
    dense = voxels.dense(rows[:, 0], rows[:, 1]).max(axis=1)
    cut = float(np.sort(dense)[-10])
    part.maps.__dict__["maxima"] = torch.full((3,), cut - 2e-3, dtype=torch.float64)
    volume = part.measured_batch(voxels, rows, torch.Generator().manual_seed(0))[2]
    assert torch.isneginf(volume).numpy().tolist() == (dense > cut - 1e-3).tolist()
    part.maps.__dict__["maxima"] = torch.full((3,), 1.0, dtype=torch.float64)
    flow = part.build()
    with pytest.raises(NumericalError, match="lie beyond the range that its maps were fitted to"):
        known.scored(part, flow, voxels)


@pytest.mark.parametrize("noise", [1e-3, 0.1, known.LOW])
def test_no_noise_up_to_the_smallest_hit_makes_a_perfect_flow_better_than_the_showers(sums, noise):
    part = known.inductive(sums, "layer_energies", voxel_noise=noise, energy_space="absolute")
    flow = known.Known(
        lambda x: known.opened(x, 1e-6) * part.maps.max_layer_energy, noise, known.uniform(noise)
    )
    found = known.scored(part, flow, sums)
    energies = sums.layer_energies
    assert found.nll_bits_per_dim > known.bits_of(energies) - 3 * found.error
