from __future__ import annotations

import contextlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.cli import main
from caloray.generation.receipts import Receipt, write_receipt
from caloray.io.manifest import Manifest
from caloray.native import library

STUB = Path(__file__).parents[1] / "generation/stub_model.py"


@pytest.fixture(autouse=True)
def stub_bundle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let every bundle path load the stub model."""
    spec = importlib.util.spec_from_file_location("stub_model", STUB)
    assert spec is not None
    assert spec.loader is not None
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    monkeypatch.setattr("caloray.bundle.Bundle", stub.StubModel)
    return stub


def run(*arguments: object) -> int:
    return main(["generate", "bundle", *map(str, arguments)])


def test_showers_shards_and_a_digest_that_the_manifest_repeats(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    status = run("-n", 100, "--seed", 7, "-o", out, "--blocks-per-shard", 4, "--hdf5", tmp_path / "s.hdf5")
    assert status == 0
    printed = capsys.readouterr().out
    manifest = Manifest.load(out)
    facts = dict(line.split(maxsplit=1) for line in printed.splitlines() if not line.startswith(("ms", "re")))
    assert facts["showers"] == "100"
    assert facts["shards"] == "4"
    assert manifest.created["content_digest"] in printed
    assert "ms per shower" in printed
    with h5py.File(tmp_path / "s.hdf5") as file:
        assert file["showers"].shape == (100, 36)


def test_json_is_one_object(tmp_path: Path, capsys: Any) -> None:
    assert run("-n", 20, "-o", tmp_path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["showers"] == 20
    assert facts["content_digest"] == Manifest.load(tmp_path).created["content_digest"]


def test_the_same_command_twice_gives_the_same_answer(tmp_path: Path, capsys: Any) -> None:
    printed = []
    for _ in range(2):
        assert run("-n", 20, "-o", tmp_path) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_a_dry_run_says_what_would_be_made_and_writes_nothing(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    assert run("-n", 1000, "-o", out, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["showers"], plan["blocks"], plan["shards"]) == (1000, 125, 1)
    assert plan["energies_mev"] == "log-uniform, 1000 to 50000"
    assert plan["bytes_estimate"] > 0
    assert not out.exists()
    assert run("-n", 1000, "-o", out, "--dry-run") == 0
    assert "trained on [MeV]" in capsys.readouterr().out


def test_single_ids(tmp_path: Path, capsys: Any) -> None:
    assert run("-n", 100, "-o", tmp_path, "--ids", "12,70") == 0
    assert "showers" in capsys.readouterr().out
    assert Manifest.load(tmp_path).rows() == 2


def test_energies_from_a_file_tell_the_number(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "e.csv", np.full(13, 2e3))
    assert run("-o", tmp_path / "out", "--energies", tmp_path / "e.csv") == 0
    assert Manifest.load(tmp_path / "out").rows() == 13


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("-n", 5, "--energies", "1e3,2e3,3e3"), 78, "error[CR-100] generation: 5 showers from 3"),
        (("--energies", "1,2,3"), 78, "trained from 1000 to 50000 MeV"),
        (("-n", 5, "--energies", "log-uniform:100:5e4"), 78, "hint: stay inside the trained range"),
        (("-n", 5, "--energies", "nonsense"), 78, "energies 'nonsense'"),
        (("-n", 5, "--ids", "a"), 78, "--ids 'a'"),
        (("-n", 5, "--ids", "7"), 78, "id 7 does not exist"),
        ((), 78, "how many showers?"),
        (("-n", 0), 2, "-n"),
        (("-n", 5, "--seed", -1), 2, "--seed"),
        (("-n", 5, "--on-invalid", "ignore"), 2, "--on-invalid"),
    ],
)
def test_bad_requests(
    tmp_path: Path, capsys: Any, arguments: tuple[object, ...], status: int, message: str
) -> None:
    out = tmp_path / "out"
    assert run("-o", out, *arguments) == status
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_extrapolation_is_recorded(tmp_path: Path) -> None:
    assert run("-n", 5, "-o", tmp_path, "--energies", "uniform:10:20", "--allow-extrapolation") == 0
    assert Manifest.load(tmp_path).created["plan"]["allow_extrapolation"] is True


def test_another_request_in_the_directory(tmp_path: Path, capsys: Any) -> None:
    assert run("-n", 5, "-o", tmp_path) == 0
    assert run("-n", 5, "-o", tmp_path, "--seed", 1) == 74
    assert "belongs to plan" in capsys.readouterr().err


def test_invalid_showers_stop_or_are_redrawn(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_NAN", "0:3:2")
    assert run("-n", 5, "-o", tmp_path / "a") == 70
    complaint = capsys.readouterr().err
    assert "caloray generate bundle -n 5 --seed 0 --energies log-uniform:1000.0:50000.0" in complaint
    assert "--ids 3" in complaint
    assert run("-n", 5, "-o", tmp_path / "b", "--on-invalid", "resample") == 0
    assert "redrawn showers  1" in capsys.readouterr().out


def test_workers_and_gpus_bound_the_shards_under_way(
    stub_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import caloray.distributed.generate as production
    from caloray.distributed import session
    from caloray.generation.run import generate as carry_out

    loads = []

    def instead(_session: Any, _bundle: Path, plan: Any, directory: Path, progress: Any, load: Any) -> Any:
        loads.append(load)
        return carry_out(stub_bundle.StubModel(), plan, directory, progress)

    monkeypatch.setattr(session, "connect", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(production, "generate_with_ray", instead)
    assert run("-n", 20, "-o", tmp_path, "--workers", 3, "--gpus", 0.5, "--backend", "jacobi") == 0
    assert loads == [production.GenerationLoad(gpus=0.5, workers=3, backend="jacobi")]
    assert loads[0].device == "cuda"


def test_a_slow_fallback_is_told_unless_it_was_asked_for(
    stub_bundle: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(stub_bundle.StubModel, "backend", "torch")
    monkeypatch.setattr(library, "why_not", lambda: "no compiler was found")
    assert run("-n", 5, "-o", tmp_path / "auto") == 0
    assert "slow back-end torch: no compiler was found" in capsys.readouterr().err
    assert run("-n", 5, "-o", tmp_path / "torch", "--backend", "torch") == 0
    assert capsys.readouterr().err == ""


def test_an_unknown_backend_is_refused_with_the_known_ones(tmp_path: Path, capsys: Any) -> None:
    assert run("-n", 5, "-o", tmp_path, "--backend", "nflows") == 2
    complaint = capsys.readouterr().err
    assert "native-bf16" in complaint
    assert "jacobi" in complaint


def test_a_production_of_before_backends_were_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def without_backend(directory: Path, receipt: Receipt) -> None:
        write_receipt(directory, replace(receipt, numerics={"device": "cpu"}))

    monkeypatch.setattr("caloray.generation.shard.write_receipt", without_backend)
    for _ in range(2):
        assert run("-n", 5, "-o", tmp_path) == 0
        assert "made by not recorded, not stub" in capsys.readouterr().err
