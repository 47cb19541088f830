"""One MADE: what each choice of the model changes, and what it must not change."""

from __future__ import annotations

import copy
import pickle
from itertools import product

import pytest
import torch
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from pydantic import ValidationError
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.maf import MAFConfig, build_maf, count_parameters, maf_parameters
from caloray.flows.masked import MaskedSpline
from caloray.flows.spline import SplineConfig
from caloray.rng import StreamKey

SPLINE = SplineConfig(bins=5, tail_bound=6.0, min_width=0.02, min_height=0.02, min_derivative=0.02)


def made(
    features: int = 12, hidden: int = 30, context: int = 3, hidden_layers: int = 3, **choice
) -> MaskedSpline:
    """Float64, in evaluation mode, every weight away from zero."""
    torch.manual_seed(3)
    block = MaskedSpline(features, hidden, context, hidden_layers, SPLINE, **choice).double().eval()
    with torch.no_grad():
        for weight in block.parameters():
            weight.copy_(0.2 * torch.randn_like(weight))
    return block


def rows(block: MaskedSpline, n: int = 20) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = (n, block.features), (n, block.autoregressive_net.context_layer.in_features)
    x, context = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return 3 * x, context


def sees(block: MaskedSpline, *, context: bool = False) -> Tensor:
    """(D, inputs) whether a dimension's spline depends on an input (or on a context feature)."""
    x, c = rows(block, 100)

    def raw(v: Tensor) -> Tensor:
        values = block.raw_parameters(x, v) if context else block.raw_parameters(v, c)
        return values.square().sum(dim=(0, 1))

    jacobian = torch.autograd.functional.jacobian(raw, c if context else x)
    return (jacobian != 0).any(dim=1)


@pytest.mark.parametrize(("hidden_layers", "hidden"), [(3, 30), (5, 7), (1, 30)])
def test_residual_networks_are_nflows(hidden_layers: int, hidden: int) -> None:
    ours = made(hidden=hidden, hidden_layers=hidden_layers, network="residual", degrees="nflows")
    theirs = MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        ours.features,
        hidden,
        3,
        num_bins=SPLINE.bins,
        tails="linear",
        tail_bound=SPLINE.tail_bound,
        num_blocks=(hidden_layers - 1) // 2,
        use_residual_blocks=True,
        min_bin_width=SPLINE.min_width,
        min_bin_height=SPLINE.min_height,
        min_derivative=SPLINE.min_derivative,
    ).double()
    theirs.load_state_dict(ours.state_dict())
    x, context = rows(ours)
    for direction in ("forward", "inverse"):
        with torch.no_grad():
            found, expected = (getattr(block, direction)(x, context) for block in (ours, theirs))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("step", "hidden", "network"), list(product([1, 2, 5, 11], [40, 3], ["feedforward", "residual"]))
)
def test_a_group_sees_all_groups_before_it_and_nothing_else(step: int, hidden: int, network: str) -> None:
    block = made(hidden=hidden, network=network, autoregressive_step=step)
    group = torch.arange(12) // step
    found, allowed = sees(block), group[:, None] > group
    assert not (found & ~allowed).any()
    degrees = {int(d) for d in block.autoregressive_net.initial_layer.degrees}
    if hidden == 40:
        assert torch.equal(found, allowed)
        assert degrees == {step * (g + 1) for g in range(int(group[-1]))}
    assert len(block.schedule().steps) == len(degrees) + 1
    x, context = rows(block)
    z, log_det = block(x, context)
    back, log_back = block.inverse(z, context)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_back, -log_det, rtol=0, atol=1e-8)


def test_narrow_groups_are_spread_over_all_dimensions() -> None:
    block = made(features=100, hidden=10, autoregressive_step=4, hidden_layers=2, degrees="spread")
    degrees = block.autoregressive_net.initial_layer.degrees
    assert int(degrees.min()) == 4
    assert int(degrees.max()) == 96
    assert len(degrees.unique()) == 10


@pytest.mark.parametrize(
    ("choice", "step", "blind"), [("none", 1, 1), ("none", 5, 5), ("first", 5, 0), ("all", 5, 0)]
)
def test_the_first_group_sees_the_context_only_through_the_output_layer(
    choice: str, step: int, blind: int
) -> None:
    block = made(autoregressive_step=step, context_output=choice)
    sighted = sees(block, context=True).any(dim=1)
    assert (~sighted).sum() == blind
    direct = block.context_output
    outputs = {"none": 0, "first": step, "all": 12}[choice] * SPLINE.n_raw
    assert (0 if direct is None else direct.out_features) == outputs


