"""``caloray produce`` and ``caloray campaign``, with the stub model and no Ray."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
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


def test_a_merged_file_is_replaced_by_force_only(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    out, target = str(tmp_path / "out"), tmp_path / "all.hdf5"
    assert main(["produce", str(campaign)]) == 0
    target.write_text("precious")
    assert main(["campaign", "merge", out, "-o", str(target)]) == 74
    assert target.read_text() == "precious"
    assert "hint: choose another name, or replace it with --force" in capsys.readouterr().err
    assert main(["campaign", "merge", out, "-o", str(target), "--force"]) == 0
    assert main(["campaign", "merge", out, "-o", f"{out}/shards/shard-00000.parquet", "--force"]) == 74
    assert main(["campaign", "verify", out]) == 0
    (tmp_path / "out" / "plan.json").write_text("{}")
    assert main(["campaign", "verify", out]) == 66


def test_a_dry_run_refuses_what_the_real_run_would(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    def dry(*overrides: str) -> int:
        words = [word for item in overrides for word in ("--set", item)]
        return main(["produce", str(campaign), "--dry-run", "--no-timing", *words])

    assert dry("quality.on_drift=stop") == 78
    assert dry("rows_per_shard=8", "particles.n=17000000000000") == 78
    assert dry("workers={count: null, cpus: 1000}", "cluster.num_cpus=4") == 69
    assert "a worker needs 1000 CPUs" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert dry(f"output={tmp_path}/file") == dry(f"output={tmp_path}/file/below") == 74
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "thesis.txt").write_text("")
    assert dry(f"output={tmp_path}/strange") == 74
    assert main(["produce", str(campaign)]) == 0
    assert dry() == 0
    assert dry("seed=8") == 74
    assert "belongs to plan" in capsys.readouterr().err


@pytest.mark.parametrize("timing", [[], ["--no-timing"]])
def test_a_dry_run_ends_with_74_when_it_does_not_fit(
    campaign: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, timing: list[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    plenty = iter([usage] * 20)
    tight = usage._replace(free=10)

    def left(path: Path) -> Any:
        return next(plenty) if tempfile.gettempdir() in str(path) and "caloray-" in str(path) else tight

    monkeypatch.setattr("caloray.generation.campaign.require_space", lambda *_: None)
    monkeypatch.setattr(shutil, "disk_usage", left)
    assert main(["produce", str(campaign), "--dry-run", "--json", *timing]) == 74
    captured = capsys.readouterr()
    assert facts_of(captured.out)["fits_on_the_disk"] is False
    assert "have 10 bytes free" in captured.err
    assert not (tmp_path / "out").exists()


def test_a_refused_start_leaves_nothing_behind(
    campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert main(["produce", str(campaign), "--set", "tracking.enabled=true"]) == 74
    assert {path.name for path in (tmp_path / "out").rglob("*")} <= {".lock"}


def test_messages_speak_of_campaigns(campaign: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["produce", str(campaign), "--ids", "900"]) == 78
    said = capsys.readouterr().err
    assert "id 900 does not exist, events are 0 to 99" in said
    assert "generate" not in said.split("hint:")[1]
    assert "Value error" not in said
    energies = "particles.energies={kind: listed, values: [2000.0, 3000.0]}"
    assert main(["produce", str(campaign), "--set", energies]) == 78
    said = capsys.readouterr().err
    assert "particles.energies.repeat: true" in said
    assert "--repeat-energies" not in said


def test_a_bad_shower_names_the_command_that_makes_it_again(
    campaign: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_NAN", "3:1:99")
    overrides = ["name=my toy", "tracking.uri=http://me:secret@server", f"output={tmp_path / 'o'}", "seed=9"]
    words = [word for item in overrides for word in ("--set", item)]
    changed = ["--set", "name=toy-2", *words[2:]]
    assert main(["produce", str(campaign), *changed]) == 70
    said = capsys.readouterr().err
    expected = f"caloray produce {campaign} --set name=toy-2 --set seed=9 --ids 25 --set output=repro"
    assert f"hint: make them again with: {expected}" in said
    assert "secret" not in said


def test_a_tilde_is_the_home(campaign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = load_campaign(campaign, ["output=~/x", "bundle=~/b"])
    assert (settings.output, settings.bundle) == (tmp_path / "x", tmp_path / "b")


@pytest.mark.parametrize("key", ["output", "merge source", "merge target", "status"])
@pytest.mark.parametrize("name", ["n" * 300, "a\0b"])
def test_names_that_no_file_can_have(
    campaign: Path, tmp_path: Path, capsys: Any, key: str, name: str
) -> None:
    place = f"{tmp_path}/{name}"
    match key:
        case "output":
            words = ["produce", str(campaign), "--set", f'output="{place}"'.replace("\0", "\\0")]
        case "merge source":
            words = ["campaign", "merge", place, "-o", str(tmp_path / "o.hdf5")]
        case "merge target":
            assert main(["produce", str(campaign)]) == 0
            words = ["campaign", "merge", str(tmp_path / "out"), "-o", f"{place}.hdf5"]
        case _:
            words = ["campaign", "status", place]
    assert main(words) in {2, 66, 74}, "2: the system takes no null byte in an argument"
    assert "rror" in capsys.readouterr().err


def test_logs_beside_an_error_in_json_are_json(campaign: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(STUB), "--json-errors", "produce", str(campaign)]
    quality = ["--set", "particles.energies={kind: uniform, min: 1.0, max: 2.0}"]
    done = subprocess.run([*command, *quality], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert lines[0]["level"] == "WARNING"
    assert "no quality reference" in lines[0]["message"]
    assert lines[-1]["exit_code"] == 78


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
