"""The training loop, step by step against Adam written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from caloray.errors import ConfigError, NumericalError
from caloray.evaluation.classifiers.config import DnnConfig, ResnetConfig
from caloray.evaluation.classifiers.inputs import ClassifierData, InputTable
from caloray.evaluation.classifiers.networks import build_dnn, build_resnet
from caloray.evaluation.classifiers.parts import take_parts
from caloray.evaluation.classifiers.training import TensorSource, choose_device, train_network
from caloray.rng import StreamKey

KEY = StreamKey(3, "test", "batches")
CPU = torch.device("cpu")


@pytest.fixture
def setup(tiny, make):
    first, second = make(30, 1), make(30, 2, scale=1.5)
    table = InputTable(first, second, "low", tiny, 1.0)
    parts = take_parts(np.arange(30), 30 + np.arange(30), (2, 1, 1), KEY)
    return TensorSource(table, CPU), parts, table.width


def by_hand(weights, steps, rate):
    """Weights after Adam steps on numpy batches; a network of one hidden layer of LeakyReLU(0.01)."""
    w1, b1, w2, b2 = (w.copy() for w in weights)
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in (w1, b1, w2, b2)]
    for number, (x, y) in enumerate(steps, 1):
        before = x @ w1.T + b1
        hidden = np.where(before > 0, before, 0.01 * before)
        slope = (1 / (1 + np.exp(-(hidden @ w2.T + b2))) - y[:, None]) / len(y)
        back = (slope @ w2) * np.where(before > 0, 1.0, 0.01)
        gradients = (back.T @ x, back.sum(0), slope.T @ hidden, slope.sum(0))
        for weight, gradient, (m, v) in zip((w1, b1, w2, b2), gradients, moments, strict=True):
            m[:] = 0.9 * m + 0.1 * gradient
            v[:] = 0.999 * v + 0.001 * gradient**2
            step = (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.999**number)) + 1e-8)
            weight[:] = weight - rate * step
    return w1, b1, w2, b2


def test_two_steps_of_adam(setup) -> None:
    source, parts, width = setup
    config = DnnConfig(width=7, hidden=1, epochs=1, batch=16, learning_rate=1e-2)
    network = build_dnn(width, config, KEY)
    start = [w.detach().numpy().copy() for w in network.parameters()]
    train_network(network, source, parts, config, KEY)
    order = KEY.at(1).generator().permutation(30)
    steps = [
        (source.table.batch(parts.train.rows[places]), parts.train.labels[places])
        for places in (order[:16], order[16:])
    ]
    for found, expected in zip(network.parameters(), by_hand(start, steps, 1e-2), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-9, atol=1e-12)


def test_same_streams_same_answers_whether_inputs_are_kept_or_not(setup) -> None:
    source, parts, width = setup
    config = DnnConfig(width=8, epochs=3, batch=8, learning_rate=1e-2)
    before = torch.get_rng_state()
    lazy = TensorSource(source.table, CPU, cache=0)
    one, two = (train_network(build_dnn(width, config, KEY), s, parts, config, KEY) for s in (source, lazy))
    assert np.array_equal(one.final, two.final)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_best_epoch_is_kept(setup) -> None:
    """Training on for longer than the best epoch changes nothing."""
    source, parts, width = setup
    config = DnnConfig(width=8, epochs=12, batch=8, learning_rate=3e-2)
    long = train_network(build_dnn(width, config, KEY), source, parts, config, KEY)
    assert 1 <= long.best_epoch < long.epochs
    shorter = config.model_copy(update={"epochs": long.best_epoch})
    short = train_network(build_dnn(width, config, KEY), source, parts, shorter, KEY)
    assert np.array_equal(long.final, short.final)
    assert np.array_equal(long.test, short.test)


def test_ends_when_all_are_told_apart(tiny, make) -> None:
    first, second = make(60, 1), make(60, 2, scale=1e4)
    source = TensorSource(InputTable(first, second, "low", tiny, 1.0), CPU)
    parts = take_parts(np.arange(60), 60 + np.arange(60), (3, 1, 1), KEY)
    config = DnnConfig(width=16, epochs=40, batch=8, learning_rate=1e-2)
    seen: list[int] = []
    found = train_network(build_dnn(source.table.width, config, KEY), source, parts, config, KEY, seen.append)
    assert found.epochs == found.best_epoch < 40
    assert seen == list(range(1, found.epochs + 1))


def test_a_loss_that_is_no_number(tiny, make) -> None:
    data = make(30, 1)
    voxels = data.voxels.copy()
    voxels[:, 0] = np.inf
    bad = ClassifierData(voxels, data.energies, data.features, data.ids)
    source = TensorSource(InputTable(data, bad, "low", tiny, 1.0), CPU)
    parts = take_parts(np.arange(30), 30 + np.arange(30), (2, 1, 1), KEY)
    config = DnnConfig(width=4, epochs=1)
    with pytest.raises(NumericalError, match="epoch 1"):
        train_network(build_dnn(source.table.width, config, KEY), source, parts, config, KEY)


def test_the_residual_network_learns(tiny, make) -> None:
    first, second = make(300, 1), make(300, 2, scale=2.0)
    config = ResnetConfig(planes=(3, 3, 3, 3), epochs=16, batch=20, learning_rate=3e-3, dtype="float32")
    source = TensorSource(InputTable(first, second, "low", tiny, 1.0, "float32"), CPU)
    parts = take_parts(np.arange(300), 300 + np.arange(300), (3, 1, 1), KEY)
    found = train_network(build_resnet((4, 3, 2), config, KEY), source, parts, config, KEY)
    assert roc_auc_score(parts.final.labels, found.final) > 0.65


def test_a_single_row_left_over_joins_the_last_batch(setup) -> None:
    """30 rows in batches of 29: batch normalisation cannot take one row."""
    source, parts, _ = setup
    config = ResnetConfig(planes=(2, 2, 2, 2), epochs=1, batch=29)
    network = build_resnet((4, 3, 2), config, KEY)
    assert len(train_network(network, source, parts, config, KEY).final) == 16


@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        choose_device(name)
    assert choose_device("cpu") == CPU
