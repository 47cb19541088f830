from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.cli import main
from caloray.generation.export import merge
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

TESTS = Path(__file__).parents[1]


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model behind the service, and behind `caloray generate`."""
    module = load(TESTS / "generation/stub_model.py")
    monkeypatch.setattr("caloray.bundle.Bundle", module.StubModel)
    return module


@pytest.fixture
def service(stub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service of the stub model."""
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    fake = load(TESTS / "client/fake_service.py")
    running, server = fake.start()
    model = stub.StubModel()

    def make(first: int, energies: Any, conditions: Any, seed: int) -> SparseShowers:
        ids = first + np.arange(len(energies))
        rows = [
            model.sample_block(np.full(8, e), seed, i // 8)[i % 8] for i, e in zip(ids, energies, strict=True)
        ]
        dense = Showers(np.asarray(energies), np.stack(rows), ids)
        return SparseShowers.of(dense, {"attempts": np.zeros(len(ids), np.uint8)})

    running.make, running.scene = make, fake
    yield running
    server.shutdown()
    server.server_close()


def ask(service: Any, output: Path, *words: object) -> int:
    return main(["request", service.url, "-o", str(output), *map(str, words)])


@pytest.mark.parametrize(
    "words",
    [
        ("--energies", "2000,3000,4000,3333.3333333333335", "--seed", 7),
        ("--energies", "2000", "-n", 45, "--seed", 2**64 - 1),
        ("-n", 45),
        ("-n", 30, "--energies", "uniform:2000:9000"),
        ("-n", 30, "--energies", "2000,3000,4000", "--repeat-energies"),
    ],
    ids=["listed", "one", "default", "uniform", "repeated"],
)
def test_the_showers_are_those_of_generate(service: Any, tmp_path: Path, capsys: Any, words: Any) -> None:
    assert main(["generate", "bundle", "-o", str(tmp_path / "made"), *map(str, words)]) == 0
    capsys.readouterr()
    assert ask(service, tmp_path / "asked.parquet", *words, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["content_digest"] == Manifest.load(tmp_path / "made").created["content_digest"]
    assert facts["bundle"] == "d" * 64
    merge(tmp_path / "made", tmp_path / "merged.parquet")
    with ShardReader(tmp_path / "asked.parquet") as asked, ShardReader(tmp_path / "merged.parquet") as merged:
        np.testing.assert_array_equal(asked.showers().voxels, merged.showers().voxels)
        np.testing.assert_array_equal(asked.showers().incident_energies, merged.showers().incident_energies)
        assert asked.layout == "sparse"


def test_going_on_with_a_later_event(service: Any, tmp_path: Path, capsys: Any) -> None:
    assert ask(service, tmp_path / "all.parquet", "-n", 45) == 0
    assert ask(service, tmp_path / "rest.parquet", "-n", 45, "--first", 20) == 0
    assert "20 to 44" in capsys.readouterr().out
    with ShardReader(tmp_path / "all.parquet") as whole, ShardReader(tmp_path / "rest.parquet") as rest:
        np.testing.assert_array_equal(rest.ids(), np.arange(20, 45))
        np.testing.assert_array_equal(rest.showers().voxels, whole.showers().voxels[20:])


def test_a_challenge_file(service: Any, tmp_path: Path, capsys: Any) -> None:
    assert ask(service, tmp_path / "out.hdf5", "--energies", "2000,3000") == 0
    assert re.search(r"^showers +2$", capsys.readouterr().out, re.MULTILINE)
    with h5py.File(tmp_path / "out.hdf5") as file:
        assert file["showers"].shape == (2, 36)


def test_a_busy_service_is_asked_again(service: Any, tmp_path: Path, caplog: Any) -> None:
    service.play(service.scene.problem(503, "busy", retry_after="0"))
    assert ask(service, tmp_path / "out.parquet", "--energies", "2e3,3e3") == 0
    assert "busy; trying again" in caplog.text


def test_a_service_that_stays_away(service: Any, tmp_path: Path, capsys: Any) -> None:
    service.play(service.scene.hang_up)
    out = tmp_path / "out.parquet"
    assert ask(service, out, "--energies", "2e3,3e3", "--patience", 0) == 75
    assert "error[CR-710]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_token_comes_from_a_file_or_the_environment(
    service: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from-a-file-0123456\n")
    out = tmp_path / "out.parquet"
    assert ask(service, out, "--energies", "2e3,3e3", "--token-file", tmp_path / "token") == 0
    monkeypatch.setenv("CALORAY_SERVE_TOKEN", "from-environment")
    assert ask(service, out, "--energies", "2e3,3e3", "--force") == 0
    sent = [headers.get("authorization") for path, headers, _ in service.seen if path == "/v1/showers"]
    assert sent == ["Bearer from-a-file-0123456", "Bearer from-environment"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        ((), 78, "how many showers"),
        (("--energies", "1,2"), 78, "trained from 1000 to 50000 MeV"),
        (("--energies", "nonsense", "-n", 3), 78, "energies 'nonsense'"),
        (("-n", 3, "--first", 3), 78, "first event 3 of 3"),
        (("-n", 3, "--model", "other"), 78, "no model other"),
        (("-n", 3, "--condition", "tilt=1"), 78, "tilt"),
        (("-n", 3, "--theta", 1), 78, "--theta, --phi: model toy knows no direction"),
        (("-n", 3, "--token-file", "/nowhere"), 77, "no token can be read"),
        (("-n", 3, "--seed", -1), 2, "--seed"),
    ],
)
def test_bad_requests(
    service: Any, tmp_path: Path, capsys: Any, words: Any, status: int, message: str
) -> None:
    assert ask(service, tmp_path / "out.parquet", *words) == status
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert service.asked() == []


def test_a_name_that_tells_no_format(service: Any, tmp_path: Path, capsys: Any) -> None:
    assert ask(service, tmp_path / "out.csv", "-n", 3) == 78
    assert "tells no format" in capsys.readouterr().err
    assert service.seen == []


def test_no_address(tmp_path: Path, capsys: Any) -> None:
    assert main(["request", "localhost:8000", "-n", "3", "-o", str(tmp_path / "a.parquet")]) == 78
    assert "http://127.0.0.1:8000" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["http://a..b", "http://" + "a" * 300, "http://a\0b"])
