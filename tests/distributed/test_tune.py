"""Campaigns on Ray Tune: every trial has its result, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from caloray.errors import ConfigError, InterruptedRunError, StorageError
from caloray.tuning.ledger import Ledger

pytestmark = pytest.mark.ray


def kill_at_step(ledger: Ledger, number: int, step: int, times: int) -> threading.Thread:
    """Kill -9 the process of a trial, each time it has gone ``step`` further and has another process id."""
    folder = ledger.folder(number) / "components" / "first_layer"

    def watch() -> None:
        seen: set[int] = set()
        end = time.monotonic() + 200
        while len(seen) < times and time.monotonic() < end:
            time.sleep(0.02)
            try:
                pid = int((folder / "worker.pid").read_text())
                begun = len(list((folder / "checkpoints").glob("step-*"))) >= step
            except (OSError, ValueError):
                continue
            if pid not in seen and begun:
                seen.add(pid)
                os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_trials_side_by_side(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Confirmed, finished, and silent; the same call again finds everything done."""
    finish = {"confirm": {"seeds": 2, "split": "test"}, "finish": {"bundle": True}}
    settings = tuning.settings(toy, tmp_path, **finish)
    ledger = tuning.carry_out(settings)
    results = ledger.results()
    kinds = [trial.kind for trial in ledger.trials()]
    assert kinds == ["baseline", *["search"] * 3, *["confirm"] * 4]
    assert len(results) == 8
    assert {result.status for result in results.values()} == {"complete"}, results
    assert not any(trial.continues for trial in ledger.trials())
    assert {trial.split for trial in ledger.trials() if trial.kind == "confirm"} == {"test"}
    output = settings.output
    assert not (output / "ray").exists()
    assert not list(output.glob("trials/**/checkpoints"))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""
    best = min((r for n, r in results.items() if n < 4), key=lambda r: r.objectives["nll_bits_per_dim"])
    text = yaml.safe_load((output / "best" / "run.yaml").read_text())
    assert text["training"]["first_layer"]["epochs"] == 2
    assert len((output / "trials.csv").read_text().splitlines()) == 9
    assert (output / "report.html").stat().st_size > 1000
    made = output / "best" / "run" / "components" / "first_layer" / "result" / "weights.safetensors"
    kept = ledger.folder(best.number) / "components" / "first_layer" / "result" / "weights.safetensors"
    assert made.read_bytes() == kept.read_bytes(), "what the best trial trained is taken over"
    assert (output / "best" / "run" / "bundle" / "bundle.json").is_file()
    began = time.monotonic()
    assert tuning.carry_out(settings).results() == results
    assert time.monotonic() - began < 60
    other = settings.model_copy(update={"seed": 7})
    with pytest.raises(StorageError, match="holds the trials of another campaign; seed: it has 1, here 7"):
        tuning.carry_out(other)


