"""The native training spline against nflows, torch and finite differences, for every instruction set here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import torch
from nflows.transforms.splines.rational_quadratic import unconstrained_rational_quadratic_spline
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.masked import MaskedSpline
from caloray.flows.native_spline import NativeSpline, training_spline, usable
from caloray.flows.spline import SplineConfig, _SplineForward, spline_forward
from caloray.native import library

Map = Callable[[Tensor, Tensor, SplineConfig], tuple[Tensor, Tensor]]
DOUBLE, SINGLE = torch.float64, torch.float32
PUBLISHED = SplineConfig()
COARSE = SplineConfig(bins=5, tail_bound=3.0, min_width=1e-3, min_height=1e-3, min_derivative=1e-3)

pytestmark = pytest.mark.skipif(library.load() is None, reason=library.why_not())


@pytest.fixture(params=library.isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CALORAY_NATIVE_ISA", request.param)
    return str(request.param)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def native(x: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    return NativeSpline.apply(x, raw, config)


def in_torch(x: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    return _SplineForward.apply(x, raw, config)


def nflows(x: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    k, per_dim = config.bins, raw.transpose(1, 2)
    return unconstrained_rational_quadratic_spline(
        x,
        per_dim[..., :k].contiguous(),
        per_dim[..., k : 2 * k].contiguous(),
        per_dim[..., 2 * k :].contiguous(),
        tails="linear",
        tail_bound=config.tail_bound,
        min_bin_width=config.min_width,
        min_bin_height=config.min_height,
        min_derivative=config.min_derivative,
    )


def draw(
    config: SplineConfig, rows: int, dims: int, scale: float = 1.0, reach: float = 1.2
) -> tuple[Tensor, Tensor]:
    """Inputs up to ``reach`` tail bounds, raw parameters of the given spread; exact in float32."""
    generator = torch.Generator().manual_seed(dims)
    x = torch.empty(rows, dims).uniform_(-reach, reach, generator=generator) * config.tail_bound
    return x, scale * torch.randn(rows, config.n_raw, dims, generator=generator)


def evaluate(
    function: Map, x: Tensor, raw: Tensor, config: SplineConfig, dtype: torch.dtype = DOUBLE
) -> list[Tensor]:
    """y, log slope and the gradients of a random combination of both by x and raw, in float64."""
    x, raw = (tensor.detach().to(dtype).requires_grad_() for tensor in (x, raw))
    weight = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    y, log_slope = function(x, raw, config)
    (y * weight[0] + log_slope * weight[1]).sum().backward()
    return [tensor.detach().double() for tensor in (y, log_slope, x.grad, raw.grad)]


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("features", [1, 7, 16, 144, 145])
@pytest.mark.parametrize("bins", [2, 8, 10, 31])
def test_float64_is_nflows(isa: str, bins: int, features: int) -> None:
    """Values and autograd's gradients, tails included; rows that are no multiple of a vector, too."""
    config = SplineConfig(bins=bins)
    x, raw = draw(config, 12, features)
    expected = evaluate(nflows, x, raw, config)
    for found, wanted in zip(evaluate(native, x, raw, config), expected, strict=True):
        assert distance(found, wanted) < 1e-12


