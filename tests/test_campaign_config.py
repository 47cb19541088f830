"""Campaign files: read like run configs, and what is wrong is told with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from caloray.cli import main
from caloray.config import Campaign, load_campaign
from caloray.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("produce_*.yaml"))
SMALL = """
name: small
bundle: runs/demo/bundle
output: runs/campaigns/small
particles: {kind: spectrum, n: 100}
"""


@pytest.fixture
def write(tmp_path):
    """A campaign file with the given text."""

    def file(extra: str = "", text: str = SMALL) -> Path:
        (tmp_path / "campaign.yaml").write_text(text + extra)
        return tmp_path / "campaign.yaml"

    return file


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_campaigns_load_and_reload_from_their_dump(path, tmp_path):
    campaign = load_campaign(path)
    (tmp_path / "dump.yaml").write_text(yaml.safe_dump(campaign.model_dump(mode="json")))
    assert load_campaign(tmp_path / "dump.yaml") == campaign


def test_defaults_fill_what_is_left_out(write):
    campaign = load_campaign(write())
    assert (campaign.domain, campaign.on_invalid, campaign.format) == ("error", "resample", "sparse")
    assert (campaign.max_response, campaign.rows_per_shard, campaign.seed) == (None, 10_000, 1)
    assert campaign.workers.count is None
    assert campaign.quality.on_drift == "warn"


def test_overrides(write):
    campaign = load_campaign(write(), ["quality.on_drift=stop", "particles.n=5", "workers.count=0"])
    assert (campaign.quality.on_drift, campaign.particles.n, campaign.workers.count) == ("stop", 5, 0)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("sede: 1", "unknown key sede, did you mean 'seed'?"),
        ("workers: {cuont: 1}", "unknown key workers.cuont, did you mean 'count'?"),
        ("quality: {on_drift: stopp}", "quality.on_drift"),
        ("domain: flagg", "did you mean 'flag'?"),
        ("format: hdf5", "format"),
        ("max_response: -1", "max_response"),
        ("rows_per_shard: 0", "rows_per_shard"),
        ("max_attempts: 0", "max_attempts"),
        ("name: a b", "name"),
    ],
)
def test_what_is_wrong_is_told(write, extra, message):
    text = SMALL.replace("name: small\n", "") if extra.startswith("name") else SMALL
    with pytest.raises(ConfigError) as caught:
        load_campaign(write(extra, text))
    assert message in caught.value.message
    assert "caloray config schema --campaign" in caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("particles", "message"),
    [
        ("{kind: spektrum, n: 5}", "particles.kind: 'spektrum' is none of"),
        ("{kind: spectrum, m: 5}", "particles."),
        ("{kind: spectrum, n: 5, energies: {kind: uniform, min: 0, max: 5}}", "particles.energies.min"),
        ("{kind: grid, energies: [-1]}", "particles.energies.0"),
        ("{n: 5}", "particles"),
    ],
)
def test_wrong_particles_are_told_by_their_keys(write, particles, message):
    with pytest.raises(ConfigError) as caught:
        load_campaign(write(text=SMALL.replace("{kind: spectrum, n: 100}", particles)))
    assert message in caught.value.message
    assert ".spectrum." not in caught.value.message


def test_a_run_config_is_no_campaign(write):
    with pytest.raises(ConfigError, match=r"missing key|unknown key"):
        load_campaign(write(text="name: x\noutput: y\ndata: {files: [a.hdf5]}\n"))


def test_the_schema_names_every_key(capsys):
    assert main(["config", "schema", "--campaign"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(Campaign.model_fields)
