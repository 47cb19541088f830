"""The spline against nflows and autograd, in float64, at sizes where errors show."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline
from pydantic import ValidationError

from caloray.flows.spline import SplineConfig, spline_forward, spline_inverse

PUBLISHED = SplineConfig()
COARSE = SplineConfig(bins=5, tail_bound=3.0, min_width=1e-3, min_height=1e-3, min_derivative=1e-3)


def draw(
    config: SplineConfig, rows: int, dims: int, scale: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs over inside and tails, raw parameters of the given spread."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.empty(rows, dims, dtype=torch.float64).uniform_(-1.2, 1.2, generator=generator)
    raw = torch.randn(rows, config.n_raw, dims, dtype=torch.float64, generator=generator)
    return x * config.tail_bound, raw * scale


def oracle(
    x: torch.Tensor, raw: torch.Tensor, config: SplineConfig, *, inverse: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nflows' own spline on the same parameters."""
    k, per_dim = config.bins, raw.transpose(1, 2)
    return unconstrained_rational_quadratic_spline(
        x,
        per_dim[..., :k].contiguous(),
        per_dim[..., k : 2 * k].contiguous(),
        per_dim[..., 2 * k :].contiguous(),
        inverse=inverse,
        tails="linear",
        tail_bound=config.tail_bound,
        min_bin_width=config.min_width,
        min_bin_height=config.min_height,
        min_derivative=config.min_derivative,
    )


@pytest.mark.parametrize("config", [PUBLISHED, COARSE])
def test_forward_is_nflows(config: SplineConfig) -> None:
    x, raw = draw(config, 400, 30, 1.5, 0)
    y, log_slope = spline_forward(x, raw, config)
    expected, expected_log = oracle(x, raw, config)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_slope, expected_log, rtol=0, atol=1e-9)


@pytest.mark.parametrize("config", [PUBLISHED, COARSE])
def test_inverse_is_nflows(config: SplineConfig) -> None:
    y, raw = draw(config, 400, 30, 1.0, 1)
    x, log_slope = spline_inverse(y, raw, config)
    expected, expected_log = oracle(y, raw, config, inverse=True)
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(log_slope, expected_log, rtol=0, atol=1e-6)


@pytest.mark.parametrize("config", [PUBLISHED, COARSE])
def test_backward_is_that_of_nflows(config: SplineConfig) -> None:
    """The hand-written backward against autograd through nflows, for inputs and parameters, both outputs."""
    x, raw = draw(config, 200, 20, 1.0, 2)
    weight = torch.randn(2, 200, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    grads = []
    for function in (spline_forward, oracle):
        xi, ri = x.clone().requires_grad_(), raw.clone().requires_grad_()
        y, log_slope = function(xi, ri, config)
        (y * weight[0] + log_slope * weight[1]).sum().backward()
        grads.append((xi.grad, ri.grad))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_gradcheck_against_finite_differences() -> None:
    x, raw = draw(COARSE, 6, 3, 1.0, 4)
    x = x.requires_grad_()
    raw = raw.requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: spline_forward(a, b, COARSE), (x, raw))


@given(scale=st.floats(0.1, 6.0), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_round_trip_and_log_slopes_cancel(scale: float, seed: int) -> None:
    x, raw = draw(COARSE, 50, 8, scale, seed)
    y, forward_log = spline_forward(x, raw, COARSE)
    back, inverse_log = spline_inverse(y, raw, COARSE)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)
    torch.testing.assert_close(inverse_log, -forward_log, rtol=0, atol=1e-3)


def test_tails_are_the_identity() -> None:
    x = torch.tensor([[-14.5, 14.001, 1e6, -1e30]], dtype=torch.float64)
    raw = torch.randn(1, PUBLISHED.n_raw, 4, dtype=torch.float64)
    for function in (spline_forward, spline_inverse):
        y, log_slope = function(x, raw, PUBLISHED)
        assert torch.equal(y, x)
        assert torch.equal(log_slope, torch.zeros_like(x))


@pytest.mark.parametrize("scale", [5.0, 20.0])
def test_float32_survives_where_nflows_aborts(scale: float) -> None:
    """Large raw parameters make the discriminant negative in float32; no row may be lost to it."""
    x, raw = draw(PUBLISHED, 4000, 20, scale, 5)
    y, _ = spline_forward(x.float(), raw.float(), PUBLISHED)
    back, log_slope = spline_inverse(y, raw.float(), PUBLISHED)
    assert torch.isfinite(back).all()
    assert torch.isfinite(log_slope).all()
    assert (back >= -14 * 1.2).all()


def test_float32_forward_keeps_float32_accuracy() -> None:
    x, raw = draw(PUBLISHED, 2000, 20, 1.0, 6)
    exact, _ = spline_forward(x, raw, PUBLISHED)
    single, _ = spline_forward(x.float(), raw.float(), PUBLISHED)
    error = (single.double() - exact).abs()
    assert error.median() < 2e-6
    assert error.quantile(0.999) < 1e-3


def test_bins_must_fit() -> None:
    with pytest.raises(ValidationError, match="below 1/bins"):
        SplineConfig(bins=10, min_width=0.1)