def test_nan_is_pruned_and_the_others_go_on(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    space = {"training.first_layer.learning_rate": {"choice": [1e-3, 1e18]}}
    schedule = {"training.first_layer.schedule": {"kind": "constant"}, "training.first_layer.epochs": 2}
    grid = {"kind": "grid"}
    settings = tuning.settings(toy, tmp_path, space=space, set=schedule, search=grid, budget={})
    results = tuning.carry_out(settings).results()
    assert [results[n].status for n in range(3)] == ["complete", "complete", "pruned"]
    assert results[2].reason.startswith("CR-400 component first_layer: ")
    assert results[2].attempts == 1, "a loss that is not finite is no accident"


def test_limits_and_an_impossible_trial_reach_the_campaign(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    """A limit is the trial's own matter, and the others go on; what can never be done ends the campaign."""
    small = {"budget": {"trials": 1}, "trial": {"memory_gb": 0.01}}
    results = tuning.carry_out(tuning.settings(toy, tmp_path / "memory", **small)).results()
    assert [result.status for result in results.values()] == ["stopped", "stopped"]
    assert results[0].reason.startswith("memory limit: 0.")
    short = {"set": {"training.first_layer.epochs": 3000}, "budget": {"trials": 1}}
    short |= {"trial": {"minutes": 0.05}}
    results = tuning.carry_out(tuning.settings(toy, tmp_path / "time", **short)).results()
    assert {result.status for result in results.values()} == {"stopped"}
    assert results[0].reason.startswith("time limit: ")
    lost = {"set": {"training.first_layer.warm_start": "layer_energies"}, "budget": {"trials": 1}}
    settings = tuning.settings(toy, tmp_path / "lost", **lost)
    with pytest.raises(ConfigError, match="starts from the weights of layer_energies, which the trial does"):
        tuning.carry_out(settings)
    assert Ledger(settings.output).trials() == []


@pytest.mark.slow
def test_a_larger_budget_after_the_bundle(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    """A better trial takes the place of the earlier best, in the bundle as well."""
    changes = {"finish": {"bundle": True}, "baseline": False}
    settings = tuning.settings(toy, tmp_path, budget={"trials": 1}, **changes)
    tuning.carry_out(settings)
    folder = settings.output / "best" / "run" / "components" / "first_layer"
    before = (folder / "identity.json").read_text()
    made = tuning.settings(toy, tmp_path, budget={"trials": 6}, **changes)
    results = tuning.carry_out(made).results()
    best = min(results, key=lambda number: results[number].objectives["nll_bits_per_dim"])
    kept = Ledger(made.output).folder(best) / "components" / "first_layer" / "result" / "weights.safetensors"
    assert (folder / "result" / "weights.safetensors").read_bytes() == kept.read_bytes()
    assert (best == 0) == ((folder / "identity.json").read_text() == before)
    assert (made.output / "best" / "run" / "bundle" / "bundle.json").is_file()


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_worker_goes_on_and_one_that_always_dies_is_on_record(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    longer = {"training.first_layer.epochs": 40}
    changes = {"set": longer, "budget": {"trials": 1}, "baseline": True}
    settings = tuning.settings(toy, tmp_path, **changes)
    ledger = Ledger(settings.output)
    once = kill_at_step(ledger, 0, step=2, times=1)
    always = kill_at_step(ledger, 1, step=1, times=2)
    results = tuning.carry_out(settings).results()
    once.join()
    always.join()
    assert results[0].status == "complete"
    assert results[0].attempts == 2
    config = toy.config(tmp_path / "base", training__first_layer__epochs=40)
    alone = toy.trained_alone(config, "first_layer", tmp_path / "alone")
    assert results[0].facts["components"]["first_layer"]["weights"] == alone
    assert results[1].status == "failed"
    assert results[1].reason == "CR-600 its process died (killed, or out of memory) (2 attempts)"


@pytest.mark.slow
def test_a_stop_keeps_everything(ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path) -> None:
    from caloray.distributed.session import connect
    from caloray.distributed.tune import TuneProgress, run_tuning

    changes = {"set": {"training.first_layer.epochs": 30}, "budget": {"trials": 1}}
    settings = tuning.settings(toy, tmp_path, **changes)

    def stop(director: Any, running: Any) -> None:
        if list(settings.output.glob("trials/*/components/*/checkpoints/step-*")):
            signal.raise_signal(signal.SIGTERM)

    with (
        pytest.raises(InterruptedRunError, match="tuning stopped by SIGTERM"),
        connect(settings.cluster) as session,
    ):
        run_tuning(settings, session, TuneProgress(tried=stop))
    ledger = Ledger(settings.output)
    begun = ledger.trials()
    assert begun
    assert not ledger.results()
    ended = tuning.carry_out(settings)
    assert ended.trials()[: len(begun)] == begun
    assert {result.status for result in ended.results().values()} == {"complete"}


@pytest.mark.slow
def test_the_end_of_the_hours_stops_the_search(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials at work stay unfinished; what is complete is confirmed, and the same command adds nothing."""
    from caloray.distributed.session import connect
    from caloray.distributed.tune import TuneProgress, run_tuning

    changes = {"budget": {"hours": 10.0}, "confirm": {"seeds": 1, "split": "validation"}}
    settings = tuning.settings(toy, tmp_path, **changes, set={"training.first_layer.epochs": 8})
    later = [0.0]
    monkeypatch.setattr(
        "caloray.distributed.tune.Director.__init__.__defaults__", (lambda: time.monotonic() + later[0],)
    )

    def clock(director: Any, running: Any) -> None:
        if len(director.ledger.results()) >= 3 and running:
            later[0] = 36_001.0

    with connect(settings.cluster) as session:
        run_tuning(settings, session, TuneProgress(tried=clock))
    ledger = Ledger(settings.output)
    trials = ledger.trials()
    left = [trial for trial in trials if ledger.result(trial.number) is None]
    assert {trial.kind for trial in left} == {"search"}
    assert [trial.kind for trial in trials if trial.kind == "confirm"] == ["confirm"] * 2
    later[0] = 0.0
    assert tuning.carry_out(settings).trials() == trials


@pytest.mark.slow
def test_data_parallel_trials(ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path) -> None:
    """Two workers take all that the cluster has: their driver needs no place beside them."""
    changes = {"budget": {"trials": 1}, "trial": {"cpus": 2, "workers": 2, "retries": 1}}
    settings = tuning.settings(toy, tmp_path, **changes)
    results = tuning.carry_out(settings).results()
    assert [results[n].status for n in range(2)] == ["complete", "complete"], results
