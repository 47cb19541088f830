"""Jacobi iteration: as exact as the walk, never more iterations than steps, each sample for itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caloray.flows.incremental import IncrementalInverter
from caloray.flows.jacobi import JacobiInverter, Relaxation
from caloray.flows.masked import MaskedSpline
from caloray.flows.spline import SplineConfig, spline_inverse

NETWORKS = [
    {"features": 30, "hidden": 12},
    {"features": 30, "hidden": 12, "degrees": "nflows"},
    {"features": 30, "hidden": 40, "network": "residual"},
    {"features": 30, "hidden": 40, "autoregressive_step": 4, "context_output": "first"},
    {"features": 29, "hidden": 40, "network": "residual", "autoregressive_step": 4, "context_output": "all"},
]
PANELS = [1, 7, 16, 30, None]


def build(features: int, hidden: int, *, scale: float = 1.5, **choice: object) -> MaskedSpline:
    torch.manual_seed(4)
    made = MaskedSpline(features, hidden, 3, 3, SplineConfig(), **choice).double().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(scale)
        if made.context_output is not None:
            made.context_output.weight.normal_()
    return made


def chain(features: int, coupling: float) -> MaskedSpline:
    """An AR(1)-like network: each dimension's spline moves with the dimension before it, and nothing else.

    Hidden unit d is relu(x_d + 20), a copy of x_d; the first width logit of dimension d + 1 follows it.
    """
    made = MaskedSpline(features, features - 1, 3, 1, SplineConfig()).double().eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.zero_()
        net = made.autoregressive_net
        net.initial_layer.weight.copy_(torch.eye(features - 1, features))
        net.initial_layer.bias.fill_(20.0)
        for dim in range(1, features):
            net.final_layer.weight[dim * made.spline.n_raw, dim - 1] = coupling
            net.final_layer.bias[dim * made.spline.n_raw] = -20 * coupling
    return made


def draw(made: MaskedSpline, rows: int = 40, spread: float = 7.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    noise = spread * torch.randn(rows, made.features, dtype=torch.float64, generator=generator)
    return noise, torch.randn(rows, 3, dtype=torch.float64, generator=generator)


def walk(made: MaskedSpline, noise: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
    return IncrementalInverter(made.schedule(), made.spline)(noise, context)


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_panels_of_any_size_give_the_walk(network: dict[str, object], panel: int | None) -> None:
    made = build(**network)
    noise, context = draw(made)
    expected, expected_log = walk(made, noise, context)
    found = JacobiInverter(made.schedule(), made.spline, panel=panel).solution(noise, context)
    torch.testing.assert_close(found.x, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.log_det, expected_log, rtol=0, atol=1e-8)


@pytest.mark.parametrize("panel", PANELS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_no_panel_takes_more_iterations_than_steps(network: dict[str, object], panel: int | None) -> None:
    made = build(**network, scale=4.0)
    inverter = JacobiInverter(made.schedule(), made.spline, panel=panel, tolerance=0.0)
    sweeps = inverter.solution(*draw(made)).sweeps
    steps = [part.steps for part in inverter.panels]
    assert sum(steps) == len(made.schedule().steps)
    assert len(sweeps) == len(steps)
    assert all(1 <= count <= limit for count, limit in zip(sweeps, steps, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_iteration_makes_one_more_step_exact(dtype: torch.dtype) -> None:
    """In a strongly coupled chain nothing converges early: D iterations are needed, and D are enough."""
    features = 8
    made = chain(features, coupling=3.0).to(dtype)
    noise, context = (part.to(dtype) for part in draw(made, spread=4.0))
    expected, _ = walk(made, noise, context)
    run = Relaxation(JacobiInverter(made.schedule(), made.spline), noise.t().contiguous(), context)
    run.start()
    run.begin(0)
    for exact in range(1, features + 1):
        run.sweep(0)
        error = (run.x.t() - expected).abs().amax(dim=0)
        assert error[:exact].max() < 1e5 * torch.finfo(dtype).eps
        if exact < features:
            assert error[exact:].max() > 1e-2
    found = JacobiInverter(made.schedule(), made.spline).solution(noise, context)
    assert found.sweeps == (features,)


def test_weak_coupling_needs_few_iterations() -> None:
    made = chain(60, coupling=1e-3)
    noise, context = draw(made, spread=4.0)
    found = JacobiInverter(made.schedule(), made.spline).solution(noise, context)
    assert found.sweeps[0] < 10
    torch.testing.assert_close(found.x, walk(made, noise, context)[0], rtol=0, atol=1e-12)


def test_a_looser_tolerance_stops_earlier_and_is_met() -> None:
    made = build(60, 80, scale=1.0)
    noise, context = draw(made)
    exact = JacobiInverter(made.schedule(), made.spline).solution(noise, context)
    loose = JacobiInverter(made.schedule(), made.spline, tolerance=1e-4).solution(noise, context)
    assert loose.sweeps[0] < exact.sweeps[0]
    assert 0 < (loose.x - exact.x).abs().max() < 1e-4


def test_settled_samples_are_frozen() -> None:
    """Other samples of a block, hard ones or NaN, do not change a single bit of a sample."""
    made = build(30, 40, scale=2.0).float()
    inverter = JacobiInverter(made.schedule(), made.spline, tolerance=1e-3)
    noise, context = (part.float() for part in draw(made))
    easy, hard = noise.clone(), noise.clone()
    easy[1:] = 100.0
    hard[1] = float("nan")
    (easy_x, easy_log, few), (hard_x, hard_log, many) = (
        inverter.solution(values, context) for values in (easy, hard)
    )
    assert few[0] < many[0]
    assert torch.equal(easy_x[0], hard_x[0])
    assert torch.equal(easy_log[0], hard_log[0])


def test_nan_does_not_keep_it_going() -> None:
    made = build(30, 40, scale=1.0)
    inverter = JacobiInverter(made.schedule(), made.spline)
    noise, context = draw(made)
    count = inverter.solution(noise, context).sweeps[0]
    noise[3, 2], context[4, 0] = float("nan"), float("nan")
    found = inverter.solution(noise, context)
    assert found.sweeps[0] <= count
    assert found.x.isnan().any(dim=1).nonzero().flatten().tolist() == [3, 4]


def test_only_nan_ends_at_once() -> None:
    made = build(30, 40)
    noise, context = draw(made)
    found = JacobiInverter(made.schedule(), made.spline).solution(noise * float("nan"), context)
    assert found.sweeps == (1,)


def test_another_spline_solver_is_used() -> None:
    made = build(10, 12)
    calls = []

    def solve(y: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
        calls.append(tuple(raw.shape))
        return spline_inverse(y, raw, config)

    noise, context = draw(made, rows=6)
    found = JacobiInverter(made.schedule(), made.spline, panel=5, solve=solve).solution(noise, context)
    assert calls == [(1, made.spline.n_raw, 5 * 6)] * sum(found.sweeps)
    torch.testing.assert_close(found.x, walk(made, noise, context)[0], rtol=0, atol=1e-10)
