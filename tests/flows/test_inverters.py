"""Every back-end on every kind of network: the numbers of D dense passes, tails and odd batches included.

A back-end that this machine lacks is skipped with its own reason.
"""

from __future__ import annotations

from typing import NamedTuple, get_args

import pytest
import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.inverse import Inverter, prepare
from caloray.flows.masked import MaskedSpline
from caloray.flows.names import Backend
from caloray.flows.spline import SplineConfig, spline_inverse

CONTEXT = 3
EXACT = [name for name in get_args(Backend) if name != "native-bf16"]


class Case(NamedTuple):
    """Shape of one MADE; ``scale`` multiplies its initial weights."""

    features: int
    hidden: int
    layers: int
    scale: float = 2.0
    degrees: str = "spread"
    network: str = "feedforward"
    step: int = 1
    context_output: str = "none"

    @property
    def known_to_nflows(self) -> bool:
        return self.degrees == "nflows" and self.step == 1 and self.context_output == "none"

    def build(self, spline: SplineConfig | None = None) -> MaskedSpline:
        """Float64, in evaluation mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.features)
            made = MaskedSpline(
                self.features,
                self.hidden,
                CONTEXT,
                self.layers,
                spline or SplineConfig(),
                degrees=self.degrees,
                network=self.network,
                autoregressive_step=self.step,
                context_output=self.context_output,
            )
            with torch.no_grad():
                for weight in made.double().eval().parameters():
                    weight.mul_(self.scale)
                if made.context_output is not None:
                    made.context_output.weight.normal_(std=self.scale / 2)
        return made

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """Noise inside and in the tails, context; float64."""
        generator = torch.Generator().manual_seed(2)
        noise = 7 * torch.randn(rows, self.features, dtype=torch.float64, generator=generator)
        return noise, torch.randn(rows, CONTEXT, dtype=torch.float64, generator=generator)


CASES = [
    Case(1, 4, 2),
    Case(2, 5, 1, degrees="nflows"),
    Case(9, 32, 2, degrees="nflows"),
    Case(30, 12, 3, degrees="nflows"),
    Case(30, 12, 3),
    Case(21, 40, 1, degrees="nflows"),
    Case(17, 30, 3, degrees="nflows", network="residual"),
    Case(33, 20, 5, 1.5, degrees="nflows", network="residual"),
    Case(33, 20, 5, 1.5, network="residual", context_output="all"),
    Case(26, 30, 2, step=4),
    Case(26, 3, 2, step=4, context_output="first"),
    Case(25, 30, 3, 1.5, network="residual", step=4, context_output="all"),
    Case(16, 24, 2, context_output="first"),
    Case(16, 24, 2, context_output="all"),
]
PLAIN = Case(30, 12, 3)


def dense_inverse(made: MaskedSpline, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """D passes of the whole network: what nflows does, for all networks."""
    x = torch.zeros_like(noise)
    with torch.no_grad():
        for _ in range(noise.shape[1]):
            x, log_slope = spline_inverse(noise, made.raw_parameters(x, context), made.spline)
    return x, log_slope.sum(dim=1)


def inverter(backend: Backend, made: MaskedSpline) -> Inverter:
    try:
        return prepare(made.schedule(), made.spline, backend)
    except ConfigError as error:
        pytest.skip(f"{backend}: {error}")


def assert_close(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], atol: float) -> None:
    """The data to ``atol``, the log-determinant to a hundred times that."""
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=atol)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=100 * atol)


@pytest.fixture(params=EXACT)
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_dense_passes_give_the_same(backend: Backend, case: Case) -> None:
    made = case.build()
    noise, context = case.draw(40)
    assert_close(inverter(backend, made)(noise, context), dense_inverse(made, noise, context), 1e-10)


@pytest.mark.parametrize("case", [case for case in CASES if case.known_to_nflows], ids=str)
def test_nflows_gives_the_same(backend: Backend, case: Case) -> None:
    made = case.build()
    residual = case.network == "residual"
    theirs = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        case.features,
        case.hidden,
        CONTEXT,
        num_bins=made.spline.bins,
        tails="linear",
        tail_bound=made.spline.tail_bound,
        num_blocks=(case.layers - 1) // 2 if residual else case.layers - 1,
        use_residual_blocks=residual,
        min_bin_width=made.spline.min_width,
        min_bin_height=made.spline.min_height,
        min_derivative=made.spline.min_derivative,
    ).double()
    theirs.load_state_dict(made.state_dict())
    noise, context = case.draw(40)
    with torch.no_grad():
        expected = theirs.eval().inverse(noise, context)
    assert_close(inverter(backend, made)(noise, context), expected, 1e-10)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_undoes_it(backend: Backend, case: Case) -> None:
    made = case.build()
    noise, context = case.draw(40)
    data, log_det = inverter(backend, made)(noise, context)
    with torch.no_grad():
        back, forward_log_det = made(data, context)
    # The forward direction is steep: a rounding error of the data is up to 1e8 times as large in the noise.
    assert_close((back, -forward_log_det), (noise, log_det), 1e-6)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_on_tame_weights(backend: Backend, case: Case) -> None:
    made = case._replace(scale=0.5).build()
    noise, context = case.draw(40)
    expected, expected_log = dense_inverse(
        made.float().double(), noise.float().double(), context.float().double()
    )
    data, log_det = inverter(backend, made.float())(noise.float(), context.float())
    assert data.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(data.double(), expected, rtol=0, atol=5e-5)
    torch.testing.assert_close(log_det.double(), expected_log, rtol=0, atol=5e-4)


@pytest.mark.parametrize(
    "spline", [SplineConfig(bins=5, tail_bound=3.0, min_width=1e-3, min_height=0.01), SplineConfig(bins=17)]
)
def test_other_splines(backend: Backend, spline: SplineConfig) -> None:
    made = PLAIN.build(spline)
    noise, context = PLAIN.draw(40)
    assert_close(inverter(backend, made)(noise, context), dense_inverse(made, noise, context), 1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 2, 15, 17, 64, 67])
def test_a_row_does_not_depend_on_the_size_of_the_batch(
    backend: Backend, rows: int, dtype: torch.dtype
) -> None:
    made = PLAIN._replace(scale=1.0).build().to(dtype)
    noise, context = (part.to(dtype) for part in PLAIN.draw(70))
    solve = inverter(backend, made)
    whole, log_det = solve(noise, context)
    part, log_part = solve(noise[:rows], context[:rows])
    assert part.shape == (rows, PLAIN.features)
    assert log_part.shape == (rows,)
    assert_close((part, log_part), (whole[:rows], log_det[:rows]), 400 * torch.finfo(dtype).eps)


def test_inputs_may_lie_in_memory_as_they_like(backend: Backend) -> None:
    made = PLAIN.build()
    noise, context = PLAIN.draw(40)
    solve = inverter(backend, made)
    expected = solve(noise, context[:1].repeat(40, 1))
    wide = torch.stack([noise, noise], dim=2).view(40, -1)[:, ::2]
    fortran = noise.t().contiguous().t()
    for scattered in (wide, fortran, noise.flip(0).contiguous().flip(0)):
        assert_close(solve(scattered, context[:1].expand(40, -1)), expected, 1e-12)


def test_inputs_are_left_alone_and_outputs_are_ours(backend: Backend) -> None:
    noise, context = PLAIN.draw(17)
    before = noise.clone(), context.clone()
    solve = inverter(backend, PLAIN.build())
    first, _ = solve(noise, context)
    kept = first.clone()
    solve(noise + 1, context)
    assert torch.equal(noise, before[0])
    assert torch.equal(context, before[1])
    assert torch.equal(first, kept)


def test_the_same_block_gives_the_same_bytes(backend: Backend) -> None:
    made = PLAIN.build().float()
    noise, context = (part.float() for part in PLAIN.draw(67))
    solve = inverter(backend, made)
    first = solve(noise, context)
    for again in (solve, inverter(backend, made)):
        for one, other in zip(first, again(noise, context), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("place", ["noise", "context"])
def test_nan_stays_in_its_sample(backend: Backend, place: str) -> None:
    made = PLAIN._replace(context_output="all").build()
    noise, context = PLAIN.draw(67)
    solve = inverter(backend, made)
    expected, expected_log = solve(noise, context)
    {"noise": noise, "context": context}[place][5, 1] = float("nan")
    found, found_log = solve(noise, context)
    others = torch.arange(67) != 5
    assert found[5].isnan().any()
    assert_close((found[others], found_log[others]), (expected[others], expected_log[others]), 1e-12)


def test_without_context(backend: Backend) -> None:
    for case in (PLAIN, Case(17, 30, 3, network="residual", context_output="all")):
        made = case.build()
        noise, _ = case.draw(20)
        assert_close(inverter(backend, made)(noise, None), dense_inverse(made, noise, None), 1e-10)


def test_far_out_in_the_tails_nothing_moves(backend: Backend) -> None:
    noise, context = PLAIN.draw(20)
    noise = noise.sign() * (noise.abs() + 1e3)
    data, log_det = inverter(backend, PLAIN.build())(noise, context)
    assert torch.equal(data, noise)
    assert torch.equal(log_det, torch.zeros(20, dtype=torch.float64))


def test_changed_weights_are_noticed(backend: Backend) -> None:
    made = PLAIN.build()
    inverter(backend, made)
    made.backend = backend
    noise, context = PLAIN.draw(20)
    before, _ = made.inverse(noise, context)
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(0.8)
    after = made.inverse(noise, context)
    assert (after[0] - before).abs().max() > 1e-3
    assert_close(after, dense_inverse(made, noise, context), 1e-10)


def test_float64_network_after_float32(backend: Backend) -> None:
    """A change of dtype is a change of weights."""
    made = PLAIN._replace(scale=1.0).build().float()
    made.backend = backend
    inverter(backend, made)
    noise, context = PLAIN.draw(20)
    single, _ = made.inverse(noise.float(), context.float())
    double = made.double().inverse(noise, context)
    assert single.dtype == torch.float32
    assert_close(double, dense_inverse(made, noise, context), 1e-10)
