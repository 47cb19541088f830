"""Warm starts: what is taken over, what is refused, and what becomes part of the training's identity."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from caloray.atomic import sha256_file
from caloray.errors import CheckpointError, ConfigError, InterruptedRunError
from caloray.interrupt import StopRequest
from caloray.training.files import ComponentFolder
from caloray.training.run import train_component
from caloray.training.warm import WarmStart, find_source, start_from


class StopAt(StopRequest):
    """Asks for a stop when it is looked at for the n-th time."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        if self.looks == 0:
            self.request()
        return super().requested


@pytest.fixture(scope="module")
def data(toy):
    return toy.store_of(toy.showers()), toy.store_of(toy.showers(60, 1))


@pytest.fixture(scope="module")
def source(toy, data, tmp_path_factory):
    """A trained component and the run that holds it."""
    run = tmp_path_factory.mktemp("source")
    train_component(toy.request(run / "components" / "first_layer"), *data)
    return run


def warm_of(run, name: str = "first_layer") -> WarmStart:
    return find_source(run, name)


def test_a_warm_start_begins_where_the_source_ended(toy, data, source, tmp_path):
    """With a learning rate of almost nothing the weights stay the source's."""
    still = {"schedule": {"kind": "constant"}, "learning_rate": 1e-30, "select": "last", "epochs": 1}
    request = toy.request(tmp_path, **still)
    result = train_component(replace(request, warm=warm_of(source)), *data)
    expected = ComponentFolder(source / "components" / "first_layer").weights()
    found = ComponentFolder(tmp_path).weights()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)
    assert result.warm_start["source"] == "first_layer of another run"
    assert result.warm_start["tensors"] == result.warm_start["of"] > 0
    assert str(source) not in json.dumps(result.warm_start)


def test_a_stopped_warm_start_ends_like_an_undisturbed_one_without_its_source(toy, data, source, tmp_path):
    warm = warm_of(source)
    undisturbed = train_component(replace(toy.request(tmp_path / "a"), warm=warm), *data)
    request = replace(toy.request(tmp_path / "b"), warm=warm)
    with pytest.raises(InterruptedRunError):
        train_component(request, *data, stop=StopAt(3))
    gone = replace(request, warm=replace(warm, weights=tmp_path / "gone.safetensors"))
    resumed = train_component(gone, *data)
    assert resumed.sha256 == undisturbed.sha256
    assert resumed.warm_start == undisturbed.warm_start
    fresh = train_component(toy.request(tmp_path / "c"), *data)
    assert fresh.sha256 != undisturbed.sha256
    assert fresh.warm_start is None


def test_other_weights_to_start_from_are_another_training(toy, data, source, tmp_path):
    warm = warm_of(source)
    train_component(replace(toy.request(tmp_path / "a"), warm=warm), *data)
    other = replace(warm, sha256="0" * 64)
    with pytest.raises(CheckpointError, match=r"warm_start\.sha256"):
        train_component(replace(toy.request(tmp_path / "a"), warm=other), *data)
    with pytest.raises(CheckpointError, match=r"warm_start\.sha256: '.*' -> None"):
        train_component(toy.request(tmp_path / "a"), *data)
    moved = toy.request(tmp_path / "a", warm_start="somewhere/else")
    assert train_component(replace(moved, warm=warm), *data).warm_start["sha256"] == warm.sha256


def test_weights_altered_since_they_were_chosen(toy, data, source, tmp_path):
    warm = replace(warm_of(source), sha256="0" * 64)
    with pytest.raises(CheckpointError, match="missing or altered since it was chosen"):
        train_component(replace(toy.request(tmp_path / "a"), warm=warm), *data)
    assert ComponentFolder(tmp_path / "a").result() is None


def test_only_what_agrees_is_taken_over(tmp_path):
    torch.manual_seed(0)
    source = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 5))
    source[1].running_mean += 7
    kept = target[2].weight.detach().clone()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    warm = WarmStart("there", tmp_path / "w.safetensors", sha256_file(tmp_path / "w.safetensors"))
    record = start_from(target, warm)
    assert (record["tensors"], record["of"]) == (7, 9)
    assert torch.equal(target[0].weight, source[0].weight)
    assert torch.equal(target[1].running_mean, source[1].running_mean)
    assert torch.equal(target[2].weight, kept)
    with pytest.raises(ConfigError, match="none of its 9 tensors fits"):
        start_from(nn.Conv2d(1, 1, 1), warm)


def test_a_bundle_is_a_source(toy, bundle_path):
    warm = find_source(bundle_path, "next_layer")
    flow = toy.scheme().component("next_layer").build()
    record = start_from(flow, warm)
    assert record["tensors"] == record["of"]
    assert warm.source.startswith("next_layer of bundle ")


def test_what_is_no_source(bundle_path, source, tmp_path):
    with pytest.raises(ConfigError, match=r"holds no trained component layer_07, only .*next_layer"):
        find_source(bundle_path, "layer_07")
    with pytest.raises(ConfigError, match=r"holds no trained component next_layer, only first_layer"):
        find_source(source, "next_layer")
    with pytest.raises(ConfigError, match=r"holds no trained component next_layer$"):
        find_source(tmp_path, "next_layer")
