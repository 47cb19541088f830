"""Settings: the official ones to the letter, nothing unknown, nothing impossible."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from caloray.errors import ConfigError
from caloray.evaluation.classifiers.config import PRESETS, ClassifierConfig, preset


def test_the_official_settings() -> None:
    config = preset("official")
    assert config == ClassifierConfig()
    assert (config.dnn.width, config.dnn.hidden) == (2048, 3)
    for network in (config.dnn, config.resnet):
        assert (network.epochs, network.batch, network.learning_rate) == (50, 1000, 2e-4)
        assert network.dtype == "float64"
    assert config.resnet.planes == (32, 64, 64, 128)
    assert config.seeds == 10
    assert set(config.inputs) == {"low", "low-normed", "high"}


def test_smaller_ones_have_every_model_or_only_trees() -> None:
    assert preset("laptop").models == preset("official").models
    assert preset("trees").models == ("trees",)
    assert all(config.seeds >= 3 for config in PRESETS.values())


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"cluster.*not known"):
        preset("cluster")


@pytest.mark.parametrize(
    "wrong",
    [
        {"widht": 3},
        {"dnn": {"widht": 3}},
        {"seeds": 2},
        {"inputs": ["low", "low"]},
        {"inputs": []},
        {"models": ["forest"]},
        {"split": [60, 40, 0]},
        {"dnn": {"learning_rate": float("nan")}},
        {"dnn": {"dtype": "float16"}},
    ],
)
def test_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClassifierConfig.model_validate(wrong)


def test_frozen_and_round_trip() -> None:
    config = preset("laptop")
    with pytest.raises(ValidationError):
        config.seeds = 4  # type: ignore[misc]
    assert ClassifierConfig.model_validate_json(config.model_dump_json()) == config
