"""Batches with the volume that belongs to them: the same batches, and the volume of the whole map."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from caloray.geometry import Geometry, Layer
from caloray.io.store import LayerStoreBuilder
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.inductive import InductiveScheme
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig

DOUBLE = torch.float64
LAYERS, COUNT = 4, 30
EDGES = tuple(np.linspace(0, 2 * np.pi, 5))
CYLINDER = Geometry("toy", "cylindrical", tuple(Layer(i, EDGES, (0.0, 1.0, 2.0)) for i in range(LAYERS)))
FLOW = {"blocks": 2, "hidden": 8}
CONV = {"blocks": 2, "hidden": 3, "squeeze": (2, 1), "kernels": ((1, 2),), "context_channels": 4}
SEEN = ("theta",)
INDUCTIVE = [
    {"voxel_space": space, "energy_space": energies, "energy_context": context, "rescale": rescale, **more}
    for (space, rescale), energies, context, more in product(
        [("log", "renormalise"), ("share", "published"), ("share", "renormalise"), ("log", "published")],
        ["unit", "absolute"],
        ["log", "logit"],
        [{}, {"augment": "rotate", "conditions": SEEN}],
    )
]
LAYERWISE = [
    {"network": network, "voxel_noise": noise, "energy_space": energies, **more}
    for network, noise, energies, more in product(
        ["per-layer", "shared"],
        [0.0, 5e-3],
        ["unit", "absolute"],
        [{}, {"augment": "rotate", "conditions": SEEN, "rescale": "none"}],
    )
]


def showers(seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    """Sparse layers; some layers are empty, the last ones of some showers, and one shower throughout."""
    rng = np.random.default_rng(seed)
    voxels = 10 ** rng.uniform(-1, 2, (COUNT, LAYERS, 8)) * (rng.random((COUNT, LAYERS, 8)) < 0.6)
    voxels[::5, 3] = voxels[::7, 0] = voxels[4] = 0
    return rng.uniform(1e3, 2e3, COUNT), [voxels[:, i].astype(np.float32) for i in range(LAYERS)]


@pytest.fixture(scope="module")
def store():
    incident, voxels = showers()
    builder = LayerStoreBuilder(CYLINDER, tuple(range(LAYERS)))
    theta = np.random.default_rng(1).uniform(0.1, 0.3, COUNT)
    builder.add_dense(np.arange(COUNT), incident, voxels, {"theta": theta})
    return builder.build()


def fitted(store) -> TrainingStatistics:
    return TrainingStatistics.of(
        store.layer_energies,
        store.incident_energies,
        voxel_maxima=store.layer_maxima,
        conditions=store.conditions,
    )


def inductive(store, **changes: Any) -> InductiveScheme:
    flows = dict.fromkeys(("layer_energies", "first_layer", "next_layer"), FLOW)
    config = InductiveConfig.model_validate({"flows": flows, **changes})
    return InductiveScheme(config, CYLINDER, fitted(store), seed=1)


def layerwise(store, **changes: Any) -> LayerwiseScheme:
    fields = {"kind": "layerwise", "flows": {"layer_energies": FLOW, "layer": CONV}, "threshold": 0.1}
    return LayerwiseScheme(LayerwiseConfig.model_validate({**fields, **changes}), CYLINDER, fitted(store), 1)


def draws(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def voxels_of(store, rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(store.dense(rows[:, 0], rows[:, 1])).double()


def slopes_of(function, at: torch.Tensor) -> torch.Tensor:
    """Sum over each row of the logarithm of an elementwise function's slope (n, D)."""
    at = at.clone().requires_grad_()
    (slope,) = torch.autograd.grad(function(at).sum(), at)
    return slope.abs().log().sum(dim=1)


