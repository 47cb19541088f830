"""MLflow receives what the history files hold, once, and its absence harms nobody (G25, G40)."""

from __future__ import annotations

import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caloray.atomic import staging
from caloray.errors import ConfigError
from caloray.tracking import (
    MlflowTracker,
    NullTracker,
    TrackingConfig,
    attach,
    flatten,
    open_tracker,
    redact,
    sync_run,
)
from caloray.tracking.client import prepare
from caloray.tracking.mirror import DATABASE

mlflow = pytest.importorskip("mlflow")


def write_epochs(run: Path, component: str, epochs: range, torn: bool = False) -> None:
    folder = run / "components" / component
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "history.jsonl").open("a") as file:
        for epoch in epochs:
            file.write(
                json.dumps({"epoch": epoch, "train_loss": 1.0 / (epoch + 1), "seconds": 2.0, "note": "x"})
                + "\n"
            )
        if torn:
            file.write('{"epoch": 99, "train_')


def client_of(run: Path) -> mlflow.tracking.MlflowClient:
    return mlflow.tracking.MlflowClient(f"sqlite:///{run.resolve() / 'mlflow.db'}")


def all_runs(run: Path) -> list[mlflow.entities.Run]:
    client = client_of(run)
    experiment = client.get_experiment_by_name("caloray")
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture
def refused() -> Iterator[str]:
    """The URI of a server that accepts connections and closes them at once."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def hang_up() -> None:
        server.settimeout(0.1)
        while not stop.is_set():
            try:
                server.accept()[0].close()
            except TimeoutError:
                continue

    thread = threading.Thread(target=hang_up)
    thread.start()
    yield f"http://physicist:geheim@127.0.0.1:{server.getsockname()[1]}"
    stop.set()
    thread.join()
    server.close()


@pytest.fixture(autouse=True)
def no_uri_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was tracked, interrupted after two epochs and finished by a second driver."""
    run = tmp_path_factory.mktemp("run")
    bundle = run / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").write_text("{}")
    first = MlflowTracker(run, TrackingConfig())
    first.start(
        "demo", ["layer-energies", "next-layer"], {"seed": 1, "training": {"next-layer": {"epochs": 4}}}
    )
    write_epochs(run, "next-layer", range(2), torn=True)
    first.poll()
    history = run / "components" / "next-layer" / "history.jsonl"
    history.write_text("\n".join(history.read_text().splitlines()[:2]) + "\n")
    second = MlflowTracker(run, TrackingConfig())
    second.start(
        "demo", ["layer-energies", "next-layer"], {"seed": 1, "training": {"next-layer": {"epochs": 5}}}
    )
    write_epochs(run, "next-layer", range(2, 4))
    second.component_ended("next-layer", "FINISHED")
    second.component_ended("layer-energies", "FAILED")
    second.artifact("bundle", bundle)
    second.close("FAILED")
    return run


def test_a_restarted_driver_continues_the_same_runs(tracked: Path) -> None:
    runs = {run.info.run_name: run for run in all_runs(tracked)}
    assert sorted(runs) == ["demo", "layer-energies", "next-layer"]
    assert len(all_runs(tracked)) == 3
    parent = runs["demo"].info.run_id
    assert runs["next-layer"].data.tags["mlflow.parentRunId"] == parent
    assert {name: run.info.status for name, run in runs.items()} == {
        "demo": "FAILED", "layer-energies": "FAILED", "next-layer": "FINISHED",
    }  # fmt: skip


def test_every_epoch_arrives_once_and_torn_lines_wait(tracked: Path) -> None:
    child = next(run for run in all_runs(tracked) if run.info.run_name == "next-layer")
    history = client_of(tracked).get_metric_history(child.info.run_id, "train_loss")
    assert [(m.step, m.value) for m in history] == [(e, 1.0 / (e + 1)) for e in range(4)]
    assert "note" not in child.data.metrics


def test_params_and_artifacts_arrive(tracked: Path) -> None:
    runs = {run.info.run_name: run for run in all_runs(tracked)}
    parent = runs["demo"]
    assert parent.data.params == {"seed": "1", "training.next-layer.epochs": "4"}
    assert runs["next-layer"].data.params == {"training.next-layer.epochs": "4"}
    assert runs["layer-energies"].data.params == {}
    listed = [item.path for item in client_of(tracked).list_artifacts(parent.info.run_id, "bundle")]
    assert listed == ["bundle/bundle.json"]
    assert (tracked / "mlartifacts").is_dir()


def test_sending_again_changes_nothing(tracked: Path) -> None:
    state = json.loads((tracked / "tracking.json").read_text())
    state["sent_epochs"] = {}
    (tracked / "tracking.json").write_text(json.dumps(state))
    assert sync_run(tracked)
    child = next(run for run in all_runs(tracked) if run.info.run_name == "next-layer")
    assert len(client_of(tracked).get_metric_history(child.info.run_id, "train_loss")) == 4


