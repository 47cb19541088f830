"""The score of a component: the same for the same model of the showers, whatever the preprocessing.

The showers come from a known density: entries that are empty with probability ``EMPTY``, else log-uniform. A
flow that has exactly the density which this gives in flow space is put in the place of a trained one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from caloray.errors import DataError, NumericalError
from caloray.geometry import Geometry, Layer
from caloray.io.store import LayerStoreBuilder
from caloray.preprocess.statistics import TrainingStatistics
from caloray.preprocess.unit_space import from_unit_space
from caloray.schemes.inductive import InductiveScheme
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.training.rows import RowPlan
from caloray.training.score import score_component

EMPTY, LOW, HIGH, COUNT = 0.3, 0.5, 50.0, 1500
DECADES = math.log(HIGH / LOW)
EDGES = tuple(np.linspace(0, 2 * np.pi, 5))
GEOMETRY = Geometry("known", "cylindrical", tuple(Layer(i, EDGES, (0.0, 1.0, 2.0)) for i in range(3)))
CONV = {"blocks": 2, "hidden": 3, "squeeze": (2, 1), "kernels": ((1, 2),), "context_channels": 4}
INCIDENT = 2e3


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    energies = LOW * (HIGH / LOW) ** rng.random(shape) * (rng.random(shape) >= EMPTY)
    return energies.astype(np.float32)


def store_of(layers: list[np.ndarray]) -> Any:
    builder = LayerStoreBuilder(GEOMETRY, (0, 1, 2))
    builder.add_dense(np.arange(len(layers[0])), np.full(len(layers[0]), INCIDENT), layers)
    return builder.build()


@pytest.fixture(scope="module")
def voxels():
    """Every voxel from the known density."""
    return store_of([drawn((COUNT, 8), seed) for seed in range(3)])


@pytest.fixture(scope="module")
def sums():
    """Every layer energy from the known density, all in its first voxel."""
    return store_of([np.pad(drawn((COUNT, 1), 10 + seed), ((0, 0), (0, 7))) for seed in range(3)])


def nats_of(energies: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the known density at energies."""
    hit = energies > 0
    return np.where(hit, -np.log((1 - EMPTY) / (DECADES * np.where(hit, energies, 1.0))), -np.log(EMPTY))


def bits_of(energies: np.ndarray, noise: float = 0.0) -> float:
    """What a perfect model scores: the mean at energies, and what the noise of the hits adds to entropy."""
    found = float(nats_of(energies).mean())
    if noise:
        y = np.unique(
            np.concatenate([np.linspace(LOW, LOW + noise, 5000), np.geomspace(LOW, HIGH + noise, 200_000)])
        )
        density = (np.log(y.clip(LOW, HIGH)) - np.log((y - noise).clip(LOW, HIGH))) / (DECADES * noise)
        logs = np.log(np.where(density > 0, density, 1.0))
        plain = math.log(DECADES) + 0.5 * math.log(LOW * HIGH)
        found += (energies > 0).mean() * (-np.trapezoid(density * logs, y) - plain)
    return found / math.log(2)


def statistics_of(store) -> TrainingStatistics:
    """With room above the largest."""
    maxima = tuple(2 * m for m in store.layer_maxima)
    return TrainingStatistics.of(2 * store.layer_energies, store.incident_energies, voxel_maxima=maxima)


def inductive(store, name: str, **changes: Any) -> Any:
    config = InductiveConfig.model_validate(changes)
    return InductiveScheme(config, GEOMETRY, statistics_of(store), seed=1).component(name)


def layerwise(store, name: str, **changes: Any) -> Any:
    fields = {"kind": "layerwise", "flows": {"layer": CONV}, "threshold": 0.4, "rescale": "none", **changes}
    scheme = LayerwiseScheme(LayerwiseConfig.model_validate(fields), GEOMETRY, statistics_of(store), seed=1)
    return scheme.component(name)


