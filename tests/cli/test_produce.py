"""``caloray produce`` and ``caloray campaign``, with the stub model and no Ray."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from caloray.cli import main
from caloray.cli.produce import _workers
from caloray.config import load_campaign
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader

STUB = Path(__file__).parents[1] / "generation/stub_model.py"
N = 100


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let every bundle path load the stub model."""
    spec = importlib.util.spec_from_file_location("stub_model", STUB)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("caloray.distributed.produce.Bundle", module.StubModel)
    return module


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """A campaign of 100 showers in seven shards."""
    value = {
        "name": "toy",
        "bundle": "bundle",
        "output": str(tmp_path / "out"),
        "seed": 7,
        "particles": {"kind": "spectrum", "n": N},
        "rows_per_shard": 16,
        "workers": {"count": 0},
        "tracking": {"enabled": False},
    }
    (tmp_path / "campaign.yaml").write_text(yaml.safe_dump(value))
    return tmp_path / "campaign.yaml"


def facts_of(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_campaign_says_what_it_has_made(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["produce", str(campaign), "--json"]) == 0
    facts = facts_of(capsys.readouterr().out)
    manifest = Manifest.load(tmp_path / "out")
    assert facts["showers"] == N
    assert facts["shards"] == 7
    assert facts["bytes"] == sum(entry.bytes for entry in manifest.shards)
    assert facts["content_digest"] == manifest.created["content_digest"]
    assert facts["quality"] == "not watched"
    assert facts["devices"] == f"cpu: {N}"
    assert main(["produce", str(campaign)]) == 0
    assert f"content digest                  {facts['content_digest']}" in capsys.readouterr().out


@pytest.mark.parametrize("timing", [[], ["--no-timing"]])
def test_a_dry_run_writes_nothing(campaign: Path, tmp_path: Path, capsys: Any, timing: list[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert main(["produce", str(campaign), "--dry-run", "--json", *timing]) == 0
    facts = facts_of(capsys.readouterr().out)
    assert (facts["showers"], facts["shards"], facts["showers_per_shard"]) == (N, 7, 16)
    assert facts["bytes_estimate"] > 0
    assert facts["fits_on_the_disk"] is True
    assert facts["largest_response"] == pytest.approx(1.5)
    assert ("hours" in facts) is not bool(timing)
    assert sorted(tmp_path.rglob("*")) == before


def test_single_showers(campaign: Path, tmp_path: Path) -> None:
    assert main(["produce", str(campaign)]) == 0
    again = tmp_path / "again"
    assert main(["produce", str(campaign), "--ids", "3,99", "--set", f"output={again}"]) == 0
    with ShardReader(again / "shards/shard-00000.parquet") as reader:
        some = reader.showers()
    with ShardReader(tmp_path / "out/shards/shard-00000.parquet") as reader:
        first = reader.showers()
    assert some.ids.tolist() == [3, 99]
    np.testing.assert_array_equal(some.voxels[0], first.voxels[3])
    assert main(["produce", str(campaign), "--ids", "a"]) == 78


def test_what_cannot_be_done_is_refused(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["produce", str(campaign), "--set", "quality.on_drift=stop"]) == 78
    assert "no quality reference" in capsys.readouterr().err
    energies = "particles.energies={kind: uniform, min: 1.0e+3, max: 1.0e+6}"
    assert main(["produce", str(campaign), "--set", energies]) == 78
    assert "trained" in capsys.readouterr().err
    assert not (tmp_path / "out" / "plan.json").exists()


def test_status_verify_and_merge(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    out = str(tmp_path / "out")
    assert main(["campaign", "status", out]) == 74
    assert main(["produce", str(campaign)]) == 0
    capsys.readouterr()
    assert main(["campaign", "status", out, "--json"]) == 0
    facts = facts_of(capsys.readouterr().out)
    assert (facts["state"], facts["shards_done"], facts["showers_done"]) == ("finished", 7, N)
    assert main(["campaign", "status", out]) == 0
    assert "shards              7 of 7" in capsys.readouterr().out
    assert main(["campaign", "verify", out]) == 0
    assert "all is well" in capsys.readouterr().out
    assert main(["campaign", "merge", out, "-o", str(tmp_path / "all.hdf5"), "--json"]) == 0
    assert facts_of(capsys.readouterr().out)["format"] == "hdf5"
    with h5py.File(tmp_path / "all.hdf5") as file:
        assert file["showers"].shape == (N, 36)
    assert main(["campaign", "merge", out, "-o", str(tmp_path / "all.parquet")]) == 0
    with ShardReader(tmp_path / "all.parquet") as reader:
        np.testing.assert_array_equal(reader.ids(), np.arange(N))
    assert main(["campaign", "merge", out, "-o", str(tmp_path / "all.txt")]) == 78


def test_verify_tells_what_is_missing_from_what_is_wrong(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert main(["produce", str(campaign)]) == 0
    (out / "manifest.json").unlink()
    (out / "receipts/shard-00006.json").unlink()
    capsys.readouterr()
    assert main(["campaign", "verify", str(out)]) == 75
    assert "6 of 7 shards so far; all is well" in capsys.readouterr().out
    content = bytearray((out / "shards/shard-00002.parquet").read_bytes())
    content[100] ^= 1
    (out / "shards/shard-00002.parquet").write_bytes(content)
    assert main(["campaign", "verify", str(out), "--json"]) == 66
    facts = facts_of(capsys.readouterr().out)
    assert [problem["path"] for problem in facts["problems"]] == ["shards/shard-00002.parquet"]


def test_a_tampered_shard_is_made_again(campaign: Path, tmp_path: Path, caplog: Any) -> None:
    assert main(["produce", str(campaign)]) == 0
    shard = tmp_path / "out/shards/shard-00004.parquet"
    before = shard.read_bytes()
    shard.write_bytes(before[:-7])
    with caplog.at_level(logging.WARNING, logger="caloray"):
        assert main(["produce", str(campaign)]) == 0
    assert shard.read_bytes() == before
    assert "shard-00004.parquet" in caplog.text


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("workers.count=3", 3),
        ("workers.count=0", 1),
        ("workers={count: null, cpus: 2}", 4),
        ("workers={count: null, gpus: 1}", None),
    ],
)
def test_workers_of_a_forecast(campaign: Path, override: str, expected: int | None) -> None:
    settings = load_campaign(campaign, [override, "cluster.num_cpus=8"])
    assert _workers(settings) == expected
