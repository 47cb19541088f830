"""Invariants of a convolutional coupling flow, in float64 unless a test says otherwise."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform

from caloray.errors import ConfigError
from caloray.flows.conv.actnorm import initialise_flow
from caloray.flows.conv.build import ConvFlowConfig, build_conv
from caloray.flows.conv.coupling import SplineCoupling
from caloray.flows.conv.grid import Grid, ToImage
from caloray.flows.conv.one_by_one import OneByOne
from caloray.flows.conv.squeeze import Squeeze
from caloray.flows.conv.unet import Convolution, UNet
from caloray.flows.spline import SplineConfig
from caloray.rng import StreamKey

SPLINE = SplineConfig(bins=5, tail_bound=6.0, min_width=1e-3, min_height=1e-3, min_derivative=1e-3)
CASES = {
    "zero-padded": (ConvFlowConfig(blocks=2, hidden=4, kernels=((3, 1),), spline=SPLINE), Grid(6, 4), 2),
    "cyclic": (
        ConvFlowConfig(blocks=2, hidden=4, squeeze=(3, 1), kernels=((1, 2), (1, 2)), spline=SPLINE),
        Grid(3, 8, cyclic=True, transposed=True),
        1,
    ),
    "first layer": (
        ConvFlowConfig(blocks=2, hidden=4, squeeze=(1, 3), kernels=((2, 1),), spline=SPLINE),
        Grid(2, 6),
        0,
    ),
}


def _busy(flow, seed=0):
    """Weights that are nowhere the identity, and running statistics that are nowhere 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            scale = 0.3 if "norm" in name or "shift" in name or "log_scale" in name else 0.15
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
        for name, buffer in flow.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            if name.endswith("initialized"):
                buffer.fill_(True)
    return flow


@pytest.fixture(params=CASES)
def case(request):
    config, grid, previous = CASES[request.param]
    flow = _busy(build_conv(config, grid, previous, 3, StreamKey(1, "test", ""))).double().eval()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, grid.size, dtype=torch.float64, generator=generator)
    context = torch.randn(5, previous * grid.size + 3, dtype=torch.float64, generator=generator)
    return flow, x, context


def test_inverse_of_forward(case):
    flow, x, context = case
    planes = flow._embedding_net(context)
    noise, log_det = flow._transform(x, planes)
    back, log_det_back = flow._transform.inverse(noise, planes)
    assert (noise - x).abs().max() > 0.1
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_det, -log_det_back, rtol=0, atol=1e-8)


