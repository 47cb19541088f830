"""`caloray config`: the resolved config, its digest and its schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from caloray.cli import main
from caloray.config import load_config

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo.yaml"


SHIPPED = sorted((ROOT / "configs").glob("*.yaml"))
RUNS = [path for path in SHIPPED if "\ndata:" in path.read_text()]  # the others: campaigns, a service


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_config_is_shown_whole_and_read_back(path, tmp_path, capsys):
    assert main(["config", "show", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# digest: ")
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert load_config(again) == load_config(path)
    assert main(["config", "show", str(again)]) == 0
    assert capsys.readouterr().out == text


def test_defaults_and_overrides_are_in_it(capsys):
    assert main(["config", "show", str(DEMO), "--set", "seed=7", "--set", "cluster.num_cpus=3"]) == 0
    value = yaml.safe_load(capsys.readouterr().out)
    assert value["seed"] == 7
    assert value["cluster"]["num_cpus"] == 3
    assert value["cluster"]["address"] == "local"


def test_the_digest_follows_the_values(capsys):
    digests = []
    for extra in ([], ["--set", "seed=7"], []):
        assert main(["config", "show", str(DEMO), "--json", *extra]) == 0
        digests.append(json.loads(capsys.readouterr().out)["digest"])
    assert digests[0] == digests[2] != digests[1]


def test_the_schema_is_for_editors(capsys):
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"name", "seed", "output", "data", "scheme", "training"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "sede=7"], "did you mean 'seed'"),
        (["--set", "seed"], "dotted.name=value"),
        (["--set", "seed=-1"], "seed"),
    ],
)
def test_what_cannot_be_is_status_78(arguments, message, capsys):
    assert main(["config", "show", str(DEMO), *arguments]) == 78
    captured = capsys.readouterr()
    assert captured.err.startswith("error[CR-100]")
    assert message in captured.err
    assert captured.out == ""


def test_no_such_config_is_status_78(capsys):
    assert main(["config", "show", "no-such.yaml"]) == 78
    assert "no-such.yaml" in capsys.readouterr().err
