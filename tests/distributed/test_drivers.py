"""Whole commands, killed and stopped: the same command again gives the same result (G4, G11, G19, G22)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.faults, pytest.mark.usefixtures("ray_home")]


class Command:
    """``caloray ARGUMENTS`` in a process of its own, with a HOME of its own."""

    def __init__(self, *arguments: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "caloray", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def when(self, condition: Callable[[], bool], number: int, timeout: float = 300) -> None:
        """Send a signal as soon as ``condition`` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"it never came to that: {self.end()}")
            time.sleep(0.005)
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Exit status and everything on stderr."""
        _, errors = self.process.communicate(timeout=600)
        return self.process.returncode, errors


def write_config(toy: Any, output: Path) -> Path:
    config = toy.config(output, training__next_layer__epochs=40, generation__blocks_per_shard=1)
    path = output.parent / f"{output.name}.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def bundle_digest(output: Path) -> str:
    from caloray.bundle import Bundle

    return Bundle.load(output / "bundle").digest


@pytest.fixture(scope="module")
def undisturbed(toy: Any, ray_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of an undisturbed training."""
    output = tmp_path_factory.mktemp("runs") / "undisturbed"
    status, errors = Command("train", str(write_config(toy, output))).end()
    assert status == 0, errors
    return output


def step_of(output: Path, component: str) -> int:
    try:
        return int(json.loads((output / "components" / component / "progress.json").read_text())["step"])
    except (OSError, ValueError):
        return 0


def test_training_driver_killed(undisturbed: Path, toy: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = str(write_config(toy, output))
    first = Command("train", config)
    first.when(lambda: step_of(output, "next_layer") > 100, signal.SIGKILL)
    assert first.end()[0] == -signal.SIGKILL
    assert not (output / "bundle").exists()
    status, errors = Command("train", config).end()
    assert status == 0, errors
    assert bundle_digest(output) == bundle_digest(undisturbed)


def test_training_driver_stopped(undisturbed: Path, toy: Any, tmp_path: Path) -> None:
    output = tmp_path / "run"
    config = str(write_config(toy, output))
    first = Command("train", config)
    first.when(lambda: step_of(output, "next_layer") > 100, signal.SIGTERM)
    asked = time.monotonic()
    status, errors = first.end()
    assert status == 128 + signal.SIGTERM, errors
    assert time.monotonic() - asked < 60
    assert "training stopped by SIGTERM" in errors
    status, errors = Command("train", config).end()
    assert status == 0, errors
    assert bundle_digest(output) == bundle_digest(undisturbed)


def test_generation_driver_and_worker_killed(undisturbed: Path, toy: Any, tmp_path: Path) -> None:
    def generate(name: str, workers: int) -> tuple[str, ...]:
        options = ("-n", "2000", "--seed", "5", "--blocks-per-shard", "2", "--workers", str(workers))
        return ("generate", str(undisturbed / "bundle"), *options, "-o", str(tmp_path / name))

    def content(name: str) -> str:
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        return str(manifest["created"]["content_digest"])

    status, errors = Command(*generate("alone", 0)).end()
    assert status == 0, errors
    first = Command(*generate("killed", 2))
    receipts = tmp_path / "killed" / "receipts"
    first.when(lambda: len(list(receipts.glob("*.json"))) >= 2, signal.SIGKILL)
    first.end()
    assert not (tmp_path / "killed" / "manifest.json").exists()
    second = Command(*generate("killed", 2))
    kill_a_worker(tmp_path / "killed" / "workers", second)
    status, errors = second.end()
    assert status == 0, errors
    assert content("killed") == content("alone")


def kill_a_worker(notes: Path, command: Command) -> None:
    """Kill -9 the first worker that leaves its process id."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and command.process.poll() is None:
        for note in notes.glob("*.json"):
            try:
                os.kill(int(json.loads(note.read_text())["pid"]), signal.SIGKILL)
            except (OSError, ValueError):
                continue
            return
        time.sleep(0.002)
    pytest.fail("no worker was seen")