def test_a_new_database_leaves_alone_what_the_run_is_writing(tmp_path: Path) -> None:
    """The mirror works in a thread of its own, beside a campaign that writes its plan at that moment."""
    torn = tmp_path / f"{DATABASE}.12-0123abcd.tmp"
    torn.write_bytes(b"half a database")
    with staging(tmp_path / "plan.json") as temporary:
        temporary.write_text("{}")
        prepare(tmp_path / DATABASE)
    assert (tmp_path / "plan.json").read_text() == "{}"
    assert not torn.exists()
    assert mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / DATABASE}").search_experiments()


def test_a_dead_server_costs_one_warning_and_nothing_is_lost(
    tmp_path: Path, refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = MlflowTracker(tmp_path, TrackingConfig(uri=refused))
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, logger="caloray.tracking"):
        tracker.start("demo", ["next-layer"], {"seed": 3})
        write_epochs(tmp_path, "next-layer", range(3))
        for _ in range(20):
            tracker.poll()
        tracker.component_ended("next-layer", "FINISHED")
        tracker.close("FINISHED")
    assert time.monotonic() - began < 30
    assert len([r for r in caplog.records if r.name == "caloray.tracking"]) == 1
    assert tracker.pending
    written = caplog.text + "".join(p.read_text() for p in tmp_path.rglob("*.json*"))
    assert "geheim" not in written
    assert "physicist" not in written
    assert sync_run(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert {run.info.status for run in all_runs(tmp_path)} == {"FINISHED"}
    child = next(run for run in all_runs(tmp_path) if run.info.run_name == "next-layer")
    assert len(client_of(tmp_path).get_metric_history(child.info.run_id, "train_loss")) == 3


def test_a_database_that_breaks_costs_one_warning_and_no_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    tracker = MlflowTracker(tmp_path, TrackingConfig())
    with caplog.at_level(logging.WARNING, logger="caloray.tracking"):
        tracker.start("demo", ["next-layer"], {"seed": 3})
        with sqlite3.connect(tmp_path / DATABASE) as database:
            database.execute("DROP TABLE metrics")
        write_epochs(tmp_path, "next-layer", range(3))
        tracker.component_ended("next-layer", "FINISHED")
        tracker.close("FINISHED")
    assert len([r for r in caplog.records if r.name == "caloray.tracking"]) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert tracker.pending


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "TimeoutError()"),
        (
            OSError("(raised by autoflush)\n(sqlite3.OperationalError) disk I/O error\n[SQL: UPDATE]"),
            "disk I/O",
        ),
    ],
)
def test_the_warning_says_why(
    tmp_path: Path, caplog: Any, monkeypatch: Any, error: Exception, reason: str
) -> None:
    def refuse(uri: str) -> None:
        raise error

    monkeypatch.setattr("caloray.tracking.mirror.connect", refuse)
    tracker = MlflowTracker(tmp_path, TrackingConfig())
    tracker.start("demo", [], {})
    tracker.close("FINISHED")
    (warning,) = (r for r in caplog.records if r.name == "caloray.tracking")
    assert reason in warning.getMessage().partition(";")[0]


def test_params_hold_no_secrets_and_stay_short() -> None:
    nested = {
        "tracking": {"uri": "https://me:pw@host/x", "api_token": "abc"},
        "files": ["a"] * 400,
        "lr": 1e-3,
    }
    flat = flatten(nested)
    assert flat["tracking.uri"] == "https://host/x"
    assert "tracking.api_token" not in flat
    assert len(flat["files"]) < 500
    assert flat["lr"] == "0.001"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:pw@host:5000/x?key=1", "https://host:5000/x"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("http://host", "http://host"),
    ],
)
def test_redact(uri: str, shown: str) -> None:
    assert redact(uri) == shown


def test_switched_off(tmp_path: Path) -> None:
    tracker = open_tracker(tmp_path, TrackingConfig(enabled=False))
    assert isinstance(tracker, NullTracker)
    tracker.start("demo", ["a"], {})
    tracker.close("FINISHED")
    assert list(tmp_path.iterdir()) == []


def test_sync_of_an_untracked_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no tracking\.json"):
        sync_run(tmp_path)


def test_attach_adds_to_a_run_that_somebody_else_started(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = mlflow.tracking.MlflowClient(uri)
    run = client.create_run(client.create_experiment("x", artifact_location=(tmp_path / "art").as_uri()))
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.png").write_bytes(b"png")
    (tmp_path / "report.html").write_text("<p>")
    files = {"figures": tmp_path / "figures", "report.html": tmp_path / "report.html"}
    attach(run.info.run_id, {"fpd": 0.5, "auc/high/trees": 0.6}, files, uri)
    assert client.get_run(run.info.run_id).data.metrics == {"fpd": 0.5, "auc/high/trees": 0.6}
    stored = sorted(path.name for path in (tmp_path / "art").rglob("*") if path.is_file())
    assert stored == ["a.png", "report.html"]


def test_attach_says_in_one_line_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="no tracking URI"):
        attach("abc", {}, {})
    with pytest.raises(ConfigError, match="MLflow run abc at sqlite") as error:
        attach("abc", {"fpd": 1.0}, {}, f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert "\n" not in error.value.message