def noisy_density(y: torch.Tensor, noise: float, filling) -> torch.Tensor:
    """Log density [1/MeV] of entries of the known density with noise, of which the empty ones are filled."""

    def below(values: torch.Tensor) -> torch.Tensor:
        return (torch.log(values.clamp(LOW, HIGH) / LOW) / DECADES).clamp(0, 1)

    if noise:
        hit = (below(y) - below(y - noise)) / noise
    else:
        hit = ((y >= LOW) & (y <= HIGH)).double() / (DECADES * y)
    empty = torch.as_tensor(filling(y.detach().numpy()))
    return torch.log(EMPTY * empty + (1 - EMPTY) * hit)


def uniform(noise: float):
    return lambda y: ((y >= 0) & (y < noise)) / noise


def log_normal(mean: float, std: float, noise: float = 0.0):
    law = stats.lognorm(s=std * math.log(10), scale=mean)
    return law.pdf if not noise else lambda y: (law.cdf(y) - law.cdf(y - noise)) / noise


class Known(torch.nn.Module):
    """The density of x = f(y) for the known density of y; f's inverse is differentiated, row by row."""

    def __init__(self, inverse, noise: float, filling) -> None:
        super().__init__()
        self.inverse, self.noise, self.filling = inverse, noise, filling
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        y = self.inverse(x)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda row: self.inverse(row[None])[0]))(x)
        density = noisy_density(y, self.noise, self.filling).sum(dim=1)
        return density + torch.linalg.slogdet(jacobian).logabsdet


def opened(x: torch.Tensor, alpha: float) -> torch.Tensor:
    return (torch.sigmoid(x) - alpha) / (1 - 2 * alpha)


def scored(part, flow, store):
    return score_component(part, flow, store, rows=10_000, seed=3, batch=400)


@pytest.mark.parametrize("space", ["unit", "absolute"])
@pytest.mark.parametrize(("noise", "alpha"), [(1e-4, 1e-6), (5e-3, 1e-6), (5e-3, 1e-2), (0.1, 1e-4)])
def test_layer_energies_score_the_same_for_any_noise_margin_and_space(sums, space, noise, alpha):
    fields = {"energy_space": space, "voxel_noise": noise, "alpha": alpha}
    part = inductive(sums, "layer_energies", **fields)
    maps = part.maps

    def inverse(x: torch.Tensor) -> torch.Tensor:
        shares = opened(x, alpha)
        if space == "absolute":
            return shares * maps.max_layer_energy
        incident = torch.full((len(x),), INCIDENT, dtype=torch.float64)
        return from_unit_space(shares, incident, maps.max_ratio)

    found = scored(part, Known(inverse, noise, uniform(noise)), sums)
    assert (found.rows, found.features) == (COUNT, 3)
    assert found.nll_bits_per_dim == pytest.approx(
        bits_of(sums.layer_energies, noise), abs=0.02 * noise**0.5 + 2e-4
    )
    assert abs(found.nats_per_row / 3 / math.log(2) - found.nll_bits_per_dim) > 1


@pytest.mark.parametrize(("mean", "std"), [(1e-3, 0.2), (1e-3, 0.05), (1e-4, 0.2), (5e-3, 0.3)])
def test_voxels_in_the_logarithmic_space_score_the_same_for_any_filling(voxels, mean, std):
    part = inductive(voxels, "first_layer", rescale="published", fill_mean=mean, fill_std=std)
    flow = Known(lambda x: torch.pow(10.0, x / 2 - 1.5), 0.0, log_normal(mean, std))
    expected = bits_of(voxels.dense(np.arange(COUNT), np.zeros(COUNT, dtype=int)))
    assert scored(part, flow, voxels).nll_bits_per_dim == pytest.approx(expected, abs=1e-6)


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
    part = Told(inductive(voxels, "first_layer", **fields), noise)

    class Scaled(Known):
        def log_prob(self, x, context):
            y = opened(x, alpha) * part.scale
            slope = torch.autograd.functional.jvp(lambda v: opened(v, alpha), x, torch.ones_like(x))[1]
            log_det = (torch.log(slope) + torch.log(part.scale)).sum(dim=1)
            return noisy_density(y, noise, uniform(noise)).sum(dim=1) + log_det

    expected = bits_of(voxels.dense(np.arange(COUNT), np.zeros(COUNT, dtype=int)), noise)
    found = scored(part, Scaled(None, noise, None), voxels)
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
    part = layerwise(voxels, "layer_01" if network == "per-layer" else "layers", **fields)
    top = 2 * torch.as_tensor(voxels.layer_maxima).double() + 1e-3
    top = top[1] if network == "per-layer" else top.mean()
    if network == "shared":  # one maximum, so that the flow need not be told the layer
        maxima = tuple(float(top) - 1e-3 for _ in range(3))
        part.maps.__dict__["maxima"] = torch.tensor(maxima, dtype=torch.float64)

    def inverse(x: torch.Tensor) -> torch.Tensor:
        return (torch.pow(10.0, 7 * (opened(x, alpha) - 1)) - 1e-7) * top

    found = scored(part, Known(inverse, noise, log_normal(mean, std, noise)), voxels)
    columns = [1] if network == "per-layer" else [0, 1, 2]
    energies = [voxels.dense(np.arange(COUNT), np.full(COUNT, column)) for column in columns]
    assert found.rows == len(columns) * COUNT
    expected = bits_of(np.stack(energies), noise)
    assert found.nll_bits_per_dim == pytest.approx(expected, abs=0.02 * noise**0.5 + 2e-4)


