"""What a component starts from, as the config says it; and what that does to identity and bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from caloray.distributed.assemble import _facts
from caloray.distributed.jobs import _source, identity_of, require_settings
from caloray.errors import ConfigError
from caloray.io.manifest import Manifest
from caloray.training.files import ComponentFolder, ComponentResult

NAMES = ("layer_energies", "layer_00", "layer_01", "layer_02")


def source(wanted: str | None, name: str, folder: Path = Path("nowhere")) -> Any:
    return _source(wanted, name, NAMES, folder)


@pytest.mark.parametrize(
    ("wanted", "name", "after"),
    [
        (None, "layer_01", None),
        ("previous", "layer_00", None),
        ("previous", "layer_01", "layer_00"),
        ("previous", "layer_02", "layer_01"),
        ("layer_00", "layer_02", "layer_00"),
        ("layer_00", "layer_00", None),
    ],
)
def test_sources_in_the_same_run(wanted: str | None, name: str, after: str | None) -> None:
    assert source(wanted, name) == (after, None)


@pytest.mark.parametrize(
    ("wanted", "name", "message"),
    [
        ("previous", "layer_energies", "only components of one layer have a previous one"),
        ("layer_02", "layer_01", "layer_02 comes after layer_01"),
        ("no/such/bundle", "layer_01", "no/such/bundle holds no trained component layer_01"),
        ("layer_7", "layer_01", "layer_7 holds no trained component"),
    ],
)
def test_what_is_no_source(wanted: str, name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        source(wanted, name)


def test_a_source_may_be_gone_once_a_training_has_begun_with_it(tmp_path: Path) -> None:
    name, other = "layer_01", tmp_path / "other"
    folder = tmp_path / "run" / "components" / name
    facts = {"parameters": 1, "epochs": 1, "selected_epoch": 0, "validation_loss": 0.0, "seconds": 1.0}
    result = ComponentFolder(other / "components" / "layer_01").write_result(
        {}, component="layer_01", **facts
    )
    after, warm = source(str(other), "layer_01", folder)
    assert after is None
    assert warm.sha256 == result.sha256
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps({"warm_start": {"sha256": warm.sha256}}))
    shutil.rmtree(other)
    assert source(str(other), name, folder)[1].sha256 == warm.sha256


def test_an_identity_holds_the_own_architecture_alone(toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run")
    manifest = Manifest.load(config.output / "shards")
    assert set(identity_of(config, manifest, "first_layer")["scheme"]["flows"]) == {"first_layer"}
    scheme = {"kind": "layerwise", "flows": {"layer": {"blocks": 1, "hidden": 8}}}
    layers = toy.config(tmp_path / "layers", scheme=scheme, training={}, workers={})
    assert set(identity_of(layers, manifest, "layer_01")["scheme"]["flows"]) == {"layer"}
    assert set(identity_of(layers, manifest, "layer_energies")["scheme"]["flows"]) == {"layer_energies"}


def test_settings_of_layers_that_are_not_there(toy: Any, tmp_path: Path) -> None:
    scheme = {"kind": "layerwise"}
    config = toy.config(tmp_path / "run", scheme=scheme, training={"layer_03": {}}, workers={"layer": {}})
    with pytest.raises(ConfigError, match=r"training\.layer_03: the scheme has no such component"):
        require_settings(config, NAMES)
    require_settings(config, (*NAMES, "layer_03"))


def test_a_bundle_tells_what_a_component_started_from_without_a_path(toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run", training__first_layer__warm_start=str(tmp_path / "elsewhere"))
    record = {"source": "first_layer of bundle abc", "sha256": "0" * 64, "tensors": 3, "of": 4}
    warm = ComponentResult("first_layer", "1" * 64, 10, 5, 4, -1.5, 2.0, record)
    facts = _facts(config, "first_layer", warm)
    assert facts["warm_start"] == record
    assert str(tmp_path) not in json.dumps(facts)
    fresh = ComponentResult("first_layer", "1" * 64, 10, 5, 4, -1.5, 2.0)
    assert "warm_start" not in _facts(config, "first_layer", fresh)
