"""The folded and the native inverse of convolutional flows against the unfrozen composition."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Iterator

import pytest
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.conv import sampler
from caloray.flows.conv.build import ConvFlowConfig, build_conv
from caloray.flows.conv.fold import fold
from caloray.flows.conv.grid import Grid
from caloray.flows.conv.native_program import compile_flow
from caloray.flows.conv.native_sampler import NativeConvInverse
from caloray.flows.conv.torch_sampler import FoldedInverse
from caloray.flows.spline import SplineConfig
from caloray.native import library
from caloray.rng import StreamKey

has_native = pytest.mark.skipif(library.load() is None, reason=library.why_not())
has_bf16 = pytest.mark.skipif(bool(library.why_not_bf16()), reason=library.why_not_bf16())

NARROW = SplineConfig(bins=4, tail_bound=2.0, min_width=1e-2, min_height=1e-2, min_derivative=1e-2)
EIGHT = SplineConfig(bins=8, tail_bound=5.0, min_width=1e-3, min_height=2e-3, min_derivative=1e-3)
# name: configuration, grid, previous layers, scalars
CASES = {
    "ild": (ConvFlowConfig(blocks=2), Grid(30, 30), 5, 2),
    "ds3": (ConvFlowConfig(blocks=1, kernels=((3, 5), (3, 5))), Grid(18, 50, True, True), 5, 2),
    "ds2": (
        ConvFlowConfig(blocks=2, squeeze=(3, 1), kernels=((1, 4), (3, 4))),
        Grid(9, 16, True, True),
        2,
        2,
    ),
    "first-layer": (ConvFlowConfig(blocks=2, hidden=8), Grid(30, 30), 0, 2),
    "nine-channels": (
        ConvFlowConfig(blocks=2, hidden=12, squeeze=(3, 3), kernels=((2, 2),), spline=EIGHT),
        Grid(18, 12),
        1,
        3,
    ),
    "three-levels": (
        ConvFlowConfig(blocks=3, hidden=24, squeeze=(1, 2), kernels=((2, 1), (1, 3), (2, 1)), spline=NARROW),
        Grid(8, 12, True, False),
        2,
        1,
    ),
    "one-row": (ConvFlowConfig(blocks=2, hidden=5, squeeze=(2, 2), kernels=((1, 2),)), Grid(2, 8), 1, 0),
    "one-column": (
        ConvFlowConfig(blocks=2, hidden=20, squeeze=(1, 4), kernels=((2, 1),)),
        Grid(6, 4, True, True),
        1,
        1,
    ),
    "wide": (ConvFlowConfig(blocks=1, hidden=40, kernels=((2, 3), (1, 1))), Grid(8, 12), 1, 1),
}


def build(name: str) -> Flow:
    """A flow that is nowhere near the identity, with statistics nowhere near 0 and 1."""
    return copy.deepcopy(_built(name))


@functools.cache
def _built(name: str, seed: int = 0) -> Flow:
    config, grid, previous, scalars = CASES[name]
    flow = build_conv(config, grid, previous, scalars, StreamKey(seed, "test", "")).eval()
    generator = torch.Generator().manual_seed(seed)
    scales = {"log_scale": 0.2, "shift": 0.2, "norm": 0.2, "entries": 0.2, "last": 0.1, "bias": 0.2}
    with torch.no_grad():
        for coupling in flow.modules():
            if hasattr(coupling, "transform_net"):
                weight = coupling.transform_net.last.weight
                weight.copy_(0.05 * torch.randn(weight.shape, generator=generator))
        for key, parameter in flow.named_parameters():
            scale = next((scale for word, scale in scales.items() if word in key), 0.0)
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
        for key, buffer in flow.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
            if key.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            if key.endswith("initialized"):
                buffer.fill_(True)
    return flow


def draws(name: str, flow: Flow, batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise and context planes."""
    _, grid, previous, scalars = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    noise = 1.5 * torch.randn(batch, grid.size, generator=generator)
    context = torch.randn(batch, previous * grid.size + scalars, generator=generator)
    with torch.no_grad():
        return noise, flow._embedding_net(context)