def same(found, expected) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "changes"),
    [*((inductive, changes) for changes in INDUCTIVE), *((layerwise, changes) for changes in LAYERWISE)],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_target_and_context_are_those_of_the_training(store, scheme, changes):
    """Bit for bit, with the generator left in the same state; the volume is finite for every row."""
    built = scheme(store, **changes)
    for name, dtype in product(built.components, (torch.float32, DOUBLE)):
        part = built.component(name)
        rows = part.rows(store)
        plain, measured = draws(), draws()
        target, context = part.batch(store, rows, plain, dtype)
        found = part.measured_batch(store, rows, measured, dtype)
        assert target.dtype == found[0].dtype == dtype
        assert torch.equal(target, found[0])
        assert torch.equal(context, found[1])
        assert torch.equal(plain.get_state(), measured.get_state())
        assert (found[2].shape, found[2].dtype) == ((len(rows),), DOUBLE)
        assert found[2].isfinite().all()


@pytest.mark.parametrize("name", ["first_layer", "next_layer"])
@pytest.mark.parametrize("scheme", [inductive, layerwise])
def test_training_batches_work_out_no_volume(store, scheme, name, monkeypatch):
    built = scheme(store)
    part = built.component(name if scheme is inductive else "layer_02")
    maps = part.preprocessing if scheme is inductive else part.maps
    monkeypatch.setattr(type(maps), "log_volume", lambda *_: pytest.fail("asked for a volume"))
    part.batch(store, part.rows(store), draws())


@pytest.mark.parametrize("space", ["unit", "absolute"])
@pytest.mark.parametrize("noise", [1e-4, 0.3])
@pytest.mark.parametrize("alpha", [1e-6, 1e-2])
def test_volume_of_layer_energies_is_the_determinant_of_their_map(store, space, noise, alpha):
    part = inductive(store, energy_space=space, voxel_noise=noise, alpha=alpha).component("layer_energies")
    rows = part.rows(store)
    target, _, found = part.measured_batch(store, rows, draws(), DOUBLE)
    energies = torch.as_tensor(store.layer_energies)
    noisy = energies + noise * torch.rand(energies.shape, generator=draws(), dtype=DOUBLE)
    incident = torch.as_tensor(store.incident_energies)
    for row in range(COUNT):
        only = incident[row : row + 1]
        same(part.maps.encode(noisy[row : row + 1], only)[0], target[row])
        jacobian = torch.autograd.functional.jacobian(
            lambda e, only=only: part.maps.encode(e[None], only)[0], noisy[row]
        )
        determinant = torch.linalg.slogdet(jacobian).logabsdet
        empty = int((energies[row] == 0).sum())
        same(found[row], determinant + empty * math.log(noise))
    assert {0, 1, 4} <= set((energies == 0).sum(dim=1).tolist())


def normal_density(x: np.ndarray, mean: float, std: float) -> torch.Tensor:
    return torch.as_tensor(stats.norm(2 * (math.log10(mean) + 1.5), 2 * std).logpdf(x))


@pytest.mark.parametrize("augment", ["none", "rotate"])
@pytest.mark.parametrize("name", ["first_layer", "next_layer"])
@pytest.mark.parametrize("std", [0.1, 0.3])
def test_volume_in_the_logarithmic_space(store, name, std, augment):
    """It does not depend on how the layer is turned."""
    part = inductive(store, fill_mean=2e-3, fill_std=std, augment=augment).component(name)
    rows = part.rows(store)
    target, _, found = part.measured_batch(store, rows, draws(), DOUBLE)
    hit = torch.pow(10.0, target / 2 - 1.5) > 0.05
    energies = torch.pow(10.0, target / 2 - 1.5)
    per_hit = torch.log(2 / (math.log(10) * energies)).where(hit, 0.0)
    per_empty = normal_density(target.numpy(), 2e-3, std).where(~hit, 0.0)
    assert hit.sum() == (voxels_of(store, rows) > 0).sum()
    same(found, per_hit.sum(dim=1) - per_empty.sum(dim=1))


