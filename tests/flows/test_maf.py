"""The autoregressive flow against nflows: same state dict, same density, exact inverse, published counts."""

from __future__ import annotations

import pytest
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.autoregressive import MaskedPiecewiseRationalQuadraticAutoregressiveTransform
from nflows.transforms.base import CompositeTransform, Transform
from nflows.transforms.permutations import Permutation, ReversePermutation

from caloray.flows.maf import MAFConfig, build_maf, count_parameters, maf_parameters
from caloray.flows.permutation import FixedPermutation
from caloray.rng import StreamKey

KEY = StreamKey(1, "test", "initialise")
SHAPES = [(45, 64, "nflows"), (30, 12, "nflows"), (30, 12, "spread"), (7, 40, "spread"), (2, 5, "nflows")]


def nflows_twin(config: MAFConfig, features: int, context: int) -> Flow:
    """The same architecture from nflows' classes alone."""
    transforms: list[Transform] = []
    for block in range(config.blocks):
        transforms.append(
            MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
                features,
                config.hidden,
                context,
                num_bins=config.spline.bins,
                tails="linear",
                tail_bound=config.spline.tail_bound,
                num_blocks=config.hidden_layers - 1,
                use_residual_blocks=False,
                min_bin_width=config.spline.min_width,
                min_bin_height=config.spline.min_height,
                min_derivative=config.spline.min_derivative,
            )
        )
        if block < config.blocks - 1:
            even = block % 2 == 0
            transforms.append(ReversePermutation(features) if even else Permutation(torch.arange(features)))
    return Flow(CompositeTransform(transforms), StandardNormal([features]))


def pair(features: int, hidden: int, degrees: str) -> tuple[Flow, Flow, torch.Tensor, torch.Tensor]:
    """Our flow with enlarged weights, nflows' with the same state, data and context; float64."""
    config = MAFConfig(blocks=3, hidden=hidden, hidden_layers=3, degrees=degrees)
    ours = build_maf(config, features, 4, KEY).double().eval()
    with torch.no_grad():
        for weight in ours.parameters():
            weight.mul_(2)
    theirs = nflows_twin(config, features, 4).double().eval()
    theirs.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(2)
    x = 7 * torch.randn(50, features, dtype=torch.float64, generator=generator)
    return ours, theirs, x, torch.randn(50, 4, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(("features", "hidden", "degrees"), SHAPES)
def test_log_probability_is_nflows(features: int, hidden: int, degrees: str) -> None:
    ours, theirs, x, context = pair(features, hidden, degrees)
    found, expected = ours.log_prob(x, context), theirs.log_prob(x, context)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("features", "hidden", "degrees"), SHAPES)
def test_inverse_is_nflows(features: int, hidden: int, degrees: str) -> None:
    """Every hidden unit computed once gives what D passes of the whole network give, tails included."""
    ours, theirs, x, context = pair(features, hidden, degrees)
    found, log_found = ours._transform.inverse(x, context)
    with torch.no_grad():
        expected, log_expected = theirs._transform.inverse(x, context)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_found, log_expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("features", "hidden", "degrees"), SHAPES)
def test_jacobian_is_triangular_and_matches_the_log_determinant(
    features: int, hidden: int, degrees: str
) -> None:
    ours, _, x, context = pair(features, hidden, degrees)
    block = ours._transform._transforms[0]
    row, condition = x[:1] / 4, context[:1]
    jacobian = torch.autograd.functional.jacobian(lambda v: block(v, condition)[0], row)[0, :, 0, :]
    assert torch.count_nonzero(torch.triu(jacobian, 1)) == 0
    _, log_det = block(row, condition)
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[0], rtol=0, atol=1e-8)


def test_every_parameter_gets_a_gradient() -> None:
    ours, _, x, context = pair(10, 24, "spread")
    ours.log_prob(x / 7, context).mean().backward()
    unused = [n for n, p in ours.named_parameters() if p.grad is None]
    assert unused == []


def test_inverse_follows_changed_weights() -> None:
    """The sorted weights are rebuilt after a training step or a load, never stale."""
    ours, _, x, context = pair(8, 16, "nflows")
    before, _ = ours._transform.inverse(x, context)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(0.01)
    after, _ = ours._transform.inverse(x, context)
    assert not torch.allclose(before, after)
    noise, _ = ours._transform(after, context)
    torch.testing.assert_close(noise, x, rtol=0, atol=1e-7)


def test_permutations_are_undone_and_follow_a_loaded_state() -> None:
    permutation = FixedPermutation(torch.randperm(9))
    x = torch.randn(4, 9)
    for state in (None, torch.arange(9).flip(0), torch.randperm(9)):
        if state is not None:
            permutation.load_state_dict({"_permutation": state})
        y, _ = permutation(x)
        assert torch.equal(y, x[:, permutation._permutation])
        assert torch.equal(permutation.inverse(y)[0], x)


