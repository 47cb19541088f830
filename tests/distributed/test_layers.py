"""Layer flows on Ray: each its own training; one that is killed harms no other, a rerun trains only it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caloray.config import WorkerConfig
from caloray.errors import ClusterError
from caloray.interrupt import StopRequest
from caloray.tracking import NullTracker
from caloray.training.files import ComponentFolder, ComponentResult

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults]

FLOW = {"blocks": 1, "hidden": 8, "squeeze": [1, 2], "kernels": [[3, 2]]}
SCHEME = {"kind": "layerwise", "flows": {"layer": FLOW}, "threshold": 1.0}
TRAINING = {"epochs": 40, "batch": 50, "checkpoint_steps": 5, "device": "cpu", "validation_rows": 50}


def layers_of(toy: Any, output: Path, training: dict[str, Any]) -> Any:
    """The toy run with one flow for each of its three layers."""
    workers = {"layer": {"cpus": 0.5, "max_failures": 0}}
    return toy.config(output, scheme=SCHEME, training=training, workers=workers)


def train(
    config: Any, names: tuple[str, ...] = ("layer_00", "layer_01", "layer_02")
) -> tuple[dict[str, Any], list[Any]]:
    """Train some layers; outcomes and what was shown."""
    from caloray.distributed.feed import Feed
    from caloray.distributed.jobs import component_jobs
    from caloray.distributed.run_directory import RunDirectory
    from caloray.distributed.train import train_components

    run, stop, shown = RunDirectory.of(config), StopRequest(), []
    feed = Feed(run.shards)
    _, _, jobs = component_jobs(config, run, feed, stop)
    chosen = [job for job in jobs if job.name in names]
    workers = {job.name: config.workers_of(job.name) for job in jobs}
    outcomes = train_components(
        chosen, feed, workers, run.path, stop=stop, tracker=NullTracker(), show=shown.append, grace=90
    )
    return outcomes, shown


def kill_when_it_moves(folder: Path) -> threading.Thread:
    """Kill -9 the worker of ``folder`` after its first checkpoint."""

    def wait_and_kill() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and not list((folder / "checkpoints").glob("step-*[0-9]")):
            time.sleep(0.01)
        os.kill(int((folder / "worker.pid").read_text()), signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_a_killed_layer_harms_no_other_and_a_rerun_trains_only_it(
    ray_cluster: ModuleType, toy: Any, tmp_path: Path
) -> None:
    config = layers_of(toy, tmp_path / "run", {"layer": TRAINING})
    folders = {name: config.output / "components" / name for name in ("layer_00", "layer_01", "layer_02")}
    killer = kill_when_it_moves(folders["layer_01"])
    outcomes, shown = train(config)
    killer.join()
    assert isinstance(outcomes["layer_01"], ClusterError)
    assert "layer_01: its worker died" in outcomes["layer_01"].message
    assert [state.state for state in shown[-1]] == ["done", "failed", "done"]
    assert {state.now.epochs for state in shown[-1] if state.now} == {40}
    for name in ("layer_00", "layer_02"):
        assert isinstance(outcomes[name], ComponentResult)
        assert outcomes[name].sha256 == toy.trained_alone(config, name, tmp_path / name)
    pids = {name: (folder / "worker.pid").read_text() for name, folder in folders.items()}
    again, _ = train(config)
    changed = {name for name, folder in folders.items() if (folder / "worker.pid").read_text() != pids[name]}
    assert changed == {"layer_01"}
    assert again["layer_01"].sha256 == toy.trained_alone(config, "layer_01", tmp_path / "layer_01")
    assert {name: again[name] for name in ("layer_00", "layer_02")} == {
        name: outcomes[name] for name in ("layer_00", "layer_02")
    }


def test_a_chain_of_warm_starts(ray_cluster: ModuleType, toy: Any, tmp_path: Path) -> None:
    short = TRAINING | {"epochs": 2, "warm_start": "previous"}
    config = layers_of(toy, tmp_path / "run", {"layer": short})
    outcomes, _ = train(config)
    assert [outcome.warm_start is None for outcome in outcomes.values()] == [True, False, False]
    for name, source in (("layer_01", "layer_00"), ("layer_02", "layer_01")):
        warm = outcomes[name].warm_start
        assert (warm["source"], warm["sha256"]) == (source, outcomes[source].sha256)
        assert 0 < warm["tensors"] <= warm["of"]
    assert ComponentFolder(config.output / "components" / "layer_02").result() == outcomes["layer_02"]
    again, _ = train(config)
    assert again == outcomes


def test_two_workers_share_a_layer(ray_cluster: ModuleType, toy: Any, tmp_path: Path) -> None:
    """Normalisation layers are set on rank 0; both ranks end with the same decision."""
    short = TRAINING | {"epochs": 3, "patience": 1}
    config = layers_of(toy, tmp_path / "run", {"layer": short})
    pair = config.model_copy(update={"workers": {"layer": WorkerConfig(workers=2, cpus=0.5)}})
    outcomes, _ = train(pair, ("layer_01",))
    assert isinstance(outcomes["layer_01"], ComponentResult), outcomes
    assert math.isfinite(outcomes["layer_01"].validation_loss)