@pytest.mark.parametrize("name", ["first_layer", "next_layer"])
@pytest.mark.parametrize(("noise", "alpha"), [(5e-3, 1e-6), (1e-4, 1e-3), (0.5, 1e-6)])
def test_volume_of_shares_is_that_at_a_fixed_scale(store, name, noise, alpha):
    fields = {"voxel_space": "share", "rescale": "published", "voxel_noise": noise, "alpha": alpha}
    part = inductive(store, **fields).component(name)
    rows = part.rows(store)
    voxels = voxels_of(store, rows)
    target, _, found = part.measured_batch(store, rows, draws(), DOUBLE)
    shape = voxels.shape if name == "first_layer" else (2, *voxels.shape)
    fill = torch.rand(shape, generator=draws(), dtype=DOUBLE)
    noisy = voxels + noise * (fill if name == "first_layer" else fill[0])
    scale = noisy.sum(dim=1, keepdim=True)

    def fixed(energies: torch.Tensor) -> torch.Tensor:
        v = alpha + (1 - 2 * alpha) * energies / scale
        return torch.log(v) - torch.log1p(-v)

    same(fixed(noisy), target)
    empty = (voxels == 0).sum(dim=1)
    assert empty.max() == 8
    same(found, slopes_of(fixed, noisy) + empty * math.log(noise))


def filling(values: np.ndarray, noise: float) -> float:
    """Sum of the log densities [1/MeV] of fillings about 1 keV, by quadrature over the noise."""
    plain = stats.lognorm(s=0.2 * math.log(10), scale=1e-3)
    if not noise:
        return float(plain.logpdf(values).sum())
    nodes, weights = np.polynomial.legendre.leggauss(300)
    drawn = 0.5 * noise * (nodes + 1)
    return float(np.log((plain.pdf(values[:, None] - drawn) * weights).sum(axis=1) / 2).sum())


@pytest.mark.parametrize("network", ["per-layer", "shared"])
@pytest.mark.parametrize("noise", [0.0, 3e-3])
@pytest.mark.parametrize("alpha", [1e-2, 1e-4])
def test_volume_of_layerwise_voxels(store, network, noise, alpha):
    built = layerwise(store, network=network, voxel_noise=noise, alpha=alpha, rescale="none")
    part = built.component("layer_02" if network == "per-layer" else "layers")
    rows = part.rows(store)[:40]
    voxels = voxels_of(store, rows)
    target, _, found = part.measured_batch(store, rows, draws(), DOUBLE)
    top = torch.as_tensor(store.layer_maxima)[rows[:, 1]][:, None].double() + 1e-3
    v = (torch.sigmoid(target) - alpha) / (1 - 2 * alpha)
    noisy = (torch.pow(10.0, 7 * (v - 1)) - 1e-7) * top

    def mapped(energies: torch.Tensor) -> torch.Tensor:
        u = 1 + torch.log10(energies / top + 1e-7) / 7
        v = alpha + (1 - 2 * alpha) * u
        return torch.log(v) - torch.log1p(-v)

    below = noisy <= top * (1 - 1e-9)
    same(mapped(noisy), target)
    expected = slopes_of(mapped, noisy)
    for row in range(len(rows)):
        expected[row] -= filling(noisy[row][voxels[row] == 0].numpy(), noise)
    assert below.all(dim=1).sum() > len(rows) / 2
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=2e-4)


@pytest.mark.parametrize("scheme", [inductive, layerwise])
def test_rows_beyond_the_fitted_range_have_no_density_where_a_map_ends(store, scheme):
    """Held-out showers may exceed the largest of the training split; what a map clamps is never generated."""
    built = scheme(store)
    incident, voxels = showers(3)
    builder = LayerStoreBuilder(CYLINDER, tuple(range(LAYERS)))
    builder.add_dense(np.arange(COUNT), incident / 50, [50 * v for v in voxels])
    held_out = builder.build()
    ends = {"inductive": {"layer_energies"}}.get(built.config.kind, set(built.components))
    for name in built.components:
        part = built.component(name)
        target, _, volume = part.measured_batch(held_out, part.rows(held_out), draws())
        assert target.isfinite().all()
        assert volume.isneginf().any() == (name in ends)
        assert (volume.isfinite() | volume.isneginf()).all()
        _, _, inside = part.measured_batch(store, part.rows(store), draws())
        assert inside.isfinite().all()