def test_log_determinant_against_autograd(case):
    flow, x, context = case
    planes = flow._embedding_net(context).detach()
    for row in range(2):
        jacobian = torch.autograd.functional.jacobian(
            lambda one, row=row: flow._transform(one[None], planes[row : row + 1])[0][0], x[row]
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        found = flow._transform(x[row : row + 1], planes[row : row + 1])[1][0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_log_prob_is_that_of_a_normal_through_the_map(case):
    flow, x, context = case
    noise, log_det = flow._transform(x, flow._embedding_net(context))
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(flow.log_prob(x, context), normal.log_prob(noise).sum(dim=1) + log_det)


def test_every_parameter_learns(case):
    flow, x, context = case
    flow.train()
    flow.log_prob(x, context).sum().backward()
    silent = [n for n, p in flow.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    # Before a BatchNorm a convolution's bias has no effect while its mean is the batch's.
    assert [n for n in silent if not n.endswith(("first.bias", "second.bias"))] == []


def test_gradients_against_finite_differences(case):
    flow, x, context = case
    chosen = ("decoders.0.second.weight", "log_scale", "upper_diag")
    parameters = [p for n, p in flow.named_parameters() if n.endswith(chosen)]
    assert len(parameters) == 6
    loss = flow.log_prob(x, context).sum()
    gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(
            parameter.shape, dtype=parameter.dtype, generator=torch.Generator().manual_seed(3)
        )
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(direction, alpha=step)
                values.append(flow.log_prob(x, context).sum())
                parameter.add_(direction, alpha=-step)
        slope = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close(slope, (gradient * direction).sum(), rtol=1e-5, atol=1e-5)


def test_state_is_the_whole_flow(case):
    flow, x, context = case
    buffer = io.BytesIO()
    torch.save(flow.state_dict(), buffer)
    buffer.seek(0)
    other = copy.deepcopy(flow)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other.log_prob(x, context), flow.log_prob(x, context))


def test_same_stream_same_flow_and_untouched_global_state():
    config, grid, previous = CASES["cyclic"]
    before = torch.random.get_rng_state()
    one, two = (build_conv(config, grid, previous, 3, StreamKey(4, "a", "b")) for _ in range(2))
    other = build_conv(config, grid, previous, 3, StreamKey(5, "a", "b"))
    assert torch.equal(before, torch.random.get_rng_state())
    states = [flow.state_dict() for flow in (one, two, other)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_a_row_does_not_see_the_others(case):
    flow, x, context = case
    whole = flow.log_prob(x, context)
    alone = torch.cat([flow.log_prob(x[i : i + 1], context[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=1e-10)


def test_context_matters(case):
    flow, x, context = case
    for column in (0, context.shape[1] - 1):
        changed = context.clone()
        changed[:, column] += 1.0
        assert (flow.log_prob(x, changed) - flow.log_prob(x, context)).abs().min() > 1e-9


def test_turning_a_cyclic_layer_with_its_context_turns_the_sample():
    config, grid, previous = CASES["cyclic"]
    config = config.model_copy(update={"kernels": ((1, 1),)})  # windows that do not tell columns apart
    flow = _busy(build_conv(config, grid, previous, 3, StreamKey(1, "turn", ""))).double().eval()
    x = torch.randn(4, grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    context = torch.randn(4, grid.size + 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def turned(flat):
        return grid.flat(grid.images(flat).roll(3, dims=-1))

    moved = torch.cat([turned(context[:, : grid.size]), context[:, grid.size :]], dim=1)
    torch.testing.assert_close(flow.log_prob(turned(x), moved), flow.log_prob(x, context), rtol=0, atol=1e-9)


def test_float32_round_trip_stays_below_1e_4_at_published_width():
    config = ConvFlowConfig(kernels=((3, 3), (5, 5)))
    grid = Grid(30, 30)
    flow = build_conv(config, grid, 5, 2, StreamKey(1, "ild", "")).eval()
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if "decoders.0.second" in name:
                parameter.add_(
                    0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
                )
        for module in flow.modules():
            if hasattr(module, "initialized"):
                module.initialized.fill_(True)
        x = torch.randn(3, grid.size, generator=torch.Generator().manual_seed(2))
        planes = flow._embedding_net(torch.randn(3, 5 * grid.size + 2))
        noise, _ = flow._transform(x, planes)
        back, _ = flow._transform.inverse(noise, planes)
    assert (noise - x).abs().max() > 0.5
    assert (back - x).abs().max() < 1e-4


def test_sampling_needs_evaluation_mode(case):
    flow, x, context = case
    flow.train()
    with pytest.raises(ConfigError, match="evaluation mode"):
        flow._transform.inverse(x, flow._embedding_net(context))


def test_training_needs_initialised_actnorms():
    config, grid, previous = CASES["cyclic"]
    flow = build_conv(config, grid, previous, 3, StreamKey(1, "fresh", ""))
    x, context = torch.randn(16, grid.size), torch.randn(16, grid.size + 3)
    with pytest.raises(ConfigError, match="set from data"):
        flow.train().log_prob(x, context)
    assert initialise_flow(flow, x, context) == 2
    assert initialise_flow(flow, x + 5, context) == 0
    assert torch.isfinite(flow.train().log_prob(x, context)).all()


def test_initialisation_makes_every_channel_standard():
    config, grid, previous = CASES["zero-padded"]
    flow = build_conv(config, grid, previous, 3, StreamKey(1, "init", "")).double()
    x = 3.0 + 2.0 * torch.randn(
        64, grid.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    context = torch.randn(64, 2 * grid.size + 3, dtype=torch.float64)
    running = {k: v.clone() for k, v in flow.state_dict().items() if "running" in k}
    initialise_flow(flow, x, context)
    assert all(torch.equal(flow.state_dict()[k], v) for k, v in running.items())
    out = x
    for part in list(flow._transform._transforms)[:3]:
        out, _ = part(out)
    rows = out.movedim(1, -1).reshape(-1, out.shape[1])
    torch.testing.assert_close(rows.mean(dim=0), torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(rows.std(dim=0), torch.ones(4, dtype=torch.float64), atol=1e-9, rtol=0)


def test_fresh_coupling_is_the_identity_up_to_the_ends():
    coupling = SplineCoupling(
        4, _network, SplineConfig(bins=10, tail_bound=15.0, min_derivative=1e-3)
    ).double()
    x = torch.linspace(-16, 16, 4 * 24, dtype=torch.float64).view(1, 4, 4, 6)
    y, log_det = coupling(x, torch.randn(1, 2, 4, 6, dtype=torch.float64))
    torch.testing.assert_close(y, x, rtol=0, atol=1e-7)  # the bias is a float32 number
    assert log_det.abs().max() < 1e-5


def test_coupling_has_the_map_and_the_state_of_nflows():
    config = SplineConfig(bins=6, tail_bound=4.0, min_width=1e-3, min_height=1e-3, min_derivative=1e-3)
    ours = _busy(SplineCoupling(5, _network, config)).double().eval()
    theirs = PiecewiseRationalQuadraticCouplingTransform(
        [1, 1, 0, 0, 0],
        _network,
        num_bins=6,
        tails="linear",
        tail_bound=4.0,
        min_bin_width=1e-3,
        min_bin_height=1e-3,
        min_derivative=1e-3,
    ).double()
    theirs.load_state_dict(ours.state_dict())
    theirs.eval()
    x = 2.5 * torch.randn(6, 5, 4, 6, dtype=torch.float64)
    planes = torch.randn(6, 2, 4, 6, dtype=torch.float64)
    for ours_way, their_way in ((ours.forward, theirs.forward), (ours.inverse, theirs.inverse)):
        for found, expected in zip(ours_way(x, planes), their_way(x, planes), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def _network(inputs, outputs):
    return UNet(inputs, 2, outputs, 4, ((2, 2),), cyclic=False)


def test_one_by_one_has_the_map_of_nflows():
    from nflows.transforms.conv import OneByOneConvolution

    ours, theirs = _busy(OneByOne(6)).double(), OneByOneConvolution(6).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 6, 4, 5, dtype=torch.float64)
    for found, expected in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours.inverse(ours(x)[0])[0], x, rtol=0, atol=1e-10)


def test_squeeze_is_nflows_for_squares_and_invertible_for_rectangles():
    from nflows.transforms.reshape import SqueezeTransform

    x = torch.randn(2, 3, 6, 12)
    assert torch.equal(Squeeze(2, 2)(x)[0], SqueezeTransform(2)(x)[0])
    for rows, columns in ((3, 1), (1, 4), (2, 3)):
        squeezed, _ = Squeeze(rows, columns)(x)
        assert squeezed.shape == (2, 3 * rows * columns, 6 // rows, 12 // columns)
        assert torch.equal(Squeeze(rows, columns).inverse(squeezed)[0], x)
    assert torch.equal(Squeeze(3, 1)(x)[0][:, 1], x[:, 0, 1::3])


def test_images_have_r_as_rows_and_alpha_as_columns():
    grid = Grid(rows=3, columns=4, cyclic=True, transposed=True)
    flat = torch.arange(12.0)[None]  # alpha slow, r fast
    image, _ = ToImage(grid)(flat)
    assert image.shape == (1, 1, 3, 4)
    assert image[0, 0, 2, 1] == 1 * 3 + 2
    assert torch.equal(ToImage(grid).inverse(image)[0], flat)


def test_cyclic_convolution_is_torchs_circular_padding_along_columns():
    conv = Convolution(2, 3, cyclic=True)
    x = torch.randn(2, 2, 4, 6)
    padded = torch.nn.functional.pad(x, (1, 1, 0, 0), mode="circular")
    expected = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, padding=(1, 0))
    torch.testing.assert_close(conv(x), expected)


def test_windows_that_do_not_divide_the_layer_are_refused():
    config = ConvFlowConfig(kernels=((3, 3), (5, 5)))
    with pytest.raises(ConfigError, match=r"50 columns cannot be divided .* \(2 x 3 x 5\)"):
        build_conv(config, Grid(30, 50), 1, 2, StreamKey(1, "", ""))
    with pytest.raises(ValueError, match="leaves one channel"):
        ConvFlowConfig(squeeze=(1, 1))
