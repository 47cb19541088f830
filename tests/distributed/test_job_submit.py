"""``ray job submit`` of a job script to a Ray head that asks for a token (P15, G36)."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text(secrets.token_hex(32))
    kept = {
        key: value for key, value in os.environ.items() if key not in {"RAY_ADDRESS", "MLFLOW_TRACKING_URI"}
    }
    switches = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    return kept | switches | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def head(environment: dict[str, str]) -> Iterator[str]:
    """Address of the job API of a head with 3 logical CPUs; its processes end with the test.

    Every port is our own: another Ray on the machine takes the defaults.
    """
    port = free_port()
    scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    command = [
        RAY,
        "start",
        "--head",
        "--block",
        "--num-cpus=3",
        f"--port={free_port()}",
        "--include-dashboard=true",
        f"--dashboard-agent-listen-port={free_port()}",
    ]
    command += [f"--dashboard-port={port}", "--object-store-memory=300000000", f"--temp-dir={scratch}"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_up(address, process)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(scratch, ignore_errors=True)


def wait_until_up(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if status_of(f"{address}/api/version") in {200, 401}:
            return
        time.sleep(0.5)
    pytest.fail("the head did not come up")


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
    except OSError:
        return 0


def submit_when_ready(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Submit; a head that has just come up may have no agent yet and asks to try again."""
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(3)


def test_strangers_are_refused(head: str) -> None:
    assert status_of(f"{head}/api/jobs/") == 401


def test_a_submitted_training_joins_the_cluster(
    head: str, environment: dict[str, str], toy: Any, tmp_path: Path
) -> None:
    config = toy.config(
        tmp_path / "run",
        tracking={"enabled": True},
        **{f"training__{name}__epochs": 2 for name in ("layer_energies", "first_layer", "next_layer")},
    )
    shutil.copytree(ROOT / "jobs", tmp_path / "job" / "jobs")
    (tmp_path / "job" / "toy.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    submit = [RAY, "job", "submit", "--address", head, "--working-dir", str(tmp_path / "job"), "--"]
    done = submit_when_ready([*submit, sys.executable, "jobs/train.py", "toy.yaml"], environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "succeeded" in done.stdout
    assert (tmp_path / "run" / "bundle" / "bundle.json").is_file()
    import mlflow

    client = mlflow.tracking.MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("caloray").experiment_id])
    names = sorted(run.info.run_name for run in runs)
    assert names == ["first_layer", "layer_energies", "next_layer", "toy"]
    assert {run.info.status for run in runs} == {"FINISHED"}