@functools.cache
def exact(name: str, batch: int) -> tuple[tuple[Tensor, Tensor], float]:
    """The unfrozen composition in float64, and how far it is off in float32."""
    flow = build(name)
    noise, planes = draws(name, flow, batch)
    with torch.no_grad():
        plain = flow._transform.inverse(noise, planes)
        expected = flow.double()._transform.inverse(noise.double(), planes.double())
    return expected, distance(plain, expected)


def distance(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> float:
    return max(float((p.double() - q.double()).abs().max()) for p, q in zip(a, b, strict=True))


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


@pytest.mark.parametrize("name", CASES)
def test_folding_changes_nothing(name):
    flow = build(name)
    noise, planes = draws(name, flow, 9)
    expected, _ = exact(name, 9)
    folded = FoldedInverse(fold(flow._transform), torch.float64, noise.device)
    assert (expected[0] - noise).std() > 0.1
    assert distance(folded(noise.double(), planes.double()), expected) < 1e-9


@pytest.mark.parametrize("name", CASES)
def test_the_folded_inverse_in_float32(name):
    flow = build(name)
    noise, planes = draws(name, flow, 9)
    expected, plain = exact(name, 9)
    folded = FoldedInverse(fold(flow._transform), torch.float32, noise.device)(noise, planes)
    assert folded[0].dtype == folded[1].dtype == torch.float32
    assert distance(folded, expected) < max(1e-4, 6 * plain)


@has_native
@pytest.mark.parametrize("name", CASES)
def test_the_native_inverse_is_as_exact_as_float32_allows(isa, name):
    flow = build(name)
    noise, planes = draws(name, flow, 9)
    expected, plain = exact(name, 9)
    got = NativeConvInverse(fold(flow._transform))(noise, planes)
    assert got[0].dtype == got[1].dtype == torch.float32
    assert distance(got, expected) < max(1e-4, 6 * plain)


@has_native
def test_the_native_inverse_undoes_forward(isa):
    flow = build("nine-channels")
    noise, planes = draws("nine-channels", flow, 4)
    x, log_det = NativeConvInverse(fold(flow._transform))(noise, planes)
    again, forward = copy.deepcopy(flow).double()._transform(x.double(), planes.double())
    assert (again - noise).abs().max() < 1e-4
    assert (forward + log_det).abs().max() < 1e-3


@has_native
@pytest.mark.parametrize("name", ["ds2", "nine-channels", "three-levels", "one-row"])
@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=has_bf16)])
def test_a_shower_does_not_depend_on_its_batch_place_or_threads(name, bf16, one_thread):
    flow = build(name)
    invert = NativeConvInverse(fold(flow._transform), bf16=bf16)
    noise, planes = draws(name, flow, 80)
    whole = invert(noise, planes)
    for part in (slice(0, 1), slice(3, 5), slice(7, 13), slice(31, 32), slice(40, 80)):
        alone = invert(noise[part], planes[part])
        assert torch.equal(alone[0], whole[0][part])
        assert torch.equal(alone[1], whole[1][part])
    torch.set_num_threads(3)
    for values, expected in zip(invert(noise, planes), whole, strict=True):
        assert torch.equal(values, expected)


@has_native
@pytest.mark.parametrize("tile", [1, 3, 4, 17, 32])
def test_a_shower_does_not_depend_on_the_size_of_a_tile(monkeypatch, tile):
    flow = build("ild")
    noise, planes = draws("ild", flow, 5)
    folded = fold(flow._transform)
    expected = NativeConvInverse(folded)(noise, planes)
    monkeypatch.setattr("caloray.flows.conv.native_layers.tile_of", lambda *_, **__: tile)
    assert compile_flow(folded).source.tile == tile
    for values, other in zip(NativeConvInverse(folded)(noise, planes), expected, strict=True):
        assert torch.equal(values, other)


@has_bf16
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [1, 18])
def test_bf16_is_close(name, batch):
    flow = build(name)
    noise, planes = draws(name, flow, batch)
    folded = fold(flow._transform)
    (x, log_det), (near, near_det) = (
        NativeConvInverse(folded, bf16=bf16)(noise, planes) for bf16 in (False, True)
    )
    assert 0 < (x - near).square().mean().sqrt() < 0.02 * x.std()
    assert (log_det - near_det).abs().max() < 0.01 * x.shape[1]


