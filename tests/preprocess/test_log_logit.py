"""The voxel map of convolutional L2LFlows."""

from __future__ import annotations

import math

import pytest
import torch

from caloray.preprocess.log_logit import LogLogit

MAP = LogLogit(alpha=1e-2, threshold=15.15e-3, fill_mean=1e-3, fill_std=0.2, voxel_noise=0.0)


def test_worked_values_of_the_published_map():
    """A layer whose largest voxel is 5 GeV: 1 keV, the threshold, 1 MeV and the maximum itself."""
    energies = torch.tensor([[1e-3, 15.15e-3, 1.0, 5e3]], dtype=torch.float64)
    x = MAP.encode(energies, torch.tensor([[5e3]], dtype=torch.float64), torch.full((1, 4), 0.5))
    expected = torch.tensor([[-2.49, -1.27, -0.11, 4.60]], dtype=torch.float64)
    torch.testing.assert_close(x, expected, rtol=0, atol=5e-3)


def test_round_trip_above_the_threshold():
    energies = torch.logspace(math.log10(0.016), 3.5, 200, dtype=torch.float64)[None]
    maxima = torch.tensor([[4e3]], dtype=torch.float64)
    back = MAP.decode(MAP.encode(energies, maxima, torch.rand(1, 200)), maxima)
    torch.testing.assert_close(back, energies, rtol=1e-9, atol=1e-9)


def test_empty_voxels_are_filled_below_the_threshold():
    fill = torch.linspace(0, 1, 10_001, dtype=torch.float64)[None, :-1]
    maxima = torch.tensor([[100.0]], dtype=torch.float64)
    back = MAP.decode(MAP.encode(torch.zeros_like(fill), maxima, fill), maxima)
    logs = torch.log10(back)
    assert abs(float(logs.mean()) + 3) < 2e-3
    assert abs(float(logs.std()) - 0.2) < 2e-3
    assert float(back.max()) <= MAP.threshold * (1 + 1e-9)


def test_noise_keeps_the_mean_and_never_lifts_an_empty_voxel():
    noisy = LogLogit(alpha=1e-2, threshold=2e-3, fill_mean=1e-3, fill_std=0.2, voxel_noise=1e-3)
    noise = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)[None]
    maxima = torch.tensor([[10.0]], dtype=torch.float64)
    hit = noisy.decode(noisy.encode(torch.full_like(noise, 0.5), maxima, noise, noise), maxima)
    assert float(hit.mean()) == pytest.approx(0.5, abs=1e-9)
    assert float(hit.max() - hit.min()) == pytest.approx(1e-3, rel=2e-3)
    empty = noisy.decode(noisy.encode(torch.zeros_like(noise), maxima, noise, noise), maxima)
    assert float(empty.max()) <= 2e-3


def test_each_row_has_its_own_maximum():
    energies = torch.full((2, 3), 1.0, dtype=torch.float64)
    maxima = torch.tensor([[1.0], [1000.0]], dtype=torch.float64)
    x = MAP.encode(energies, maxima, torch.rand(2, 3))
    assert float(x[0, 0]) > 4.5
    assert float(x[1, 0]) < 0.5
    torch.testing.assert_close(MAP.decode(x, maxima), energies)


def test_nothing_generated_is_negative_or_above_the_maximum():
    x = torch.tensor([[-1e6, -50.0, 0.0, 50.0, 1e6]], dtype=torch.float64)
    back = MAP.decode(x, torch.tensor([[7.0]], dtype=torch.float64))
    assert float(back.min()) >= 0
    assert float(back.max()) <= 7.001 * (1 + 1e-12)
