"""Normalisation layers that are set from data: once, on rank 0, before the other workers get its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nflows.distributions.normal import StandardNormal
from nflows.flows.base import Flow
from nflows.transforms.base import CompositeTransform

from caloray.errors import InterruptedRunError
from caloray.flows.conv.actnorm import ActNorm
from caloray.interrupt import StopRequest
from caloray.training.files import ComponentFolder
from caloray.training.parallel import Parallel
from caloray.training.run import _Loop, train_component
from caloray.training.warm import find_source


class Normalised:
    """A component whose flow is nothing but a normalisation."""

    name, features, context_features, layers, parameters = "layer_00", 12, 1, (0,), 24

    def __init__(self, part: Any) -> None:
        self._part = part

    def build(self) -> Flow:
        return Flow(CompositeTransform([ActNorm(12)]), StandardNormal([12]))

    def rows(self, store: Any) -> Any:
        return self._part.rows(store)

    def batch(self, *arguments: Any) -> Any:
        return self._part.batch(*arguments)


class Stop(StopRequest):
    """A stop before the first step has ended."""

    @property
    def requested(self) -> bool:
        self.request()
        return True


@pytest.fixture(scope="module")
def data(toy):
    return toy.store_of(toy.showers()), toy.store_of(toy.showers(60, 1))


@pytest.fixture
def request_in(toy):
    def make(folder: Path, **changes: Any) -> Any:
        request = toy.request(folder, **changes)
        return replace(request, component=Normalised(request.component))

    return make


def loop(request: Any, data: Any, parallel: Parallel) -> Any:
    return _Loop(request, *data, parallel, StopRequest())


def test_the_first_batch_comes_out_normalised(request_in, data, tmp_path):
    fresh = loop(request_in(tmp_path), data, Parallel())
    target, context = fresh.plan.training_batch(0, 0)
    noise, _ = fresh.flow._transform(target, context)
    torch.testing.assert_close(noise.mean(dim=0), torch.zeros(12), atol=1e-4, rtol=0)
    torch.testing.assert_close(noise.std(dim=0), torch.ones(12), atol=1e-4, rtol=0)


def test_it_is_set_from_the_whole_batch_however_many_share_it(request_in, data, tmp_path):
    alone, shared = (loop(request_in(tmp_path), data, Parallel(0, world)) for world in (1, 3))
    expected = alone.flow.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in shared.flow.state_dict().items())
    rows = [len(each.plan.select(0, 0)) for each in (alone, shared)]
    assert rows[1] < rows[0], "its steps take its own rows"


def test_rank_0_sets_it_before_the_wrapper_sends_it_round(request_in, data, tmp_path):
    seen: dict[int, bool] = {}

    def wrap_of(rank: int) -> Any:
        def wrap(module: Any) -> Any:
            seen[rank] = bool(module.flow._transform._transforms[0].initialized)
            if rank:
                module.flow._transform._transforms[0].initialized.fill_(value=True)
            return module

        return wrap

    for rank in (0, 1):
        loop(request_in(tmp_path), data, Parallel(rank, 2, wrap=wrap_of(rank)))
    assert seen == {0: True, 1: False}


def test_a_resumed_training_does_not_set_it_again(request_in, data, tmp_path, monkeypatch):
    undisturbed = train_component(request_in(tmp_path / "a"), *data)
    with pytest.raises(InterruptedRunError):
        train_component(request_in(tmp_path / "b"), *data, stop=Stop())
    monkeypatch.setattr("caloray.training.run.initialise_flow", None)
    assert train_component(request_in(tmp_path / "b"), *data).sha256 == undisturbed.sha256


def test_a_warm_start_brings_it_along(request_in, data, tmp_path, monkeypatch):
    train_component(request_in(tmp_path / "components" / "layer_00"), *data)
    warm = find_source(tmp_path, "layer_00")
    monkeypatch.setattr("caloray.training.run.initialise_flow", None)
    begun = loop(replace(request_in(tmp_path / "b"), warm=warm), data, Parallel())
    expected = ComponentFolder(tmp_path / "components" / "layer_00").weights()
    assert all(torch.equal(begun.flow.state_dict()[name], value) for name, value in expected.items())


def test_ranks_decide_by_the_same_validation_loss(request_in, data, tmp_path):
    result = train_component(request_in(tmp_path), *data, Parallel(agree=lambda _: 60.0))
    assert result.validation_loss == 1.0