def test_addresses_that_no_host_has(tmp_path: Path, capsys: Any, address: str) -> None:
    assert main(["request", address, "-n", "3", "-o", str(tmp_path / "a.parquet")]) == 78
    error = capsys.readouterr().err
    assert "error[CR-100] service address" in error
    assert "Traceback" not in error


def test_a_file_that_is_there_is_kept(service: Any, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.parquet"
    out.write_text("precious")
    assert ask(service, out, "-n", 3) == 74
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert service.seen == []
    assert ask(service, out, "-n", 3, "--force") == 0
    with ShardReader(out) as reader:
        assert len(reader.ids()) == 3


def test_places_where_nothing_can_be_written(service: Any, tmp_path: Path, capsys: Any) -> None:
    """Found out before anything is asked for."""
    (tmp_path / "file").write_text("")
    (tmp_path / "d.parquet").mkdir()
    for place, words in (
        (tmp_path / "file/b.hdf5", "is a file, no folder"),
        (tmp_path / "d.parquet", "is a folder"),
        (Path("/proc/b.parquet"), "cannot be written"),
    ):
        assert ask(service, place, "-n", 3) == 74
        error = capsys.readouterr().err
        assert words in error
        assert "Traceback" not in error
    assert service.seen == []


def test_a_token_file_that_others_can_read_is_warned_of(service: Any, tmp_path: Path, caplog: Any) -> None:
    token = tmp_path / "token"
    token.write_text("from-a-file-0123456\n")
    for mode, warned in ((0o600, False), (0o640, True)):
        token.chmod(mode)
        caplog.clear()
        assert ask(service, tmp_path / f"{mode}.parquet", "-n", 3, "--token-file", token) == 0
        assert ("other users can read" in caplog.text) is warned
        assert "from-a-file" not in caplog.text


@pytest.mark.parametrize("source", ["variable", "file"])
def test_the_token_through_the_real_command(service: Any, tmp_path: Path, source: str) -> None:
    token, environment = tmp_path / "token", dict(os.environ)
    environment.pop("CALORAY_SERVE_TOKEN", None)
    token.write_text("from-a-file-0123456\n")
    token.chmod(0o600)
    words = ["--token-file", str(token)] if source == "file" else []
    if source == "variable":
        environment["CALORAY_SERVE_TOKEN"] = "from-a-file-0123456"
    command = [sys.executable, "-m", "caloray", "request", service.url, "-n", "3", "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "out.parquet"), *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert {headers.get("authorization") for _, headers, _ in service.seen} == {"Bearer from-a-file-0123456"}
    assert "from-a-file" not in done.stdout + done.stderr
