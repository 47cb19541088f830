"""Slopes of the maps against automatic differentiation, densities of the fillings against what is drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from caloray.preprocess.log_logit import LogLogit
from caloray.preprocess.log_space import log_space_log_volume, to_log_space
from caloray.preprocess.logit import expit, logit, logit_log_slope
from caloray.preprocess.unit_space import to_unit_space, unit_space_log_det

DOUBLE = torch.float64
NOISES = [0.0, 1e-6, 3e-4, 2e-3, 5e-2]


def slopes(function, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and log |derivative| of an elementwise function."""
    at = at.clone().requires_grad_()
    value = function(at)
    (slope,) = torch.autograd.grad(value.sum(), at)
    return value.detach(), slope.abs().log()


def exact(found, expected, **tolerance) -> None:
    torch.testing.assert_close(found, expected, **{"rtol": 1e-9, "atol": 1e-9, **tolerance})


def filled(noise: float, **changes) -> LogLogit:
    fixed = {"alpha": 1e-2, "threshold": 1e3, "fill_mean": 1e-3, "fill_std": 0.2, "voxel_noise": noise}
    return LogLogit(**{**fixed, **changes})


def uniform(count: int, seed: int) -> torch.Tensor:
    return torch.rand((1, count), generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@pytest.mark.parametrize("alpha", [1e-6, 1e-3, 0.2])
def test_slope_of_the_logit(alpha):
    shares = torch.linspace(1e-7, 1 - 1e-7, 301, dtype=DOUBLE)
    x, expected = slopes(lambda u: logit(u, alpha), shares)
    exact(logit_log_slope(x, alpha), expected, rtol=1e-7, atol=1e-7)
    _, back = slopes(lambda y: expit(y, alpha), x)
    exact(logit_log_slope(x, alpha), -back, rtol=1e-7, atol=1e-7)


def test_beyond_the_ends_the_logit_has_the_slope_there():
    x = logit(torch.tensor([-0.5, 0.0, 1.0, 7.0], dtype=DOUBLE), 1e-3)
    found = logit_log_slope(x, 1e-3)
    exact(found, torch.full((4,), math.log((1 - 2e-3) / (1e-3 * (1 - 1e-3))), dtype=DOUBLE))


def test_slope_of_the_logit_far_out_is_finite_in_float32():
    found = logit_log_slope(torch.tensor([-80.0, 80.0]), 1e-6)
    torch.testing.assert_close(found, torch.tensor([80.0, 80.0]))


@pytest.mark.parametrize("layers", [2, 3, 7, 45])
def test_determinant_of_the_unit_space(layers):
    """Energies over seven decades in random order."""
    draws = torch.Generator().manual_seed(layers)
    energies = 10 ** (7 * torch.rand((20, layers), generator=draws, dtype=DOUBLE) - 3)
    incident = energies.sum(dim=1) * (1 + torch.rand(20, generator=draws, dtype=DOUBLE))
    found = unit_space_log_det(energies, incident, 1.7)
    for row in range(20):

        def shares(values: torch.Tensor, row: int = row) -> torch.Tensor:
            return to_unit_space(values[None], incident[row : row + 1], 1.7)[0]

        jacobian = torch.autograd.functional.jacobian(shares, energies[row])
        exact(found[row], torch.linalg.slogdet(jacobian).logabsdet, rtol=1e-8, atol=1e-6)


def test_slope_of_the_logarithmic_space():
    energies = torch.logspace(-3, 5, 50, dtype=DOUBLE)[None]
    fill = torch.full_like(energies, 0.5)
    x, expected = slopes(lambda e: to_log_space(e, fill, 1e-3, 0.2), energies)
    exact(log_space_log_volume(energies, x, 1e-3, 0.2), expected)


@pytest.mark.parametrize(("mean", "spread"), [(1e-3, 0.2), (4e-5, 0.05), (1e-2, 0.6)])
def test_filling_of_the_logarithmic_space_has_its_density(mean, spread):
    centre = 2 * (math.log10(mean) + 1.5)
    x = torch.linspace(centre - 20 * spread, centre + 20 * spread, 4001, dtype=DOUBLE)[None]
    density = torch.exp(-log_space_log_volume(torch.zeros_like(x), x, mean, spread))
    assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-9)
    drawn = to_log_space(torch.zeros((1, 200_000), dtype=DOUBLE), uniform(200_000, 1), mean, spread)
    assert_histogram(drawn[0].numpy(), x[0].numpy(), density[0].numpy())


