"""Trials in MLflow: one child each, once, with few numbers, closed as they ended."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from caloray.tracking import MlflowTracker, TrackingConfig, sync_run
from caloray.tracking.state import STATE

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def no_uri_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def write_epochs(folder: Path, epochs: range) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "history.jsonl").open("a") as file:
        for epoch in epochs:
            row = {"epoch": epoch, "val_loss": 2.0 - epoch, "lr": 1e-3, "train_loss": 1.0, "seconds": 1.0}
            file.write(json.dumps(row) + "\n")


def runs_of(folder: Path) -> dict[str, list]:
    client = mlflow.tracking.MlflowClient(f"sqlite:///{folder.resolve() / 'mlflow.db'}")
    found: dict[str, list] = {}
    for run in client.search_runs([client.get_experiment_by_name("caloray").experiment_id]):
        found.setdefault(run.info.run_name, []).append(run)
    return found


def begin(tracker: MlflowTracker, number: int = 0) -> str:
    name = f"trial-{number:04d}"
    tags = {"caloray.kind": "search", "caloray.rung": "1"}
    histories = {"": f"trials/{number:04d}/components/next_layer"}
    tracker.child(name, {"training.next_layer.schedule.max_lr": 0.01, "seed": 1}, tags, histories)
    return name


def test_children_hold_what_matters(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path, TrackingConfig())
    tracker.start("campaign", [], {"seed": 3})
    name = begin(tracker)
    write_epochs(tmp_path / "trials/0000/components/next_layer", range(2))
    tracker.poll()
    write_epochs(tmp_path / "trials/0000/components/next_layer", range(2, 3))
    tracker.child_ended(name, "FINISHED", {"nll_bits_per_dim": 0.5})
    begin(tracker, 1)
    tracker.child_ended("trial-0001", "FAILED", {})
    begin(tracker, 2)
    assert tracker.pending
    tracker.close("KILLED")
    assert not tracker.pending
    runs = runs_of(tmp_path)
    assert {name: len(found) for name, found in runs.items()} == dict.fromkeys(
        ("campaign", "trial-0000", "trial-0001", "trial-0002"), 1
    )
    statuses = {name: found[0].info.status for name, found in runs.items()}
    assert statuses == {
        "campaign": "KILLED", "trial-0000": "FINISHED", "trial-0001": "FAILED", "trial-0002": "KILLED",
    }  # fmt: skip
    child = runs["trial-0000"][0]
    assert child.data.params == {"training.next_layer.schedule.max_lr": "0.01", "seed": "1"}
    assert set(child.data.metrics) == {"val_loss", "lr", "nll_bits_per_dim"}
    assert child.data.tags["mlflow.parentRunId"] == runs["campaign"][0].info.run_id
    assert child.data.tags["caloray.rung"] == "1"
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}")
    steps = [m.step for m in client.get_metric_history(child.info.run_id, "val_loss")]
    assert steps == [0, 1, 2]


def test_a_killed_driver_finds_its_children_again(tmp_path: Path) -> None:
    """Even the one whose id it could not write down any more."""
    first = MlflowTracker(tmp_path, TrackingConfig())
    first.start("campaign", [], {})
    begin(first)
    first.poll()
    state = json.loads((tmp_path / STATE).read_text())
    del state["runs"]["trial-0000"]
    (tmp_path / STATE).write_text(json.dumps(state))
    second = MlflowTracker(tmp_path, TrackingConfig())
    second.start("campaign", [], {})
    name = begin(second)
    second.poll()
    second.child_ended(name, "FINISHED", {"nll_bits_per_dim": 1.0})
    second.close("FINISHED")
    third = MlflowTracker(tmp_path, TrackingConfig())
    third.start("campaign", [], {})
    begin(third)
    third.child_ended(name, "FINISHED", {"nll_bits_per_dim": 1.0})
    third.close("FINISHED")
    runs = runs_of(tmp_path)
    assert {name: len(found) for name, found in runs.items()} == {"campaign": 1, "trial-0000": 1}
    assert {found[0].info.status for found in runs.values()} == {"FINISHED"}


def test_without_a_server_children_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = MlflowTracker(tmp_path, TrackingConfig(uri="http://127.0.0.1:9"))
    with caplog.at_level(logging.WARNING, logger="caloray.tracking"):
        tracker.start("campaign", [], {})
        name = begin(tracker)
        write_epochs(tmp_path / "trials/0000/components/next_layer", range(2))
        tracker.child_ended(name, "FINISHED", {"nll_bits_per_dim": 1.0})
        tracker.close("FINISHED")
    assert tracker.pending
    assert len([record for record in caplog.records if record.name == "caloray.tracking"]) == 1
    assert sync_run(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = runs_of(tmp_path)
    assert runs["trial-0000"][0].info.status == "FINISHED"
    assert runs["trial-0000"][0].data.metrics["nll_bits_per_dim"] == 1.0


def test_what_has_not_ended_is_not_finished_with_the_run(tmp_path: Path) -> None:
    tracker = MlflowTracker(tmp_path, TrackingConfig())
    tracker.start("campaign", [], {})
    tracker.child_ended(begin(tracker), "FINISHED", {"nll_bits_per_dim": 1.0})
    begin(tracker, 1)
    tracker.close("FINISHED")
    statuses = {name: found[0].info.status for name, found in runs_of(tmp_path).items()}
    assert statuses == {"campaign": "FINISHED", "trial-0000": "FINISHED", "trial-0001": "KILLED"}


def test_an_artifact_that_changed_is_sent_again(tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    for text in ("first", "first", "second"):
        best.write_text(text)
        tracker = MlflowTracker(tmp_path, TrackingConfig())
        tracker.start("campaign", [], {})
        tracker.artifact("best.yaml", best)
        tracker.close("FINISHED")
    assert [path.read_text() for path in (tmp_path / "mlartifacts").rglob("best.yaml")] == ["second"]


def test_a_kill_while_the_database_is_made_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    whole, seen = utils._initialize_tables, []

    def killed(engine) -> None:
        seen.append(engine.url.database)
        Path(engine.url.database).write_bytes(b"half made")
        raise SystemExit(137)

    monkeypatch.setattr(utils, "_initialize_tables", killed)
    tracker = MlflowTracker(tmp_path, TrackingConfig())
    with pytest.raises(SystemExit):
        tracker.start("campaign", [], {})
    assert seen
    assert not (tmp_path / "mlflow.db").exists()
    monkeypatch.setattr(utils, "_initialize_tables", whole)
    tracker = MlflowTracker(tmp_path, TrackingConfig())
    tracker.start("campaign", [], {})
    tracker.close("FINISHED")
    assert runs_of(tmp_path)["campaign"][0].info.status == "FINISHED"
    assert not list(tmp_path.glob("*.tmp"))
