"""Sizes of the networks, and the residual one against its formula."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from caloray.evaluation.classifiers.config import DnnConfig, ResnetConfig
from caloray.evaluation.classifiers.networks import build_dnn, build_resnet, count_parameters
from caloray.geometry import load_geometry
from caloray.rng import StreamKey

KEY = StreamKey(1, "test", "weights")


@pytest.mark.parametrize(("name", "count"), [("ds2", 21_669_889), ("ds3", 91_342_849)])
def test_parameters_of_the_official_network(name: str, count: int) -> None:
    """21.67 M and 91.3 M with the low-level input."""
    with torch.device("meta"):
        network = build_dnn(1 + load_geometry(name).n_voxels, DnnConfig(), KEY)
    assert count_parameters(network) == count


def test_layers_of_the_official_network() -> None:
    names = [type(layer).__name__ for layer in build_dnn(5, DnnConfig(width=4), KEY)]
    assert names == ["Linear", "LeakyReLU"] * 3 + ["Linear"]


def test_weights_depend_on_the_stream_alone() -> None:
    before = torch.get_rng_state()
    one, two, other = (build_dnn(5, DnnConfig(width=4), key)[0].weight for key in (KEY, KEY, KEY.at(1)))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float64


@pytest.mark.parametrize("name", ["ds2", "ds3", "ild_30x30x30"])
def test_resnet_takes_every_uniform_grid(name: str) -> None:
    geometry = load_geometry(name)
    config = ResnetConfig(planes=(2, 2, 3, 4), dtype="float32")
    network = build_resnet((geometry.n_layers, *geometry.layers[0].shape), config, KEY)
    assert network(torch.rand(2, 1 + geometry.n_voxels)).shape == (2, 1)


def test_parameters_of_the_resnet() -> None:
    def stage(before: int, after: int) -> int:
        shortcut = 0 if before == after else before * after + 2 * after
        return 27 * (before + 3 * after) * after + 8 * after + shortcut

    expected = 343 * 32 + 2 * 32 + stage(32, 32) + stage(32, 64) + stage(64, 128) + 130 + 2
    expected += stage(64, 64) + 64 * 64 + 2 * 64  # stride 2 needs a shortcut, too
    assert count_parameters(build_resnet((45, 16, 9), ResnetConfig(), KEY)) == expected


def block(x, state, name, stride):
    def norm(y, key):
        return F.batch_norm(y, None, None, state[f"{key}.weight"], state[f"{key}.bias"], training=True)

    y = norm(F.conv3d(x, state[f"{name}.path.0.weight"], stride=stride, padding=1), f"{name}.path.1")
    y = norm(F.conv3d(y.clamp(min=0), state[f"{name}.path.3.weight"], padding=1), f"{name}.path.4")
    if f"{name}.shortcut.0.weight" in state:
        x = norm(F.conv3d(x, state[f"{name}.shortcut.0.weight"], stride=stride), f"{name}.shortcut.1")
    return (x + y).clamp(min=0)


def test_resnet_against_its_formula() -> None:
    network = build_resnet((9, 8, 7), ResnetConfig(planes=(2, 3, 3, 4)), KEY).train()
    state = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    inputs = torch.rand(3, 1 + 9 * 8 * 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = F.conv3d(inputs[:, 1:].reshape(3, 1, 9, 8, 7), state["stages.0.weight"], stride=2, padding=3)
    x = (x - x.mean((0, 2, 3, 4), keepdim=True)) / (x.var((0, 2, 3, 4), False, keepdim=True) + 1e-5).sqrt()
    x = F.max_pool3d(x.clamp(min=0), 3, stride=2, padding=1)
    for number in range(8):
        x = block(x, state, f"stages.{4 + number}", 2 if number in {2, 4, 6} else 1)
    energy = inputs[:, :1]
    energy = (energy - energy.mean()) / (energy.var(unbiased=False) + 1e-5).sqrt()
    expected = torch.cat([x.mean((2, 3, 4)), energy], 1) @ state["last.weight"].T + state["last.bias"]
    torch.testing.assert_close(network(inputs), expected, rtol=1e-10, atol=1e-12)


def test_kaiming_fan_out() -> None:
    weight = build_resnet((9, 8, 7), ResnetConfig(), KEY).stages[0].weight
    assert float(weight.detach().std()) == pytest.approx((2 / (32 * 343)) ** 0.5, rel=0.05)
