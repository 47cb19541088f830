"""Training batches of the inductive scheme against a float64 computation row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from caloray.preprocess.unit_space import to_unit_space
from caloray.schemes.inductive import InductiveScheme

NOISE = 5e-3
ALPHA = 1e-6
SCALE = 6.5e4


def draws(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logit(u: float) -> float:
    v = ALPHA + (1 - 2 * ALPHA) * min(max(u, 0.0), 1.0)
    return math.log(v / (1 - v))


def shares(voxels: np.ndarray, fill: np.ndarray) -> list[float]:
    noisy = [float(e) + NOISE * float(f) for e, f in zip(voxels, fill, strict=True)]
    return [logit(e / sum(noisy)) for e in noisy]


def close(found, expected) -> None:
    """Equal but for float32, whose error at a share u near 1 is 6e-8 / (1 - u)."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected)
    allowed = 2e-5 + 3e-7 * np.exp(expected.clip(0))
    np.testing.assert_array_less(np.abs(found - expected), allowed)


@pytest.fixture
def sample(toy):
    return toy.showers().select(slice(0, 40))


@pytest.fixture
def store(toy, sample):
    return toy.store_of(sample)


def test_published_layer_energies(toy, sample, store):
    part = toy.scheme(**toy.PUBLISHED).component("layer_energies")
    rows = part.rows(store)[[3, 10, 17]]
    target, context = part.batch(store, rows, draws())
    noise = torch.rand((3, 3), generator=draws(), dtype=torch.float64).numpy()
    sums = sample.layer_energies(toy.GEOMETRY)
    for i, shower in enumerate((3, 10, 17)):
        close(target[i], [logit((sums[shower, n] + NOISE * noise[i, n]) / SCALE) for n in range(3)])
        close(context[i], [math.log10(sample.incident_energies[shower]) - 4.5])


def test_published_first_layer(toy, sample, store):
    part = toy.scheme(**toy.PUBLISHED).component("first_layer")
    chosen = [2, 20, 33]
    target, context = part.batch(store, part.rows(store)[chosen], draws())
    replay = draws()
    fill = torch.rand((3, 12), generator=replay).numpy()
    extra = torch.rand(3, generator=replay, dtype=torch.float64).numpy()
    for i, shower in enumerate(chosen):
        voxels = sample.voxels[shower, :12]
        energy = float(voxels.astype(np.float64).sum()) + NOISE * extra[i]
        close(target[i], shares(voxels, fill[i]))
        close(context[i], [math.log10(sample.incident_energies[shower]) - 4.5, logit(energy / SCALE) / 4])


def test_published_next_layer(toy, sample, store):
    """[E_inc, E_n, E_n-1, previous layer, one-hot]: the order of the published model; no row is left out."""
    part = toy.scheme(**toy.PUBLISHED).component("next_layer")
    rows = part.rows(store)
    assert len(rows) == 2 * len(sample)
    assert {tuple(row) for row in rows.tolist()} == {(s, n) for s in range(40) for n in (1, 2)}
    chosen = rows[[1, 14, 61]]
    target, context = part.batch(store, chosen, draws())
    replay = draws()
    fill = torch.rand((2, 3, 12), generator=replay).numpy()
    extra = [torch.rand(3, generator=replay, dtype=torch.float64).numpy() for _ in range(2)]
    sums = sample.layer_energies(toy.GEOMETRY)
    for i, (shower, layer) in enumerate(chosen.tolist()):
        here, before = (sample.voxels[shower, toy.GEOMETRY.span(n)] for n in (layer, layer - 1))
        close(target[i], shares(here, fill[0, i]))
        expected = [
            math.log10(sample.incident_energies[shower]) - 4.5,
            logit((sums[shower, layer] + NOISE * extra[0][i]) / SCALE),
            logit((sums[shower, layer - 1] + NOISE * extra[1][i]) / SCALE),
            *shares(before, fill[1, i]),
            *[1.0 if n == layer else 0.0 for n in (1, 2)],
        ]
        close(context[i], expected)


def test_the_default_condition_is_the_logarithm_without_noise(toy, sample, store):
    part = toy.scheme().component("next_layer")
    rows = part.rows(store)[:9]
    sums = sample.layer_energies(toy.GEOMETRY)
    expected = np.log10(
        np.stack([sums[rows[:, 0], rows[:, 1]], sums[rows[:, 0], rows[:, 1] - 1]], axis=1) + 0.01
    )
    one, other = (part.batch(store, rows, draws(seed))[1] for seed in (1, 2))
    np.testing.assert_allclose(one[:, 1:3], expected, rtol=1e-6)
    assert torch.equal(one[:, :3], other[:, :3])
    assert not torch.equal(one[:, 3:15], other[:, 3:15])


