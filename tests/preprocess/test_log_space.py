"""The logarithmic voxel scale: exact round trip, filling far from the signal."""

from __future__ import annotations

import numpy as np
import torch

from caloray.preprocess.log_space import from_log_space, to_log_space

THRESHOLD = 0.5e-3 / 0.033


def test_signal_comes_back_and_empty_voxels_stay_empty() -> None:
    generator = np.random.default_rng(1)
    energies = np.exp(generator.uniform(np.log(THRESHOLD), np.log(3e4), (200, 30)))
    energies[generator.random(energies.shape) < 0.6] = 0.0
    voxels = torch.as_tensor(energies)
    fill = torch.as_tensor(generator.random(energies.shape))
    x = to_log_space(voxels, fill, mean=1e-3, spread=0.2)
    back = from_log_space(x, THRESHOLD * (1 - 1e-12))
    torch.testing.assert_close(back, voxels, rtol=1e-12, atol=0)


def test_scale_is_the_documented_one() -> None:
    voxels = torch.tensor([[1.0, 10.0, 1e3, THRESHOLD]], dtype=torch.float64)
    x = to_log_space(voxels, torch.full_like(voxels, 0.5), mean=1e-3, spread=0.2)
    expected = 2 * (np.log10(voxels.numpy()) + 1.5)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-14)


def test_filling_is_log_normal() -> None:
    generator = np.random.default_rng(2)
    fill = torch.as_tensor(generator.random((1000, 100)))
    x = to_log_space(torch.zeros_like(fill), fill, mean=1e-3, spread=0.2)
    decades = x.numpy() / 2 - 1.5
    assert abs(decades.mean() + 3.0) < 0.003
    assert abs(decades.std() - 0.2) < 0.002


def test_extreme_uniforms_stay_finite_and_below_the_threshold() -> None:
    fill = torch.tensor([[0.0, 1.0 - 2**-24]], dtype=torch.float32)
    x = to_log_space(torch.zeros_like(fill), fill, mean=1e-3, spread=0.2)
    assert torch.isfinite(x).all()
    assert torch.equal(from_log_space(x, THRESHOLD), torch.zeros_like(fill))
