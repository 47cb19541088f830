"""SIGKILL in the middle of a training, then the same command again (G19)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caloray.training.files import ComponentFolder

PROGRAM = Path(__file__).parents[1] / "toy_model.py"
EPOCHS = 40
PATIENCE = 120


def start(directory: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), str(directory), str(EPOCHS)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def wait_for_checkpoint(directory: Path, process: subprocess.Popen, count: int) -> None:
    """Wait until a checkpoint of step ``count`` or later is there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        steps = [int(p.name[5:]) for p in (directory / "checkpoints").glob("step-????????")]
        if steps and max(steps) >= count:
            return
        time.sleep(0.002)
    pytest.fail(f"no checkpoint: {process.stderr.read().decode()[-2000:]}")


@pytest.mark.faults
def test_kill_and_rerun_gives_identical_weights(tmp_path, toy):
    killed = tmp_path / "killed"
    process = start(killed)
    try:
        wait_for_checkpoint(killed, process, 18)
        pid = int((killed / "worker.pid").read_text())
        assert pid == process.pid
        os.kill(pid, signal.SIGKILL)
        assert process.wait(PATIENCE) == -signal.SIGKILL
    finally:
        process.kill()
        process.communicate()
    assert ComponentFolder(killed).result() is None
    process = start(killed)
    _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, complaints.decode()
    toy.main(tmp_path / "undisturbed", EPOCHS)
    found, expected = (ComponentFolder(tmp_path / name).result() for name in ("killed", "undisturbed"))
    assert found.sha256 == expected.sha256
    assert found.validation_loss == expected.validation_loss
    lines = ComponentFolder(killed).history_file.read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(EPOCHS))