@has_native
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=has_bf16)])
def test_a_bad_shower_disturbs_no_other(bad, bf16):
    flow = build("three-levels")
    invert = NativeConvInverse(fold(flow._transform), bf16=bf16)
    noise, planes = draws("three-levels", flow, 20)
    good = invert(noise, planes)
    noise[4, 7], planes[13, 2, 1, 1] = bad, bad
    got = invert(noise, planes)
    others = [i for i in range(20) if i not in {4, 13}]
    assert torch.equal(got[0][others], good[0][others])
    assert torch.equal(got[1][others], good[1][others])
    assert not got[0][4].isfinite().all()
    assert not got[0][13].isfinite().all()


@pytest.mark.parametrize("backend", ["torch", pytest.param("native", marks=has_native)])
def test_an_empty_batch(backend):
    flow = build("ds2")
    noise, planes = draws("ds2", flow, 0)
    x, log_det = sampler.prepare(flow._transform, backend)(noise, planes)
    assert x.shape == noise.shape
    assert log_det.shape == (0,)


@has_native
def test_strided_inputs():
    flow = build("ds2")
    invert = NativeConvInverse(fold(flow._transform))
    noise, planes = draws("ds2", flow, 6)
    expected = invert(noise, planes)
    strided = invert(noise.t().contiguous().t(), planes.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1))
    assert torch.equal(strided[0], expected[0])
    assert torch.equal(strided[1], expected[1])


@has_native
def test_wrong_inputs_are_refused():
    flow = build("ds2")
    invert = NativeConvInverse(fold(flow._transform))
    noise, planes = draws("ds2", flow, 4)
    for wrong in (
        (noise[:, :5], planes),
        (noise.double(), planes),
        (noise, planes[:3]),
        (noise, planes[:, :2]),
        (noise, planes.flatten(2)),
    ):
        with pytest.raises(ConfigError, match="expected"):
            invert(*wrong)


@has_native
def test_auto_is_native_for_float32_on_a_cpu():
    flow = build("one-row")
    assert isinstance(sampler.prepare(flow._transform, "auto"), NativeConvInverse)
    assert isinstance(sampler.prepare(flow._transform, "torch"), FoldedInverse)
    assert isinstance(sampler.prepare(flow._transform, "jacobi"), FoldedInverse)
    double = flow.double()._transform
    assert isinstance(sampler.prepare(double, "auto"), FoldedInverse)
    with pytest.raises(ConfigError, match="float32"):
        sampler.prepare(double, "native")


def test_without_the_library(monkeypatch):
    monkeypatch.setattr(library, "load", lambda: None)
    monkeypatch.setattr(library, "why_not", lambda: "build it with `python -m caloray.native.build`")
    flow = build("one-row")
    assert isinstance(sampler.prepare(flow._transform, "auto"), FoldedInverse)
    with pytest.raises(ConfigError, match=r"caloray\.native\.build"):
        sampler.prepare(flow._transform, "native")
    with pytest.raises(ConfigError, match=r"caloray\.native\.build"):
        NativeConvInverse(fold(flow._transform))


@has_native
def test_packed_weights_are_copied_and_stay_in_their_process():
    flow = build("one-row")
    noise, planes = draws("one-row", flow, 3)
    flow._transform.freeze("native")
    before = flow._transform.inverse(noise, planes)
    with torch.no_grad():
        for parameter in flow._transform.parameters():
            parameter.add_(1.0)
    assert torch.equal(flow._transform.inverse(noise, planes)[0], before[0])
    with pytest.raises(TypeError, match="prepare it again"):
        pickle.dumps(NativeConvInverse(fold(flow._transform)))


@has_native
def test_packed_weights_take_little_more_than_the_weights():
    flow = build("ild")
    weights = sum(p.numel() * p.element_size() for p in flow._transform.parameters())
    assert weights < NativeConvInverse(fold(flow._transform)).packed_bytes < 1.1 * weights