def test_published_conditions_are_noisy(toy, store):
    part = toy.scheme(**toy.PUBLISHED, voxel_noise=50.0).component("first_layer")
    rows = part.rows(store)
    one, other = (part.batch(store, rows, draws(seed))[1] for seed in (1, 2))
    assert torch.equal(one[:, 0], other[:, 0])
    assert (one[:, 1] != other[:, 1]).all()


def test_log_voxels(toy, sample, store):
    """Empty voxels get their filling, the others the logarithm of their energy, without noise."""
    part = toy.scheme(voxel_space="log", fill_mean=1e-3, fill_std=0.2).component("first_layer")
    target = part.batch(store, part.rows(store), draws())[0].double().numpy()
    voxels = sample.voxels[:, :12].astype(np.float64)
    hit = voxels > 0
    np.testing.assert_allclose(target[hit], 2 * (np.log10(voxels[hit]) + 1.5), rtol=1e-5, atol=1e-5)
    filling = target[~hit] / 2 - 1.5
    assert len(filling) > 100
    assert filling.mean() == pytest.approx(-3, abs=0.06)
    assert filling.std() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("name", ["layer_energies", "first_layer", "next_layer"])
def test_a_batch_is_a_function_of_its_draws(toy, store, name):
    part = toy.scheme(augment="rotate").component(name)
    rows = part.rows(store)[:20]
    one, same, other = (part.batch(store, rows, draws(seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize(
    ("changes", "kept"), [({"rescale": "renormalise"}, 76), ({"rescale": "published"}, 80)]
)
def test_empty_layers_are_learnt_only_where_the_flow_is_asked_for_them(toy, store, changes, kept):
    """Every tenth of 40 showers has an empty last layer."""
    part = toy.scheme(**changes).component("next_layer")
    rows = part.rows(store)
    assert len(rows) == kept
    empty = store.layer_energies[rows[:, 0], rows[:, 1]] == 0
    assert empty.sum() == (4 if kept == 80 else 0)
    target, context = part.batch(store, rows, draws())
    assert target.isfinite().all()
    assert context.isfinite().all()


def test_noisy_totals_never_reach_the_end_of_the_unit_space(toy, sample, store):
    """The scale covers the noise, so that no training row is clamped."""
    scheme = InductiveScheme(toy.config(voxel_noise=5.0), toy.GEOMETRY, toy.statistics(sample), 1)
    part = scheme.component("layer_energies")
    end = logit(1.0)
    for seed in range(20):
        target, _ = part.batch(store, part.rows(store), draws(seed))
        assert target[:, 0].max() < end - 1e-3
    highest = part.decode(
        torch.full((1, 3), 20.0, dtype=torch.float64), torch.tensor([1e4], dtype=torch.float64)
    )
    assert highest.sum().item() == pytest.approx(part.maps.max_ratio * 1e4)


@pytest.mark.parametrize("space", ["unit", "absolute"])
def test_layer_energies_come_back_from_flow_space(toy, sample, store, space):
    """Preprocessing and its inverse agree."""
    part = toy.scheme(energy_space=space, voxel_noise=1e-9, threshold=0.0).component("layer_energies")
    energies = torch.as_tensor(store.layer_energies)
    incident = torch.as_tensor(store.incident_energies)
    maps = part.maps
    if space == "unit":
        u = to_unit_space(energies, incident, maps.max_ratio)
    else:
        u = energies / maps.max_layer_energy
    v = ALPHA + (1 - 2 * ALPHA) * u
    back = part.decode(torch.log(v / (1 - v)), incident)
    np.testing.assert_allclose(back, energies, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["layer_energies", "first_layer", "next_layer"])
def test_float64_batches_are_not_rounded_float32_ones(toy, store, name):
    """The published settings train in float64, where a share near 1 needs it."""
    part = toy.scheme(**toy.PUBLISHED).component(name)
    target, context = part.batch(store, part.rows(store)[:20], draws(), torch.float64)
    for found in (target, context):
        assert found.dtype == torch.float64
        assert not torch.equal(found, found.float().double())
