"""From flow space to MeV: the published energy bias, its cure, and exact layer energies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caloray.geometry import load_geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.inductive_components import Preprocessing
from caloray.schemes.inductive_config import InductiveConfig

STATISTICS = TrainingStatistics(10, 2.0, 6e4, 1e3, 1e6)
# Geometry, layer energy [MeV], factor by which the published model scales real voxels.
BIAS = [
    ("ds2", 5.0, 0.93),
    ("ds2", 10.0, 0.965),
    ("ds3", 5.0, 0.69),
    ("ds3", 10.0, 0.82),
    ("ds3", 100.0, 0.978),
]


def through_a_perfect_flow(name: str, energy: float, rescale: str) -> np.ndarray:
    """Layer energies after encoding and decoding one hit of ``energy`` in otherwise empty layers."""
    maps = Preprocessing(
        InductiveConfig(voxel_space="share", rescale=rescale, alpha=1e-9), load_geometry(name), STATISTICS
    )
    size = maps.geometry.layer_sizes[0]
    draws = torch.Generator().manual_seed(1)
    voxels = torch.zeros(400, size, dtype=torch.float64)
    voxels[:, 7] = energy
    fill = torch.rand(voxels.shape, generator=draws, dtype=torch.float64)
    x = maps.encode(voxels, fill)
    decoded = maps.decode(x, torch.full((400,), energy, dtype=torch.float64))
    return decoded.sum(dim=1).numpy()


@pytest.mark.parametrize(("name", "energy", "factor"), BIAS)
def test_the_published_bias_and_its_cures(name, energy, factor):
    size = load_geometry(name).layer_sizes[0]
    mean_noise = size * 2.5e-3
    assert energy / (energy + mean_noise) == pytest.approx(factor, abs=6e-3)
    published = through_a_perfect_flow(name, energy, "published").mean()
    corrected = through_a_perfect_flow(name, energy, "noise-corrected").mean()
    assert published / energy == pytest.approx(energy / (energy + mean_noise), abs=1.5e-3)
    assert corrected / energy == pytest.approx(1.0, abs=1.5e-3)
    np.testing.assert_allclose(through_a_perfect_flow(name, energy, "renormalise"), energy, rtol=1e-12)


@given(st.integers(0, 2**32), st.sampled_from([0.1, 3.0, 14.0]), st.sampled_from(["log", "share"]))
def test_layer_sums_equal_the_sampled_layer_energies(seed, spread, space):
    """Exactly, up to float32, the form in which showers are stored."""
    config = InductiveConfig(voxel_space=space, rescale="renormalise")
    maps = Preprocessing(config, load_geometry("ds2"), STATISTICS)
    draws = torch.Generator().manual_seed(seed)
    x = spread * torch.randn(20, 144, generator=draws, dtype=torch.float64)
    energies = 10 ** (6 * torch.rand(20, generator=draws, dtype=torch.float64) - 2)
    decoded = maps.decode(x, energies).float()
    sums = decoded.double().sum(dim=1)
    empty = (energies < config.threshold) | (sums == 0)
    assert (decoded[empty] == 0).all()
    # With this many voxels one is above the threshold almost always.
    assert (sums == 0).sum() <= (energies < config.threshold).sum() + (spread == 0.1) * 20
    np.testing.assert_allclose(sums[~empty], energies[~empty], rtol=1e-6)
    assert decoded[decoded > 0].min() >= config.threshold * (1 - 1e-6)


@pytest.mark.parametrize(
    ("space", "rescale"),
    [
        ("share", "published"),
        ("share", "noise-corrected"),
        ("share", "renormalise"),
        ("log", "published"),
        ("log", "renormalise"),
    ],
)
def test_nothing_below_the_threshold_and_nan_is_not_hidden(space, rescale):
    config = InductiveConfig(voxel_space=space, rescale=rescale)
    maps = Preprocessing(config, load_geometry("ds2"), STATISTICS)
    draws = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(50, 144, generator=draws, dtype=torch.float64) - 2 - 4 * (space == "share")
    energies = torch.linspace(0.02, 40, 50, dtype=torch.float64)
    clean = maps.decode(x, energies)
    assert (clean == 0).any()
    assert clean[clean > 0].min() >= config.threshold
    x[3, 100] = torch.nan
    found = maps.decode(x, energies)
    assert found[3].isnan().any()
    others = [i for i in range(50) if i != 3]
    assert torch.equal(found[others], clean[others])
    if (space, rescale) != ("log", "published"):  # which alone does not look at the layer's energy
        energies[5] = torch.nan
        assert maps.decode(x, energies)[5].isnan().any()


@pytest.mark.parametrize("rescale", ["published", "renormalise"])
def test_log_space_gives_showers_back(rescale):
    """Showers above the threshold come back whole; what was empty is empty again."""
    config = InductiveConfig(rescale=rescale)
    maps = Preprocessing(config, load_geometry("ds2"), STATISTICS)
    draws = torch.Generator().manual_seed(3)
    voxels = torch.rand(200, 144, generator=draws, dtype=torch.float64) ** 8 * 500
    voxels[voxels < config.threshold] = 0
    x = maps.encode(voxels, torch.rand(voxels.shape, generator=draws, dtype=torch.float64))
    assert x.abs().max() < config.flows.next_layer.spline.tail_bound
    decoded = maps.decode(x, voxels.sum(dim=1))
    assert torch.equal(decoded == 0, voxels == 0)
    np.testing.assert_allclose(decoded, voxels, rtol=1e-9)


def test_noise_correction_needs_noise():
    with pytest.raises(ValidationError, match="noise-corrected belongs to voxel_space: share"):
        InductiveConfig(voxel_space="log", rescale="noise-corrected")


@pytest.mark.parametrize("space", ["unit", "absolute"])
def test_layer_energies_below_the_threshold_are_zero(toy, space):
    part = toy.scheme(energy_space=space, threshold=10.0).component("layer_energies")
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 8
    found = part.decode(x, torch.full((200,), 2e3, dtype=torch.float64))
    assert (found == 0).any()
    assert found[found > 0].min() >= 10
    x[0, 1] = torch.nan
    assert part.decode(x[:1], torch.tensor([2e3], dtype=torch.float64)).isnan().any()