def assert_histogram(drawn: np.ndarray, grid: np.ndarray, density: np.ndarray) -> None:
    """The distribution function of the density is that of the drawn numbers (Kolmogorov-Smirnov)."""
    distribution = integrate.cumulative_trapezoid(density, grid, initial=0)
    found = stats.kstest(drawn, lambda value: np.interp(value, grid, distribution))
    assert found.pvalue > 1e-3, found


@pytest.mark.parametrize("alpha", [1e-6, 1e-2, 0.3])
def test_slope_of_the_voxel_map(alpha):
    draws = torch.Generator().manual_seed(2)
    maxima = torch.tensor([[7.0], [3e4]], dtype=DOUBLE)
    energies = maxima * 10 ** (-6.9 * torch.rand((2, 100), generator=draws, dtype=DOUBLE))
    some = filled(0.0, alpha=alpha)
    x, expected = slopes(lambda e: some.encode(e, maxima, torch.zeros_like(e)), energies)
    exact(some.log_slope(energies, x, maxima), expected, rtol=1e-7, atol=1e-7)


def test_above_the_maximum_the_voxel_map_has_the_slope_at_it():
    maxima = torch.tensor([[7.0]], dtype=DOUBLE)
    energies = torch.tensor([[7.001, 9.0]], dtype=DOUBLE)
    some = filled(0.0)
    x = some.encode(energies, maxima, torch.zeros_like(energies))
    slope = some.log_slope(energies, x, maxima)
    assert torch.equal(slope[:, 0], slope[:, 1])
    v = 1 - 1e-2
    expected = math.log((1 - 2e-2) / (v * (1 - v)) / (7 * math.log(10) * (1 + 1e-7) * 7.001))
    assert slope[0, 0].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("spread", [0.05, 0.2, 0.5])
def test_filling_of_the_voxel_map_has_its_density(noise, spread):
    some = filled(noise, fill_std=spread)
    fill, extra = uniform(200_000, 3), uniform(200_000, 4)
    drawn = some.noisy(torch.zeros_like(fill), fill, extra)
    low, high = drawn.min().item() * 0.5, drawn.max().item() + 0.5 * noise
    grid = np.unique(np.concatenate([np.geomspace(low, high, 100_000), np.linspace(low, high, 100_000)]))
    density = some.fill_log_density(torch.as_tensor(grid)[None])[0].exp().numpy()
    assert np.trapezoid(density, grid) == pytest.approx(1, abs=2e-5)
    assert_histogram(drawn[0].numpy(), grid, density)
    assert some.fill_log_density(drawn).isfinite().all()


@pytest.mark.parametrize("noise", NOISES[1:])
def test_noisy_filling_is_the_convolution(noise):
    """Against quadrature of the log-normal density over the noise, in the tails as well."""
    some, plain = filled(noise), stats.lognorm(s=0.2 * math.log(10), scale=1e-3)
    fill = torch.tensor([[1e-6, 1e-3, 0.3, 0.9, 1 - 1e-3, 1 - 1e-6]], dtype=DOUBLE)
    for at in (0.0, 0.4, 0.999):
        energies = some.noisy(torch.zeros_like(fill), fill, torch.full_like(fill, at))
        found = some.fill_log_density(energies)[0].exp().numpy()
        for value, density in zip(energies[0].tolist(), found, strict=True):
            edges = [max(value - noise, 1e-5), value]
            inside = [p for p in (5e-4, 1e-3, 2e-3, 5e-3) if edges[0] < p < edges[1]]
            area, _ = integrate.quad(plain.pdf, *edges, points=inside or None, epsabs=0, epsrel=1e-10)
            assert density == pytest.approx(area / noise, rel=1e-6)


def test_narrow_noise_has_the_density_of_the_filling_itself():
    energies = 1e-3 * 10 ** torch.linspace(-1, 1, 41, dtype=DOUBLE)[None]
    exact(
        filled(1e-9).fill_log_density(energies),
        filled(0.0).fill_log_density(energies),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("noise", [0.0, 1e-3, 5e-2])
def test_fillings_cut_at_the_threshold_have_a_finite_density(noise):
    some = filled(noise, threshold=4e-3)
    fill, extra = uniform(100_000, 5), uniform(100_000, 6)
    drawn = some.noisy(torch.zeros_like(fill), fill, extra)
    cut = drawn == some.threshold
    assert cut.any()
    found = some.fill_log_density(drawn)
    assert found.isfinite().all()
    exact(found[cut], filled(noise).fill_log_density(drawn)[cut])
