"""`caloray model` on a tiny bundle with random weights: what it says, and what it refuses."""

from __future__ import annotations

import json

import pytest

from caloray.bundle import save_bundle
from caloray.cli import main
from caloray.flows.maf import MAFConfig
from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import build_scheme
from caloray.schemes.inductive_config import InductiveConfig, InductiveFlows

SMALL = MAFConfig(blocks=1, hidden=8, hidden_layers=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory, geometry):
    """The bundle, made once; tests that damage it take a copy."""
    config = InductiveConfig(flows=InductiveFlows(layer_energies=SMALL, first_layer=SMALL, next_layer=SMALL))
    statistics = TrainingStatistics(100, 1.0, 500.0, 1e3, 5e4)
    scheme = build_scheme(config, geometry, statistics, seed=1)
    weights = {name: scheme.component(name).build().state_dict() for name in scheme.components}
    return save_bundle(
        tmp_path_factory.mktemp("model") / "bundle",
        config=config,
        geometry=geometry,
        statistics=statistics,
        seed=1,
        weights=weights,
        block_size=4,
        info={"data": {"showers": 100}, "loss": 1.25},
    )


@pytest.fixture(scope="module")
def geometry() -> Geometry:
    from caloray.detectors.reading import from_yaml

    text = (
        "kind: cylindrical\nparticle: electron\nlayers:\n"
        "  - ids: 0-2\n    alpha: 4\n    r: {bins: 3, width: 5.0}\n"
    )
    return Geometry.from_dict(from_yaml(text, "toy"))


def test_inspect_says_what_it_is(made, capsys):
    assert main(["model", "inspect", str(made.path)]) == 0
    text = capsys.readouterr().out
    assert made.digest in text
    assert "toy: 3 layers, 36 voxels" in text
    assert "1000 to 50000" in text
    assert "layer_energies" in text
    assert "showers 100" in text


def test_inspect_as_json(made, capsys):
    assert main(["model", "inspect", str(made.path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["digest"] == made.digest
    assert set(facts["components"]) == {"layer_energies", "first_layer", "next_layer"}


def test_verify_draws_the_golden_showers_again(made, capsys):
    assert main(["model", "verify", str(made.path)]) == 0
    assert "the same to the last bit" in capsys.readouterr().out
    assert main(["model", "verify", str(made.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"] is True


def test_a_flipped_byte_is_status_66(made, tmp_path, capsys):
    copy = tmp_path / "bundle"
    for file in made.path.rglob("*"):
        target = copy / file.relative_to(made.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            target.write_bytes(file.read_bytes())
    victim = copy / "components" / "next_layer.safetensors"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert main(["model", "verify", str(copy)]) == 66
    assert "next_layer.safetensors: sha256" in capsys.readouterr().err


def test_no_bundle_is_status_66(tmp_path, capsys):
    assert main(["model", "inspect", str(tmp_path)]) == 66
    assert capsys.readouterr().err.startswith("error[CR-320]")
