"""``caloray tune`` as a program, killed with trials at work: none is lost, none doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.showers import Showers
from caloray.tuning.ledger import Ledger, Trial

pytestmark = [pytest.mark.faults, pytest.mark.ray, pytest.mark.slow]
GEOMETRY = "kind: cylindrical\nlayers:\n  - {ids: 0-2, alpha: 4, r: {bins: 3, width: 5}}\n"
Start = Callable[..., "subprocess.Popen[str]"]
FLOW = {"blocks": 2, "hidden": 16}


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """Baseline and four trials of 60 epochs, one at a time."""
    (tmp_path / "toy.yaml").write_text(GEOMETRY)
    geometry = load_geometry(str(tmp_path / "toy.yaml"))
    rng = np.random.default_rng(0)
    energies = np.exp(rng.uniform(np.log(1e3), np.log(5e4), 500))
    voxels = rng.dirichlet(np.full(geometry.n_voxels, 0.7), 500) * energies[:, None]
    voxels[voxels < 1] = 0
    showers = Showers(energies, voxels.astype(np.float32), np.arange(500))
    write_challenge(tmp_path / "toy.hdf5", geometry, [showers])
    training = {"epochs": 60, "batch": 50, "checkpoint_steps": 5, "device": "cpu"}
    names = ("layer_energies", "first_layer", "next_layer")
    run = {
        "name": "toy",
        "output": str(tmp_path / "base"),
        "data": {"files": [str(tmp_path / "toy.hdf5")], "geometry": str(tmp_path / "toy.yaml")},
        "scheme": {"flows": dict.fromkeys(names, FLOW), "threshold": 1.0},
        "training": dict.fromkeys(names, training),
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    value = {
        "name": "killed",
        "config": "run.yaml",
        "output": str(tmp_path / "out"),
        "components": ["first_layer"],
        "space": {"training.first_layer.schedule.max_lr": {"log_uniform": [1e-4, 1e-2]}},
        "search": {"kind": "optuna", "startup": 2},
        "budget": {"trials": 4},
        "trial": {"cpus": 1, "concurrent": 1},
        "objective": {"kind": "nll", "rows": 100},
        "confirm": None,
        "cluster": {"num_cpus": 2, "object_store_gb": 0.2},
    }
    path = tmp_path / "tune.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def start(campaign: Path, tmp_path: Path) -> Iterator[Start]:
    """Start ``caloray tune``; what still runs at the end is killed by its id."""
    started: list[subprocess.Popen[str]] = []
    quiet = {"OMP_NUM_THREADS": "1", "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}
    outside = ("RAY_ADDRESS", "RAY_AUTH_MODE", "MLFLOW_TRACKING_URI")
    environment = {k: v for k, v in os.environ.items() if k not in outside} | quiet

    def run(*overrides: str) -> subprocess.Popen[str]:
        options = [word for item in overrides for word in ("--set", item)]
        process = subprocess.Popen(
            [sys.executable, "-m", "caloray", "tune", str(campaign), *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(found: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "never came"
        time.sleep(0.02)


def children(output: Path) -> list[Any]:
    mlflow = pytest.importorskip("mlflow")
    client = mlflow.tracking.MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("caloray")
    return list(client.search_runs([experiment.experiment_id]))


def busy(output: Path, ended: int, at_work: int) -> bool:
    """Whether so many trials have ended, and so many have a checkpoint and no result."""
    if not output.exists():
        return False
    ledger = Ledger(output)
    results = ledger.results()
    begun = [
        trial
        for trial in ledger.trials()
        if trial.number not in results
        and any(ledger.folder(trial.number).glob("components/*/checkpoints/step-*"))
    ]
    return len(results) >= ended and len(begun) >= at_work


def test_kill_9_twice_while_halving_with_two_at_work(start: Start, tmp_path: Path) -> None:
    """Each configuration once on its rung, with the likelihood that it has when nobody is killed."""
    halving = (
        "fidelity.kind=halving",
        "fidelity.min_epochs=20",
        "fidelity.factor=3",
        "search={kind: grid}",
        "space={training.first_layer.schedule.max_lr: {log_uniform: [1e-4, 1e-2], grid: 6}}",
        "budget={}",
        "trial.concurrent=2",
    )
    out = tmp_path / "out"
    before: list[Trial] = []
    # the second time a worker that lives may take each short trial before another is up
    for ended, working in ((0, 2), (3, 1)):
        process = start(*halving)
        wait_for(partial(busy, out, ended, working), process)
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
        trials = Ledger(out).trials()
        assert trials[: len(before)] == before
        before = trials
    last = start(*halving)
    _, complaints = last.communicate(timeout=400)
    assert last.returncode == 0, complaints
    ledger = Ledger(out)
    trials, results = ledger.trials(), ledger.results()
    assert sorted(results) == [trial.number for trial in trials] == list(range(len(trials)))
    assert {result.status for result in results.values()} == {"complete"}
    assert sum(result.attempts > 1 for result in results.values()) >= 1, "nobody was at work"
    rungs = Counter(trial.rung for trial in trials if trial.kind == "search")
    assert rungs[0] == 6
    assert rungs[1] >= 2, "a third, and at most one more that led at its time"
    once = Counter((json.dumps(trial.assignment), trial.rung, trial.kind) for trial in trials)
    assert set(once.values()) == {1}
    names = Counter(run.info.run_name for run in children(out))
    assert names == Counter(["killed", *(f"trial-{trial.number:04d}" for trial in trials)])
    assert {run.info.status for run in children(out)} == {"FINISHED"}
    undisturbed = start(*halving, f"output={tmp_path / 'undisturbed'}", "tracking.enabled=false")
    _, complaints = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, complaints
    other = Ledger(tmp_path / "undisturbed")
    assert first_rung(other) == first_rung(ledger)


def first_rung(ledger: Ledger) -> dict[str, Any]:
    """Weights and objectives of each configuration after its short training."""
    results = ledger.results()
    return {
        json.dumps(trial.assignment): (
            results[trial.number].facts["components"],
            results[trial.number].objectives,
        )
        for trial in ledger.trials()
        if trial.kind == "search" and trial.rung == 0
    }


def test_kill_9_and_sigterm_with_trials_at_work(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start()
    wait_for(lambda: list(out.glob("trials/0001/components/*/checkpoints/step-*")), first)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait(30) == -signal.SIGKILL
    begun = Ledger(out).trials()
    assert len(begun) >= 2
    second = start()
    wait_for(lambda: list(out.glob("trials/0002/components/*/checkpoints/step-*")), second)
    second.terminate()
    _, complaints = second.communicate(timeout=90)
    assert second.returncode == 143, complaints
    assert "run the same command again" in complaints
    assert "SIGTERM handler" not in complaints, "a second Ray was about to be started"
    assert not (out / "trials/0002/result.json").exists()
    third = start()
    printed, complaints = third.communicate(timeout=400)
    assert third.returncode == 0, complaints
    ledger = Ledger(out)
    trials, results = ledger.trials(), ledger.results()
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    assert trials[: len(begun)] == begun
    assert {result.status for result in results.values()} == {"complete"}
    assert "best trial" in printed
    runs = children(out)
    assert Counter(run.info.run_name for run in runs) == {
        "killed": 1,
        **{f"trial-{n:04d}": 1 for n in range(5)},
    }
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if run.info.run_name != "killed":
            number = int(run.info.run_name[-4:])
            found = run.data.metrics["nll_bits_per_dim"]
            assert found == pytest.approx(results[number].objectives["nll_bits_per_dim"])
    undisturbed = start(f"output={tmp_path / 'undisturbed'}", "tracking.enabled=false")
    _, complaints = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, complaints
    other = Ledger(tmp_path / "undisturbed")
    assert [trial.assignment for trial in other.trials()] == [trial.assignment for trial in trials]
    assert [r.objectives for r in other.results().values()] == [r.objectives for r in results.values()]