@pytest.mark.parametrize("choice", ["first", "all"])
def test_context_in_the_output_layer_starts_as_the_published_network(choice: str) -> None:
    torch.manual_seed(1)
    plain = MaskedSpline(6, 16, 2, 2, SPLINE)
    torch.manual_seed(1)
    with_context = MaskedSpline(6, 16, 2, 2, SPLINE, context_output=choice)
    x, context = torch.randn(5, 6), torch.randn(5, 2)
    torch.testing.assert_close(plain(x, context)[0], with_context(x, context)[0], rtol=0, atol=0)


CONFIGS = [
    MAFConfig(blocks=2, hidden=20, hidden_layers=5, network="residual"),
    MAFConfig(blocks=2, hidden=20, context_output="first", autoregressive_step=3),
    MAFConfig(blocks=1, hidden=20, context_output="all", autoregressive_step=3),
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_parameters_are_counted(config: MAFConfig) -> None:
    built = build_maf(config, 7, 4, StreamKey(1, "test", "initialise"))
    assert count_parameters(built) == maf_parameters(config, 7, 4)


def test_impossible_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match="odd number of hidden layers, not 4"):
        made(hidden_layers=4, network="residual")
    with pytest.raises(ConfigError, match="autoregressive_step 12 leaves no group") as caught:
        made(autoregressive_step=12)
    assert "at most 11" in caught.value.hint
    with pytest.raises(ConfigError, match="0 conditioning features"):
        made(context=0)


def test_a_config_without_whole_residual_blocks_is_refused_before_anything_is_built() -> None:
    with pytest.raises(ValidationError, match="choose 3 or 5"):
        MAFConfig(network="residual", hidden_layers=4)


def test_the_inverse_follows_replaced_weights_and_copies() -> None:
    block = made()
    x, context = rows(block)
    before = block.inverse(x, context)[0]
    assert block.inverter() is block.inverter()
    twins = copy.deepcopy(block), pickle.loads(pickle.dumps(block))
    state = {k: v + 0.1 if k.endswith("bias") else v for k, v in block.state_dict().items()}
    block.load_state_dict(state, assign=True)
    after = block.inverse(x, context)[0]
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(block(after, context)[0], x, rtol=0, atol=1e-9)
    for twin in twins:
        assert torch.equal(twin.inverse(x, context)[0], before)


def test_the_inverse_follows_a_change_of_precision() -> None:
    block = made()
    x, context = rows(block)
    exact = block.inverse(x, context)[0]
    block.float()
    rounded = block.inverse(x.float(), context.float())[0]
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < 1e-3


def test_a_frozen_inverse_stays_until_the_module_is_loaded_trained_or_moved() -> None:
    block = made()
    x, context = rows(block)
    for thaw in (
        lambda: block.load_state_dict({k: v.clone() for k, v in block.state_dict().items()}),
        block.eval,
        lambda: block.to(torch.float64),
    ):
        block.freeze("torch")
        frozen = block.inverse(x, context)[0]
        with torch.no_grad():
            block.autoregressive_net.final_layer.bias.add_(0.1)
        assert torch.equal(block.inverse(x, context)[0], frozen)
        thaw()
        thawed = block.inverse(x, context)[0]
        assert (thawed - frozen).abs().max() > 1e-3
        torch.testing.assert_close(block(thawed, context)[0], x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("batch", [3, 300])
def test_samples_can_be_trained_on(batch: int) -> None:
    """What the inverse gives is an ordinary tensor: autograd may save it."""
    block = made()
    block.freeze("torch")
    noise, context = rows(block, batch)
    x, _ = block.inverse(noise, context)
    block(x, context)[0].square().sum().backward()
    assert block.autoregressive_net.final_layer.weight.grad is not None


@pytest.mark.parametrize("choice", ["none", "first", "all"])
def test_an_empty_batch_stays_empty(choice: str) -> None:
    block = made(context_output=choice)
    for direction in (block.forward, block.inverse):
        values, log_det = direction(*rows(block, 0))
        assert values.shape == (0, 12)
        assert log_det.shape == (0,)
