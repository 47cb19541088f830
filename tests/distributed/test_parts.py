"""The parts of distributed training that need no Ray: stops, progress, names, errors in plain words."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from caloray.distributed.loop import FileStop
from caloray.distributed.outline import outline_training
from caloray.distributed.pipeline import _all_or_error
from caloray.distributed.progress import ProgressReader
from caloray.distributed.run_directory import RunDirectory
from caloray.distributed.trainer import _explained, _run_name
from caloray.errors import CheckpointError, ClusterError, ConfigError, InterruptedRunError, NumericalError
from caloray.tracking import NullTracker
from caloray.training.files import ComponentResult


def result(name: str) -> ComponentResult:
    return ComponentResult(name, "0" * 64, 10, 5, 4, -1.5, 2.0)


def test_a_stop_arrives_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("caloray.interrupt.time", SimpleNamespace(monotonic=lambda: clock[0]))
    stop = FileStop(tmp_path / "stop")
    assert not stop.requested
    (tmp_path / "stop").write_text(f"{int(signal.SIGINT)}\n")
    clock[0] += 0.19
    assert not stop.requested, "the file system is asked five times a second, not at every step"
    clock[0] += 0.02
    assert stop.requested
    with pytest.raises(InterruptedRunError, match="training stopped by SIGINT") as caught:
        stop.check("training")
    assert caught.value.context["signal"] == signal.SIGINT


def test_progress_is_read_with_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 102.0, 103.0, 104.0])
    monkeypatch.setattr("caloray.distributed.progress.time", SimpleNamespace(monotonic=lambda: next(clock)))
    reader = ProgressReader("next_layer", tmp_path)
    assert reader.read() is None

    def at(step: int) -> Any:
        fields = {"step": step, "total_steps": 90, "epoch": 1, "loss": 2.5, "val_loss": None}
        (tmp_path / "progress.json").write_text(json.dumps(fields))
        return reader.read()

    assert at(10).rate == 0
    assert at(30).rate == 10
    assert at(30).rate == 10
    assert at(20).rate == 0, "restarted from a checkpoint"
    (tmp_path / "progress.json").write_text('{"step": ')
    assert reader.read() is None


def test_ray_names_are_never_used_twice(toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run")
    request = SimpleNamespace(config=config.training_of("first_layer"), seed=1)
    job: Any = SimpleNamespace(name="first_layer", request=request)
    names = {_run_name(tmp_path / "run", job) for _ in range(10)}
    assert len(names) == 10
    assert len({name.rsplit("-", 1)[0] for name in names}) == 1


def test_failures_of_ray_are_told_in_plain_words() -> None:
    deliberate = NumericalError("component x: loss is nan")
    failed = RuntimeError("2 workers failed")
    failed.worker_failures = {0: ValueError("gloo closed"), 1: deliberate}  # type: ignore[attr-defined]
    assert _explained("x", failed) is deliberate
    lost = RuntimeError("1 worker failed")
    lost.worker_failures = {0: RuntimeError("first line\nActor died")}  # type: ignore[attr-defined]
    explained = _explained("x", lost)
    assert isinstance(explained, ClusterError)
    assert explained.message == "component x: training ended with RuntimeError: Actor died"
    assert "checkpoints are kept" in explained.hint


def test_a_bundle_needs_all_components() -> None:
    both = {"a": result("a"), "b": result("b")}
    assert _all_or_error(both, NullTracker()) == both
    failed = NumericalError("component b: loss is nan", hint="lower the rate", epoch=3)
    with pytest.raises(NumericalError, match="component b: loss is nan; also failed: c") as caught:
        _all_or_error({"a": result("a"), "b": failed, "c": ClusterError("lost")}, NullTracker())
    assert caught.value.hint == "lower the rate; finished components are kept (a)"
    assert caught.value.context == {"component": "b", "epoch": 3}


def test_the_outline_counts_rows_and_steps(toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run")
    outline = outline_training(config)
    train = outline.showers["train"]
    assert outline.ingested
    assert sum(outline.showers.values()) == 1000
    rows = {part.name: part.rows for part in outline.components}
    assert rows == {"layer_energies": train, "first_layer": train, "next_layer": 2 * train}
    steps = {part.name: part.steps for part in outline.components}
    assert steps["next_layer"] == 6 * (2 * train // 50)
    assert {part.state for part in outline.components} == {"new"}


def test_the_outline_of_chosen_components(toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run")
    assert [part.name for part in outline_training(config, ("first_layer",)).components] == ["first_layer"]
    with pytest.raises(ConfigError, match="no component 'nope'"):
        outline_training(config, ("first_layer", "nope"))


def test_the_outline_refuses_what_the_training_would(toy: Any, tmp_path: Path) -> None:
    """Another number of epochs is another schedule; where it is trained does not matter."""
    config = toy.config(tmp_path / "run")
    folder = RunDirectory.of(config).component("first_layer")
    toy.trained_alone(config, "first_layer", folder)
    elsewhere = toy.config(tmp_path / "run", training__first_layer__device="auto")
    states = {part.name: part.state for part in outline_training(elsewhere).components}
    assert states == {"layer_energies": "new", "first_layer": "finished", "next_layer": "new"}
    record = (folder / "identity.json").read_bytes()
    for change, told in (
        ({"training__first_layer__epochs": 7}, "training.epochs: 6 -> 7"),
        ({"seed": 9}, "seed: . -> 9"),
    ):
        other = toy.config(tmp_path / "run", **change)
        with pytest.raises(CheckpointError, match=f"first_layer: was trained with another config .*{told}"):
            outline_training(other)
        assert outline_training(other, ("next_layer",)).components
        assert {part.state for part in outline_training(other, fresh=True).components} == {"new"}
    assert (folder / "identity.json").read_bytes() == record


def test_a_fresh_start_keeps_the_shards(toy: Any, tmp_path: Path) -> None:
    run = RunDirectory.of(toy.config(tmp_path / "run"))
    for folder in (run.component("first_layer"), run.bundle, run.showers, run.figures):
        folder.mkdir(parents=True)
    for file in (run.statistics, run.results, run.path / "tracking.json", run.path / "mlflow.db"):
        file.write_text("{}")
    run.discard()
    assert sorted(p.name for p in run.path.iterdir()) == ["mlflow.db", "shards"]


def test_the_kept_config_has_no_credentials(toy: Any, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run", tracking={"uri": "https://me:geheim@host"})
    RunDirectory.of(config).write_config(config)
    assert "geheim" not in (tmp_path / "run" / "config.json").read_text()


def test_resources_as_ray_names_them() -> None:
    from caloray.config import WorkerConfig
    from caloray.distributed.trainer import resources_of

    assert resources_of(WorkerConfig(cpus=0.5)) == {"CPU": 0.5}
    assert resources_of(WorkerConfig(cpus=2, gpus=0.25)) == {"CPU": 2, "GPU": 0.25}
