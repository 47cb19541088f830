"""The native inverse against nflows, the walk in torch and itself, for every instruction set there is."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows import inverse
from caloray.flows.incremental import IncrementalInverter
from caloray.flows.masked import MaskedSpline
from caloray.flows.native_inverse import NativeInverter
from caloray.flows.spline import SplineConfig
from caloray.native import library

pytestmark = pytest.mark.skipif(library.load() is None, reason=library.why_not())
PUBLISHED = SplineConfig()


@pytest.fixture(params=library.isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CALORAY_NATIVE_ISA", request.param)
    return str(request.param)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(
    features: int,
    hidden: int,
    context: int | None,
    layers: int,
    *,
    seed: int = 0,
    scale: float = 1.0,
    spline: SplineConfig = PUBLISHED,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> MaskedSpline:
    """Weights as initialised times ``scale``, except for the output's bias, so that bins differ."""
    torch.manual_seed(seed)
    model = MaskedSpline(features, hidden, context, layers, spline, **options).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
        if model.context_output is not None:
            model.context_output.weight.normal_(0, 0.1)
        model.autoregressive_net.final_layer.bias.normal_(0, 0.5)
    return model


def draws(model: MaskedSpline, batch: int, *, width: float = 1.0) -> tuple[Tensor, Tensor | None]:
    schedule, dtype = model.schedule(), next(model.parameters()).dtype
    noise = width * torch.randn(batch, model.features, dtype=dtype)
    columns = schedule.context_features
    return noise, torch.rand(batch, columns, dtype=dtype) if columns else None


def native(model: MaskedSpline) -> NativeInverter:
    return NativeInverter(model.schedule(), model.spline)


def distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    return max(float((p.double() - q.double()).abs().max()) for p, q in zip(a, b, strict=True))


CASES = {
    "published": {"features": 45, "hidden": 64, "context": 5, "layers": 3, "degrees": "nflows"},
    "fewer-units": {"features": 60, "hidden": 24, "context": 3, "layers": 2, "degrees": "nflows"},
    "two-dimensions": {"features": 2, "hidden": 30, "context": 1, "layers": 2},
    "no-context": {"features": 19, "hidden": 40, "context": None, "layers": 3},
    "residual": {"features": 30, "hidden": 50, "context": 4, "layers": 5, "network": "residual"},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [1, 37])
def test_float64_is_nflows_inverse(isa, case, batch):
    # Twice the weights make a residual network so steep that rounding alone exceeds the bound.
    model = made(**CASES[case], scale=1.0 if case == "residual" else 2.0)
    noise, context = draws(model, batch, width=6.0)
    assert (noise.abs() > PUBLISHED.tail_bound).any() or batch == 1
    with torch.no_grad():
        expected = MaskedPiecewiseRationalQuadraticAutoregressiveTransform.inverse(
            _as_nflows(model), noise, context
        )
    assert distance(native(model)(noise, context), expected) < 1e-10


def _as_nflows(model: MaskedSpline) -> MaskedPiecewiseRationalQuadraticAutoregressiveTransform:
    net, spline = model.autoregressive_net, model.spline
    context = getattr(net, "context_layer", None)
    theirs = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        features=model.features,
        hidden_features=net.initial_layer.weight.shape[0],
        context_features=None if context is None else context.weight.shape[1],
        num_blocks=len(net.blocks),
        num_bins=spline.bins,
        tails="linear",
        tail_bound=spline.tail_bound,
        use_residual_blocks=net.use_residual_blocks,
        min_bin_width=spline.min_width,
        min_bin_height=spline.min_height,
        min_derivative=spline.min_derivative,
    ).to(next(model.parameters()).dtype)
    theirs.load_state_dict(model.state_dict())
    return theirs