@pytest.mark.parametrize("noise", [1e-4, 0.2])
def test_a_perfect_flow_of_empty_showers_scores_their_probability(noise):
    nothing = store_of([np.zeros((50, 8), dtype=np.float32)] * 3)
    some = store_of([drawn((50, 8), seed) for seed in range(3)])
    part = inductive(some, "layer_energies", voxel_noise=noise, energy_space="absolute")
    flow = Known(lambda x: opened(x, 1e-6) * part.maps.max_layer_energy, noise, uniform(noise))
    found = scored(part, flow, nothing)
    assert found.nll_bits_per_dim == pytest.approx(-math.log2(EMPTY), rel=1e-9)
    assert found.error == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("noise", [0.0, 5e-3])
def test_a_perfect_flow_of_empty_layers_scores_their_probability(noise, voxels):
    nothing = store_of([np.zeros((50, 8), dtype=np.float32)] * 3)
    part = layerwise(voxels, "layer_02", voxel_noise=noise)
    top = float(part.maps.maxima[2]) + 1e-3
    flow = Known(
        lambda x: (torch.pow(10.0, 7 * (opened(x, 1e-2) - 1)) - 1e-7) * top,
        noise,
        log_normal(1e-3, 0.2, noise),
    )
    assert scored(part, flow, nothing).nll_bits_per_dim == pytest.approx(-math.log2(EMPTY), rel=1e-5)


def test_an_imperfect_filling_costs_what_jensen_says(voxels):
    """A flow that fills a little wider than the training does pays the divergence of the two fillings."""
    part = inductive(voxels, "first_layer", rescale="published")
    flow = Known(lambda x: torch.pow(10.0, x / 2 - 1.5), 0.0, log_normal(1e-3, 0.3))
    energies = voxels.dense(np.arange(COUNT), np.zeros(COUNT, dtype=int))
    divergence = math.log(0.3 / 0.2) + 0.5 * (0.2 / 0.3) ** 2 - 0.5
    cost = (energies == 0).mean() * divergence / math.log(2)
    found = [score_component(part, flow, voxels, rows=COUNT, seed=seed).nll_bits_per_dim for seed in range(8)]
    assert np.mean(found) == pytest.approx(bits_of(energies) + cost, abs=4e-3)


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
    same = store_of([drawn((COUNT, 8), 0)] * 3)
    expected = nats_of(drawn((COUNT, 8), 0)).sum(axis=1).std() / 8 / math.log(2)
    errors = []
    for store, names in ((same, 1), (voxels, 3)):
        part = layerwise(store, "layers", network="shared")
        part.maps.__dict__["maxima"] = torch.full((3,), 200.0, dtype=torch.float64)
        top = 200.001
        flow = Known(
            lambda x, top=top: (torch.pow(10.0, 7 * (opened(x, 1e-2) - 1)) - 1e-7) * top,
            0.0,
            log_normal(1e-3, 0.2),
        )
        errors.append(scored(part, flow, store).error)
        assert errors[-1] == pytest.approx(expected / math.sqrt(COUNT * names), rel=0.05)
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
    part = layerwise(voxels, "layer_01" if network == "per-layer" else "layers", network=network)
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