def conditioners(features: int, hidden: int, degrees: str) -> int:
    """Number of inputs that change any output of one block but their own."""
    config = MAFConfig(blocks=1, hidden=hidden, hidden_layers=2, degrees=degrees)
    net = build_maf(config, features, 1, KEY)._transform._transforms[0].autoregressive_net
    reach = net.final_layer.mask @ net.blocks[0].linear.mask @ net.initial_layer.mask
    return int((reach.sum(dim=0) > 0).sum())


def test_narrow_networks_with_nflows_degrees_are_blind_to_most_inputs() -> None:
    assert conditioners(900, 256, "nflows") == 256
    assert conditioners(368, 378, "nflows") == 367


def test_spread_degrees_reach_the_last_inputs() -> None:
    config = MAFConfig(blocks=1, hidden=256, hidden_layers=2, degrees="spread")
    net = build_maf(config, 900, 1, KEY)._transform._transforms[0].autoregressive_net
    assert int(net.initial_layer.degrees.max()) == 899
    assert conditioners(900, 256, "spread") == 899


def test_narrow_networks_take_as_many_steps_as_they_have_degrees() -> None:
    config = MAFConfig(blocks=1, hidden=12, hidden_layers=2, degrees="nflows")
    block = build_maf(config, 30, 1, KEY)._transform._transforms[0]
    assert len(block.schedule().steps) == 13


PUBLISHED = [
    ("CaloFlow photons flow-I", MAFConfig(blocks=6, hidden=64, hidden_layers=3), 5, 1, 97_842),
    ("CaloFlow photons teacher", MAFConfig(blocks=8, hidden=378, hidden_layers=2), 368, 6, 27_945_968),
    ("CaloFlow photons student", MAFConfig(blocks=8, hidden=736, hidden_layers=2), 368, 6, 56_457_088),
    ("CaloFlow pions flow-I", MAFConfig(blocks=6, hidden=64, hidden_layers=3), 7, 1, 116_550),
    ("CaloFlow pions teacher", MAFConfig(blocks=8, hidden=533, hidden_layers=2), 533, 8, 56_962_776),
    ("CaloFlow pions student", MAFConfig(blocks=8, hidden=500, hidden_layers=2), 533, 8, 53_310_072),
    ("iCaloFlow flow-1", MAFConfig(hidden_layers=2), 45, 1, 2_752_600),
    ("iCaloFlow DS2 flow-2", MAFConfig(hidden_layers=3), 144, 2, 8_165_248),
    ("iCaloFlow DS2 flow-3", MAFConfig(hidden_layers=3), 144, 191, 8_552_320),
    ("iCaloFlow DS2 flow-3 student", MAFConfig(hidden=384, hidden_layers=3), 144, 191, 13_601_664),
    ("iCaloFlow DS3 flow-2", MAFConfig(hidden_layers=3), 900, 2, 45_463_264),
    ("iCaloFlow DS3 flow-3", MAFConfig(hidden_layers=2), 900, 947, 46_872_288),
    ("L2LFlows energies, 30 layers", MAFConfig(blocks=6, hidden=64, hidden_layers=2), 30, 1, 306_732),
    ("L2LFlows energies, 45 layers", MAFConfig(blocks=6, hidden=64, hidden_layers=2), 45, 1, 447_042),
]


@pytest.mark.parametrize(("config", "features", "context", "expected"), [p[1:] for p in PUBLISHED])
def test_published_parameter_counts(config: MAFConfig, features: int, context: int, expected: int) -> None:
    assert maf_parameters(config, features, context) == expected


@pytest.mark.parametrize(("features", "context"), [(5, 1), (45, 1), (144, 191)])
def test_formula_counts_the_built_flow(features: int, context: int) -> None:
    config = MAFConfig(blocks=2, hidden=64, hidden_layers=3)
    built = build_maf(config, features, context, KEY)
    assert count_parameters(built) == maf_parameters(config, features, context)


def test_building_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = build_maf(MAFConfig(blocks=2, hidden=8), 6, 1, KEY)
    assert torch.equal(torch.rand(3), expected)
    again = build_maf(MAFConfig(blocks=2, hidden=8), 6, 1, KEY)
    for one, other in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_dropout_acts_in_training_only() -> None:
    flow = build_maf(MAFConfig(blocks=1, hidden=32, hidden_layers=3, dropout=0.5), 6, 1, KEY)
    x, context = torch.randn(20, 6), torch.randn(20, 1)
    assert not torch.equal(flow.log_prob(x, context), flow.log_prob(x, context))
    flow.eval()
    assert torch.equal(flow.log_prob(x, context), flow.log_prob(x, context))
