"""Training on Ray: the same weights as in one plain process, whoever is killed meanwhile (G19, G22, G26)."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caloray.errors import CheckpointError, InterruptedRunError
from caloray.interrupt import StopRequest
from caloray.tracking import NullTracker
from caloray.training.files import ComponentFolder, ComponentResult

pytestmark = pytest.mark.ray


def train(config: Any, components: tuple[str, ...], stop: StopRequest | None = None) -> Mapping[str, Any]:
    """Train some components of a run on the open Ray session."""
    from caloray.distributed.feed import Feed
    from caloray.distributed.jobs import component_jobs
    from caloray.distributed.run_directory import RunDirectory
    from caloray.distributed.train import train_components

    run = RunDirectory.of(config)
    stop = stop or StopRequest()
    feed = Feed(run.shards)
    _, _, jobs = component_jobs(config, run, feed, stop)
    workers = {job.name: config.workers_of(job.name) for job in jobs}
    chosen = [job for job in jobs if job.name in components]
    return train_components(chosen, feed, workers, run.path, stop=stop, tracker=NullTracker(), grace=90)


def wait_for_step(folder: Path, step: int, timeout: float = 300) -> None:
    """Until the component has reached ``step``."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            if json.loads((folder / "progress.json").read_text())["step"] >= step:
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.01)
    pytest.fail(f"{folder} never reached step {step}")


def kill_worker_at(folder: Path, step: int) -> threading.Thread:
    """Kill -9 the worker that wrote its process id into ``folder`` once it has reached ``step``."""

    def wait_and_kill() -> None:
        wait_for_step(folder, step)
        os.kill(int((folder / "worker.pid").read_text()), signal.SIGKILL)

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_ray_gives_the_weights_of_a_plain_process(
    ray_cluster: ModuleType, toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(tmp_path / "run")
    outcomes = train(config, ("first_layer",))
    assert isinstance(outcomes["first_layer"], ComponentResult), outcomes
    assert outcomes["first_layer"].sha256 == toy.trained_alone(config, "first_layer", tmp_path / "alone")
    assert not list((tmp_path / "run" / "ray").glob("*")), "Ray's own notes stay behind"

    def refuse(*_: object) -> None:
        pytest.fail("a finished component must not start a trainer")

    monkeypatch.setattr("caloray.distributed.train.Training", refuse)
    assert train(config, ("first_layer",)) == outcomes


def test_a_failed_component_does_not_stop_the_others(
    ray_cluster: ModuleType, toy: Any, tmp_path: Path
) -> None:
    config = toy.config(tmp_path / "run", training__first_layer__epochs=2, training__layer_energies__epochs=2)
    bad = tmp_path / "run" / "components" / "first_layer" / "checkpoints" / "step-00000005"
    bad.mkdir(parents=True)
    (bad / "state.pt").write_bytes(b"damaged")
    outcomes = train(config, ("first_layer", "layer_energies"))
    assert isinstance(outcomes["first_layer"], CheckpointError)
    assert "none of 1 checkpoints verifies" in outcomes["first_layer"].message
    assert isinstance(outcomes["layer_energies"], ComponentResult)
    (bad / "state.pt").unlink()
    bad.rmdir()
    again = train(config, ("first_layer", "layer_energies"))
    assert isinstance(again["first_layer"], ComponentResult)
    assert again["layer_energies"] == outcomes["layer_energies"]


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_worker_costs_nothing_but_time(ray_cluster: ModuleType, toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run", training__next_layer__epochs=30)
    folder = tmp_path / "run" / "components" / "next_layer"
    killer = kill_worker_at(folder, 150)
    outcomes = train(config, ("next_layer",))
    killer.join()
    assert isinstance(outcomes["next_layer"], ComponentResult), outcomes
    assert outcomes["next_layer"].sha256 == toy.trained_alone(config, "next_layer", tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.faults
def test_two_workers_resume_together(ray_cluster: ModuleType, toy: Any, tmp_path: Path) -> None:
    """The pair that lost a worker ends with the weights of the undisturbed pair."""
    changes = {"training__next_layer__epochs": 15, "workers__next_layer": {"workers": 2, "cpus": 0.5}}
    undisturbed = train(toy.config(tmp_path / "one", **changes), ("next_layer",))["next_layer"]
    assert isinstance(undisturbed, ComponentResult), undisturbed
    folder = tmp_path / "two" / "components" / "next_layer"
    config = toy.config(tmp_path / "two", **changes)
    killer = kill_worker_at(folder, 75)
    disturbed = train(config, ("next_layer",))["next_layer"]
    killer.join()
    assert isinstance(disturbed, ComponentResult), disturbed
    assert disturbed.sha256 == undisturbed.sha256


@pytest.mark.slow
@pytest.mark.faults
def test_a_stop_leaves_a_checkpoint_and_is_continued(
    ray_cluster: ModuleType, toy: Any, tmp_path: Path
) -> None:
    config = toy.config(tmp_path / "run", training__next_layer__epochs=30)
    folder = tmp_path / "run" / "components" / "next_layer"
    stop = StopRequest()

    def wait_and_stop() -> None:
        wait_for_step(folder, 60)
        stop.request(signal.SIGTERM)

    thread = threading.Thread(target=wait_and_stop)
    thread.start()
    with pytest.raises(InterruptedRunError, match="training stopped by SIGTERM"):
        train(config, ("next_layer",), stop)
    thread.join()
    assert ComponentFolder(folder).result() is None
    assert list((folder / "checkpoints").glob("step-*"))
    outcome = train(config, ("next_layer",))["next_layer"]
    assert outcome.sha256 == toy.trained_alone(config, "next_layer", tmp_path / "alone")
