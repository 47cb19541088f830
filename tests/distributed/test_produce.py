"""Campaigns over Ray workers: the same bytes as in one process, whoever dies (G1, G2, G4)."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from caloray.atomic import sha256_file
from caloray.errors import ConfigError, InterruptedRunError
from caloray.generation.verify import verify_production
from caloray.io.manifest import Manifest
from caloray.io.worker_notes import notes_of

pytestmark = pytest.mark.ray
MODEL = Path(__file__).parents[1] / "toy_model.py"
N = 400


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained flows of 36 voxels in blocks of 8."""
    spec = importlib.util.spec_from_file_location("toy_model", MODEL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return Path(module.bundle(tmp_path_factory.mktemp("model") / "bundle").path)


def campaign(bundle: Path, output: Path, **changes: Any) -> Any:
    from caloray.config import Campaign

    value = {
        "name": "toy",
        "bundle": bundle,
        "output": output,
        "particles": {"kind": "spectrum", "n": N},
        "rows_per_shard": 40,
        "workers": {"count": 0},
        "quality": {"enabled": False},
        "tracking": {"enabled": False},
    }
    return Campaign.model_validate(value | changes)


def produce(settings: Any) -> Manifest:
    from caloray.distributed.produce import open_campaign, produce_campaign

    return produce_campaign(open_campaign(settings))


@pytest.fixture(scope="module")
def undisturbed(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a campaign that was made in this process."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    produce(campaign(bundle, output))
    return output


def shards(directory: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(directory.glob("shards/*.parquet"))}


def content(directory: Path) -> str:
    return str(Manifest.load(directory).created["content_digest"])


def test_workers_leave_the_same_bytes_as_one_process(
    ray_cluster: ModuleType, bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    from caloray.distributed.produce import open_campaign, produce_campaign

    seen: list[int] = []
    work = open_campaign(campaign(bundle, tmp_path / "out", workers={"count": 2, "cpus": 0.5}))
    produce_campaign(work, seen.append)
    assert shards(tmp_path / "out") == shards(undisturbed)
    assert content(tmp_path / "out") == content(undisturbed)
    assert sum(seen) == N
    assert verify_production(tmp_path / "out").problems == ()
    assert not (tmp_path / "out" / "workers").exists()
    described = json.loads((tmp_path / "out" / "campaign.json").read_text())
    assert described["workers"]["count"] == 2


def produce_and_kill(settings: Any, names: set[str]) -> set[str]:
    """Carry out a campaign, kill -9 who makes the shards of these names, once each; those that were met."""
    killed: set[str] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set() and killed != names:
            for note in notes_of(settings.output):
                if note.name in names - killed:
                    with suppress(ProcessLookupError):
                        os.kill(note.pid, signal.SIGKILL)
                        killed.add(note.name)
            time.sleep(0.001)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        produce(settings)
    finally:
        over.set()
        thread.join()
    return killed


@pytest.mark.faults
def test_killed_workers_leave_no_trace(
    ray_cluster: ModuleType, bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Whoever makes shards 2 and 5 is killed in the midst of it.

    A shard takes some milliseconds only, so that the killer may come too late and try its luck again.
    """
    workers, wanted = {"count": 2, "cpus": 0.5}, {"00002", "00005"}
    for attempt in range(10):
        out = tmp_path / str(attempt)
        killed = produce_and_kill(campaign(bundle, out, workers=workers), wanted)
        assert shards(out) == shards(undisturbed)
        assert content(out) == content(undisturbed)
        if killed == wanted:
            break
    assert killed == wanted


@pytest.mark.faults
def test_a_stop_ends_with_whole_shards_and_is_continued(
    ray_cluster: ModuleType, bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    from caloray.distributed.produce import open_campaign, produce_campaign

    def stop(rows: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    settings = campaign(bundle, tmp_path, workers={"count": 1, "cpus": 0.5})
    with pytest.raises(InterruptedRunError, match="generation stopped by SIGTERM"):
        produce_campaign(open_campaign(settings), stop)
    assert 0 < len(list(tmp_path.glob("receipts/*.json"))) < 10
    assert not (tmp_path / "manifest.json").exists()
    produce(campaign(bundle, tmp_path))
    assert shards(tmp_path) == shards(undisturbed)
    assert not list(tmp_path.rglob("*.tmp"))  # a worker may have died a moment after the driver swept


def started(bundle: Path, output: Path, folder: Path) -> subprocess.Popen[str]:
    """``caloray produce`` of the same campaign on two Ray workers, as a process of its own."""
    settings = campaign(bundle, output, workers={"count": 2, "cpus": 0.5})
    path = folder / "campaign.yaml"
    path.write_text(json.dumps(settings.model_dump(mode="json")))
    return subprocess.Popen(
        [sys.executable, "-m", "caloray", "produce", str(path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 180
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_driver_is_followed_by_another_one(
    ray_home: Path, bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """SIGKILL, and at once the same campaign again, whatever the workers left alone are still at."""
    out = tmp_path / "out"
    first = started(bundle, out, tmp_path)
    try:
        wait_for(out / "receipts" / "shard-00001.json", first)
    finally:
        first.kill()
        first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    produce(campaign(bundle, out))
    assert shards(out) == shards(undisturbed)
    assert content(out) == content(undisturbed)
    assert Manifest.load(out).rows() == N
    assert verify_production(out).problems == ()


@pytest.mark.slow
@pytest.mark.faults
def test_sigterm_ends_the_command_within_two_seconds(
    ray_home: Path, bundle: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = started(bundle, out, tmp_path)
    try:
        wait_for(out / "receipts" / "shard-00000.json", process)
        process.terminate()
        began = time.monotonic()
        _, complaints = process.communicate(timeout=60)
        assert time.monotonic() - began < 2
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 143, complaints
    assert "run the same command again" in complaints
    assert verify_production(out).problems == ()
    produce(campaign(bundle, out))
    assert shards(out) == shards(undisturbed)


def test_showers_of_a_real_model_carry_their_density(bundle: Path, tmp_path: Path) -> None:
    from caloray.io.shards import ShardReader

    manifest = produce(campaign(bundle, tmp_path, likelihood=True))
    with ShardReader(tmp_path / manifest.shards[0].path) as reader:
        density = reader.read_extras()["log_prob"]
    assert density.dtype == np.float32
    assert np.isfinite(density).all()
    assert len(set(density.tolist())) > 30


def test_a_bundle_without_reference_cannot_stop_a_campaign(bundle: Path, tmp_path: Path, caplog: Any) -> None:
    from caloray.distributed.produce import open_campaign

    with pytest.raises(ConfigError, match="no quality reference") as caught:
        open_campaign(campaign(bundle, tmp_path, quality={"on_drift": "stop"}))
    assert "caloray model reference" in caught.value.hint
    assert open_campaign(campaign(bundle, tmp_path, quality={})).control is None
    assert "the showers are not watched" in caplog.text


def test_a_campaign_is_tracked(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("caloray.distributed.journal._FIRST_PAUSE", 0.0)
    monkeypatch.setattr("caloray.tracking.background._LONG_PATIENCE", 600.0)
    produce(campaign(bundle, tmp_path, tracking={}))
    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path.resolve() / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("caloray")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "toy"
    assert run.data.params["particles.n"] == str(N)
    assert run.data.params["showers"] == str(N)
    assert run.data.metrics["showers"] == N
    assert run.data.metrics["showers_per_second"] > 0
    assert run.data.metrics["skipped"] == 0
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"manifest.json", "plan.json"}