def test_float32_is_nflows_in_float64_on_tame_inputs(isa: str) -> None:
    """Where nflows' own float32 is off by 1.2e-7 (y), 7e-7 (both gradients); log slopes are near 0 here."""
    x, raw = draw(PUBLISHED, 40, 145, scale=0.1)
    expected = evaluate(nflows, x, raw, PUBLISHED)
    y, log_slope, *gradients = evaluate(native, x, raw, PUBLISHED, SINGLE)
    assert distance(y, expected[0]) < 3e-7
    assert (log_slope - expected[1]).abs().max() < 1e-5
    for found, wanted in zip(gradients, expected[2:], strict=True):
        assert distance(found, wanted) < 1e-6


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize(("bins", "allowance"), [(2, 1.3), (8, 1.0), (10, 1.0), (31, 1.0), (256, 1.0)])
def test_float32_is_no_worse_than_torch(bins: int, allowance: float, scale: float) -> None:
    """Medians of the errors: the few elements at edges of narrow bins have large ones in either."""
    config = SplineConfig(bins=bins)
    x, raw = draw(config, max(6, 480 // bins), 144, scale=scale)
    exact = evaluate(in_torch, x, raw, config)
    ours, theirs = (evaluate(function, x, raw, config, SINGLE) for function in (native, in_torch))
    for found, other, wanted in zip(ours, theirs, exact, strict=True):
        assert (found - wanted).abs().median() <= allowance * (other - wanted).abs().median()


def test_extreme_parameters(isa: str) -> None:
    """Logits and slopes of ±50: bins of the smallest size, slopes from the smallest up to 50."""
    x, raw = draw(PUBLISHED, 40, 45)
    raw = torch.where(raw > 0, 50.0, -50.0)
    for dtype in (DOUBLE, SINGLE):
        assert all(torch.isfinite(found).all() for found in evaluate(native, x, raw, PUBLISHED, dtype))
    expected = evaluate(in_torch, x, raw, PUBLISHED)
    for found, wanted in zip(evaluate(native, x, raw, PUBLISHED), expected, strict=True):
        assert distance(found, wanted) < 1e-8


@pytest.mark.parametrize(
    ("config", "features"), [(COARSE, 3), (COARSE, 17), (SplineConfig(tail_bound=3.0), 9)]
)
def test_gradcheck_against_finite_differences(isa: str, config: SplineConfig, features: int) -> None:
    x, raw = draw(config, 3, features)
    inputs = (x.double().requires_grad_(), raw.double().requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: native(a, b, config), inputs)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_tails_are_the_identity(isa: str, dtype: torch.dtype) -> None:
    x = torch.tensor([[-14.5, 14.001, 1e6, -1e30, torch.inf, -torch.inf]], dtype=dtype, requires_grad=True)
    raw = torch.randn(1, PUBLISHED.n_raw, 6, dtype=dtype, requires_grad=True)
    y, log_slope = native(x, raw, PUBLISHED)
    assert torch.equal(y, x)
    assert torch.equal(log_slope, torch.zeros_like(x))
    grad_y, grad_log = torch.randn(2, 1, 6, dtype=dtype)
    torch.autograd.backward((y, log_slope), (grad_y, grad_log))
    assert torch.equal(x.grad, grad_y)
    assert torch.equal(raw.grad, torch.zeros_like(raw))


@pytest.mark.parametrize("output", [0, 1])
def test_loss_of_one_output_alone(output: int) -> None:
    x, raw = draw(COARSE, 5, 20)
    results = []
    for function in (native, in_torch):
        xi, ri = x.double().requires_grad_(), raw.double().requires_grad_()
        function(xi, ri, COARSE)[output].square().sum().backward()
        results.append((xi.grad, ri.grad))
    for found, wanted in zip(*results, strict=True):
        assert distance(found, wanted) < 1e-13


@pytest.mark.parametrize("features", [5, 20])
def test_nan_stays_where_it_is(isa: str, features: int) -> None:
    x, raw = draw(PUBLISHED, 4, features)
    clean = evaluate(native, x, raw, PUBLISHED, SINGLE)
    x[1, 2], raw[2, 3, 4] = torch.nan, torch.nan
    x[2, 4] = 0.5
    dirty = evaluate(native, x, raw, PUBLISHED, SINGLE)
    hit = torch.zeros(4, features, dtype=torch.bool)
    hit[1, 2] = hit[2, 4] = True
    for before, after in zip(clean[:3], dirty[:3], strict=True):
        assert torch.isnan(after[hit]).all()
        assert torch.equal(after[~hit], before[~hit])
    per_element = dirty[3].transpose(1, 2)
    assert torch.isnan(per_element[hit]).any(dim=1).all()
    assert torch.equal(per_element[~hit], clean[3].transpose(1, 2)[~hit])


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
def test_an_element_does_not_depend_on_its_place(isa: str, dtype: torch.dtype) -> None:
    """Bit by bit the same in a wide row, in a row shorter than a vector, and where vectors overlap."""
    x, raw = draw(PUBLISHED, 4, 37)
    whole = evaluate(native, x, raw, PUBLISHED, dtype)
    for part in (slice(0, 3), slice(30, 37), slice(5, 26)):
        alone = evaluate(native, x[:, part], raw[..., part], PUBLISHED, dtype)
        assert torch.equal(alone[0], whole[0][:, part])
        assert torch.equal(alone[1], whole[1][:, part])


def test_threads_change_nothing(threads: Callable[[int], None]) -> None:
    x, raw = draw(PUBLISHED, 331, 145)
    results = []
    for count in (1, 2, 5):
        threads(count)
        results.append(evaluate(native, x, raw, PUBLISHED, SINGLE))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_no_rows() -> None:
    found = evaluate(native, torch.empty(0, 6), torch.empty(0, PUBLISHED.n_raw, 6), PUBLISHED)
    assert [tuple(tensor.shape) for tensor in found] == [(0, 6), (0, 6), (0, 6), (0, 23, 6)]


def test_strided_tensors() -> None:
    x, raw = draw(COARSE, 6, 20)
    expected = evaluate(native, x, raw, COARSE)
    strided = evaluate(
        lambda a, b, config: native(
            a.t().contiguous().t(), b.transpose(1, 2).contiguous().transpose(1, 2), config
        ),
        x,
        raw,
        COARSE,
    )
    assert all(torch.equal(a, b) for a, b in zip(expected, strided, strict=True))
    raw.requires_grad_()
    _, log_slope = native(x, raw, COARSE)
    log_slope.sum(dim=1).sum().backward()  # the gradient that arrives is one number, expanded
    wanted = torch.autograd.grad(in_torch(x, raw, COARSE)[1].sum(), raw)[0]
    torch.testing.assert_close(raw.grad, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 22, 20), (6, 23, 19), (5, 23, 20), (6, 460)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected \(6, 23, 20\)"):
        native(torch.zeros(6, 20), torch.zeros(shape), PUBLISHED)


def test_no_second_derivatives() -> None:
    x, raw = draw(COARSE, 2, 4)
    x = x.requires_grad_()
    with pytest.raises(ConfigError, match="no second derivatives"):
        torch.autograd.grad(native(x, raw, COARSE)[0].sum(), x, create_graph=True)


def test_who_evaluates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALORAY_NATIVE_ISA", raising=False)
    x, raw = draw(COARSE, 2, 4)
    raw.requires_grad_()
    assert "NativeSpline" in type(spline_forward(x, raw, COARSE)[0].grad_fn).__name__
    assert not usable(x.double(), raw)
    assert not usable(x.bfloat16(), raw.bfloat16())
    assert not usable(x.to("meta"), raw.to("meta"))
    assert training_spline("cpu") == f"native {library.isas()[-1]}"
    assert training_spline("cuda:1") == "torch"
    monkeypatch.setenv("CALORAY_NATIVE", "0")
    assert training_spline("cpu") == "torch"
    assert "SplineForward" in type(spline_forward(x, raw, COARSE)[0].grad_fn).__name__


def test_training_is_that_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty Adam steps in float64."""
    losses, weights = {}, {}
    for choice in ("0", "1"):
        monkeypatch.setenv("CALORAY_NATIVE", choice)
        torch.manual_seed(5)
        made = MaskedSpline(10, 16, 3, 2, PUBLISHED).double()
        optimizer = torch.optim.Adam(made.parameters(), lr=1e-3)
        x, context = 4 * torch.randn(30, 10, dtype=DOUBLE), torch.randn(30, 3, dtype=DOUBLE)
        for _ in range(20):
            optimizer.zero_grad()
            noise, log_det = made(x, context)
            loss = (0.5 * noise.square().sum(dim=1) - log_det).mean()
            loss.backward()
            optimizer.step()
        losses[choice], weights[choice] = loss.detach(), [p.detach() for p in made.parameters()]
    torch.testing.assert_close(losses["1"], losses["0"], rtol=1e-9, atol=0)
    for ours, theirs in zip(weights["1"], weights["0"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_it_is_worth_it() -> None:
    """At the published size; about 15 times faster than torch where AVX-512 is, so 2 is safe anywhere."""
    x, raw = draw(PUBLISHED, 200, 144)
    seconds: dict[Map, list[float]] = {native: [], in_torch: []}
    for _ in range(5):
        for function, times in seconds.items():
            began = time.process_time()
            evaluate(function, x, raw, PUBLISHED, SINGLE)
            times.append(time.process_time() - began)
    assert 2 * min(seconds[native]) < min(seconds[in_torch])


def test_other_shapes_are_left_to_torch() -> None:
    x = torch.zeros(2, 3, 4)
    assert not usable(x, torch.zeros(2, 23, 3, 4))
    assert usable(x[0], torch.zeros(3, 23, 4)) == (library.load() is not None)
