"""The logit map against its formula."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from caloray.preprocess.logit import expit, logit

ALPHAS = st.sampled_from([1e-6, 1e-4, 1e-2])


def test_logit_is_the_formula():
    u = np.linspace(0, 1, 1001)
    for alpha in (1e-6, 1e-2):
        v = alpha + (1 - 2 * alpha) * u
        found = logit(torch.from_numpy(u), alpha).numpy()
        np.testing.assert_allclose(found, np.log(v / (1 - v)), rtol=1e-9, atol=1e-10)


def test_expit_is_the_formula():
    x = np.linspace(-13, 13, 1001)
    found = expit(torch.from_numpy(x), 1e-6).numpy()
    np.testing.assert_allclose(found, (1 / (1 + np.exp(-x)) - 1e-6) / (1 - 2e-6), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("energy", "expected"), [(0.0, -13.82), (0.01, -13.67), (0.065, -13.12), (0.65, -11.42)]
)
def test_the_published_floor(energy, expected):
    """Below 0.065 MeV the published condition can hardly tell energies apart."""
    found = logit(torch.tensor([energy / 6.5e4], dtype=torch.float64), 1e-6).item()
    assert found == pytest.approx(expected, abs=5e-3)


@given(st.floats(0, 1), ALPHAS)
def test_there_and_back(u, alpha):
    there = logit(torch.tensor([u], dtype=torch.float64), alpha)
    assert abs(there.item()) <= math.log((1 - alpha) / alpha) + 1e-9
    assert expit(there, alpha).item() == pytest.approx(u, abs=1e-12, rel=1e-9)


@given(st.floats(-1e6, 1e6), ALPHAS)
def test_back_never_leaves_the_interval(x, alpha):
    share = expit(torch.tensor([x], dtype=torch.float64), alpha).item()
    assert 0 <= share <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_out_numbers_do_not_overflow(dtype):
    """The published exp(x) / (1 + exp(x)) is NaN there."""
    assert expit(torch.tensor([-1e4, 1e4, math.inf, -math.inf], dtype=dtype), 1e-6).tolist() == [0, 1, 1, 0]


def test_shares_outside_are_clamped_and_nan_stays():
    found = logit(torch.tensor([-0.5, 1.5, math.nan], dtype=torch.float64), 1e-6)
    inside = logit(torch.tensor([0.0, 1.0], dtype=torch.float64), 1e-6)
    assert torch.equal(found[:2], inside)
    assert found[2].isnan()
    assert expit(found[2:], 1e-6).isnan().all()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), ALPHAS)
def test_order_is_kept(shares, alpha):
    u = torch.tensor(sorted(shares), dtype=torch.float64)
    assert (logit(u, alpha).diff() >= 0).all()