@pytest.mark.slow
@settings(max_examples=300)
@given(data=st.data())
def test_any_network_in_float64(data):
    draw = data.draw
    features = draw(st.integers(2, 60))
    context = draw(st.sampled_from([None, 1, 9]))
    residual = draw(st.booleans())
    model = made(
        features,
        draw(st.integers(1, 90)),
        context,
        draw(st.sampled_from([1, 3, 5] if residual else [1, 2, 3, 4])),
        seed=draw(st.integers(0, 99)),
        scale=draw(st.sampled_from([1.0, 2.0])),
        spline=SplineConfig(
            bins=draw(st.sampled_from([2, 3, 8, 10, 33])),
            tail_bound=draw(st.sampled_from([2.0, 14.0])),
            min_width=draw(st.sampled_from([1e-6, 1e-3])),
        ),
        degrees=draw(st.sampled_from(["nflows", "spread"])),
        network="residual" if residual else "feedforward",
        autoregressive_step=draw(st.integers(1, max(1, features - 1))),
        context_output=draw(st.sampled_from(["none", "first", "all"])) if context else "none",
    )
    noise, conditions = draws(model, draw(st.integers(1, 70)), width=3.0)
    if draw(st.booleans()):
        conditions = None
    expected = IncrementalInverter(model.schedule(), model.spline)(noise, conditions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALORAY_NATIVE_ISA", draw(st.sampled_from(library.isas())))
        assert distance(native(model)(noise, conditions), expected) < 1e-9


VARIANTS = {
    "groups": {"autoregressive_step": 7},
    "context-first": {"context_output": "first"},
    "context-all": {"context_output": "all", "autoregressive_step": 3},
    "residual-context": {"network": "residual", "context_output": "all"},
    "many-bins": {"spline": SplineConfig(bins=100, tail_bound=5.0)},
    "ten-bins": {"spline": SplineConfig(bins=10, min_width=1e-3, min_height=1e-3, min_derivative=1e-3)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_float64_is_the_walk_in_torch(isa, variant):
    model = made(40, 33, 6, 3, scale=2.0, **VARIANTS[variant])
    for batch, conditioned in ((1, True), (33, True), (3, False)):
        noise, context = draws(model, batch, width=4.0)
        context = context if conditioned else None
        expected = IncrementalInverter(model.schedule(), model.spline)(noise, context)
        assert distance(native(model)(noise, context), expected) < 1e-10


@pytest.mark.parametrize("batch", [1, 9])
def test_a_single_dimension_sees_the_context_only(isa, batch):
    model = made(1, 30, 4, 3, network="residual")
    noise, context = draws(model, batch)
    expected = IncrementalInverter(model.schedule(), model.spline)(noise, context)
    assert distance(native(model)(noise, context), expected) < 1e-10


def test_one_wide_last_step(isa):
    # As DS3's published degrees: all dimensions above the number of units are solved together.
    model = made(300, 20, 4, 2, degrees="nflows")
    assert model.schedule().steps[-1].dims == slice(20, 300)
    noise, context = draws(model, 5)
    expected = IncrementalInverter(model.schedule(), model.spline)(noise, context)
    assert distance(native(model)(noise, context), expected) < 1e-10


@pytest.mark.parametrize("network", ["feedforward", "residual"])
@pytest.mark.parametrize("batch", [1, 70])
def test_float32_is_close_to_float64(isa, network, batch):
    model = made(64, 96, 20, 3, network=network, dtype=torch.float32)
    noise, context = draws(model, batch)
    got = native(model)(noise, context)
    walk = IncrementalInverter(model.schedule(), model.spline)(noise, context)
    exact = model.double().schedule()
    expected = IncrementalInverter(exact, model.spline)(noise.double(), context.double())
    assert got[0].dtype == got[1].dtype == torch.float32
    assert distance(got, expected) < max(5e-5, 4 * distance(walk, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_does_not_depend_on_its_batch_place_or_threads(isa, dtype, one_thread):
    model = made(50, 60, 7, 3, dtype=dtype)
    invert = native(model)
    noise, context = draws(model, 2400)  # enough for several threads
    whole = invert(noise, context)
    for part in (slice(0, 2), slice(3, 20), slice(17, 150), slice(2335, 2400)):
        alone = invert(noise[part].contiguous(), context[part].contiguous())
        assert torch.equal(alone[0], whole[0][part])
        assert torch.equal(alone[1], whole[1][part])
    torch.set_num_threads(3)
    for values, expected in zip(invert(noise, context), whole, strict=True):
        assert torch.equal(values, expected)


def test_a_single_sample_is_right_up_to_rounding(isa):
    model = made(50, 60, 7, 3, dtype=torch.float32)
    noise, context = draws(model, 2)
    together = native(model)(noise, context)
    alone = native(model)(noise[1:], context[1:])
    assert distance(alone, (together[0][1:], together[1][1:])) < 2e-5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_bad_sample_disturbs_no_other(isa, bad, dtype):
    model = made(20, 24, 3, 2, dtype=dtype)
    noise, context = draws(model, 40)
    good = native(model)(noise, context)
    noise[11, 4] = bad
    context[30, 1] = bad
    got = native(model)(noise, context)
    others = [i for i in range(40) if i not in {11, 30}]
    assert torch.equal(got[0][others], good[0][others])
    assert torch.equal(got[1][others], good[1][others])
    assert not got[0][11].isfinite().all()
    assert not got[0][30].isfinite().all()
    assert got[0][11, :4].isfinite().all()


@pytest.mark.parametrize("batch", [1, 5])
def test_nan_in_the_weights_comes_out_as_nan(isa, batch):
    model = made(20, 24, 3, 2, dtype=torch.float32)
    with torch.no_grad():
        model.autoregressive_net.final_layer.bias[7 * 23 + 2] = float("nan")
    x, log_det = native(model)(*draws(model, batch))
    assert x[:, :7].isfinite().all()
    assert x[:, 7].isnan().all()
    assert log_det.isnan().all()


@pytest.mark.parametrize("batch", [1, 20])
def test_absurd_weights_neither_crash_nor_hang(isa, batch):
    for factor in (1e4, 1e30, float("inf")):
        model = made(12, 16, 3, 2, dtype=torch.float32, scale=factor)
        x, _ = native(model)(*draws(model, batch))
        assert x.shape == (batch, 12)


def test_round_trip_through_narrow_bins(isa):
    # Logits of +-9 give bins down to 1e-6 of the interval.
    model = made(6, 8, 2, 1, dtype=torch.float64)
    with torch.no_grad():
        model.autoregressive_net.final_layer.bias.uniform_(-9, 9)
    noise, context = draws(model, 200, width=5.0)
    x, log_det = native(model)(noise, context)
    with torch.no_grad():
        back, forward = model(x, context)
    assert (back - noise).abs().max() < 1e-6
    assert (forward + log_det).abs().max() < 1e-6


def test_an_empty_batch():
    model = made(6, 8, 2, 1)
    x, log_det = native(model)(torch.empty(0, 6, dtype=torch.float64), torch.empty(0, 2, dtype=torch.float64))
    assert x.shape == (0, 6)
    assert log_det.shape == (0,)


def test_strided_inputs():
    model = made(6, 8, 2, 1)
    noise, context = draws(model, 10)
    expected = native(model)(noise, context)
    strided = native(model)(noise.t().contiguous().t(), context.repeat(1, 2)[:, :2])
    assert torch.equal(strided[0], expected[0])


def test_wrong_inputs_are_refused():
    invert = native(made(6, 8, 2, 1))
    noise, context = draws(made(6, 8, 2, 1), 4)
    for wrong in (
        (noise[:, :5], context),
        (noise.float(), context),
        (noise, context[:3]),
        (noise[0], context),
    ):
        with pytest.raises(ConfigError, match="expected"):
            invert(*wrong)
    half = made(6, 8, 2, 1, dtype=torch.float32).half()
    with pytest.raises(ConfigError, match="float16"):
        native(half)
    assert not isinstance(inverse.prepare(half.schedule(), half.spline, "auto"), NativeInverter)


def test_weights_are_packed_without_the_masked_ones():
    model = made(64, 128, 0 or None, 3, dtype=torch.float32)
    schedule = model.schedule()
    dense = 4 * (schedule.final.numel() + sum(layer.weight.numel() for layer in schedule.layers))
    assert 0.45 * dense < native(model).packed_bytes < 0.75 * dense


def test_auto_is_native_on_a_cpu():
    model = made(6, 8, 2, 1)
    assert isinstance(inverse.prepare(model.schedule(), model.spline, "auto"), NativeInverter)
    assert inverse.resolve("auto", "cpu") == "native"


def test_packed_weights_stay_in_their_process():
    model = made(6, 8, 2, 1)
    model.backend = "native"
    noise, context = draws(model, 3)
    expected = model.inverse(noise, context)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.inverse(noise, context)[0], expected[0])
    with pytest.raises(TypeError, match="prepare it again"):
        pickle.dumps(native(model))


def test_without_the_library_native_says_what_to_do(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "why_not", lambda: "build it with `python -m caloray.native.build`")
    model = made(6, 8, 2, 1)
    with pytest.raises(ConfigError, match=r"caloray\.native\.build"):
        inverse.prepare(model.schedule(), model.spline, "native")
    assert not isinstance(inverse.prepare(model.schedule(), model.spline, "auto"), NativeInverter)


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 5e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("batch", [1, 100])
def test_what_all_logits_share_changes_nothing(
    isa: str, batch: int, dtype: torch.dtype, limit: float
) -> None:
    """Softmax does not know a common shift; a difference of rounded products would."""
    torch.manual_seed(3)
    model = MaskedSpline(20, 32, 3, 2, PUBLISHED).double().eval()
    bias = model.autoregressive_net.final_layer.bias
    with torch.no_grad():
        model.autoregressive_net.final_layer.weight.zero_()
        bias.copy_(bias.float().double())
        noise, context = draws(model, batch)
        noise = noise.float().double()
        # Powers of two, so that adding them to the few bits of the logits is exact.
        logits = bias.view(20, -1)[:, : 2 * PUBLISHED.bins]
        logits.copy_((logits * 64).round() / 64)
        expected = IncrementalInverter(model.schedule(), model.spline)(noise, context)[0]
        logits.add_(2048)
    shifted = native(model.to(dtype))(noise.to(dtype), context.to(dtype))[0]
    assert (shifted.double() - expected).abs().max() < limit
