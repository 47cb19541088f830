"""``caloray produce`` as a program, killed, stopped, robbed of its disk: the promises G4 to G11."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from caloray.config import load_campaign
from caloray.generation.campaign import plan_campaign
from caloray.generation.run import generate
from caloray.generation.verify import verify_production
from caloray.io.manifest import Manifest

pytestmark = pytest.mark.faults
PROGRAM = Path(__file__).parents[1] / "generation" / "stub_model.py"
Start = Callable[..., "subprocess.Popen[str]"]
N = 100


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """A campaign of 100 showers in seven shards."""
    path = tmp_path / "campaign.yaml"
    value = {
        "name": "toy",
        "bundle": "bundle",
        "output": str(tmp_path / "out"),
        "seed": 7,
        "particles": {"kind": "spectrum", "n": N},
        "rows_per_shard": 16,
        "max_response": 0,
        "workers": {"count": 0},
        "tracking": {"enabled": False},
    }
    path.write_text(yaml.safe_dump(value))
    return path


@pytest.fixture
def undisturbed(campaign: Path, tmp_path: Path) -> Manifest:
    """The same campaign, made in this process without any mishap."""
    spec = importlib.util.spec_from_file_location("stub_model", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    stub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stub)
    directory = tmp_path / "undisturbed"
    request = load_campaign(campaign)
    plan, _ = plan_campaign(request, stub.StubModel(), directory)
    return generate(stub.StubModel(), plan, directory)


@pytest.fixture
def start(campaign: Path) -> Iterator[Start]:
    """Start ``caloray produce`` with the stub model; what still runs at the end is killed by its id."""
    started: list[subprocess.Popen[str]] = []

    def run(*overrides: str, **environment: str) -> subprocess.Popen[str]:
        options = [word for item in overrides for word in ("--set", item)]
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), "produce", str(campaign), *options],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.01)


def assert_whole(directory: Path) -> None:
    """What is there is right, and nothing half-written is left."""
    found = verify_production(directory)
    assert found.problems == ()
    assert not list(directory.rglob("*.tmp"))


def test_killed_robbed_and_stopped_it_still_makes_the_same_showers(
    start: Start, undisturbed: Manifest, tmp_path: Path, seconds_to_end: Callable[..., float]
) -> None:
    """SIGKILL, a full disk, SIGTERM, then to the end: exactly N, and those of an undisturbed run."""
    out = tmp_path / "out"
    first = start(STUB_DELAY="0.3")
    wait_for(out / "receipts/shard-00000.json", first)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait(60) == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    second = start(STUB_DELAY="0.4")
    wait_for(out / "receipts/shard-00002.json", second)
    resource.prlimit(second.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    _, complaints = second.communicate(timeout=120)
    assert second.returncode == 74, complaints
    assert "error[CR-500]" in complaints
    assert_whole(out)
    third = start(STUB_DELAY="0.5")
    wait_for(out / "receipts/shard-00004.json", third)
    third.terminate()
    assert seconds_to_end(third) < 2
    _, complaints = third.communicate()
    assert third.returncode == 143, complaints
    assert "run the same command again" in complaints
    assert_whole(out)
    last = start()
    printed, complaints = last.communicate(timeout=120)
    assert last.returncode == 0, complaints
    assert re.search(rf"^showers +{N}$", printed, re.MULTILINE)
    assert_whole(out)
    made = Manifest.load(out)
    assert made.created["content_digest"] == undisturbed.created["content_digest"]
    assert [shard.sha256 for shard in made.shards] == [shard.sha256 for shard in undisturbed.shards]


def test_ctrl_c_in_a_long_block(start: Start, tmp_path: Path, seconds_to_end: Callable[..., float]) -> None:
    out = tmp_path / "out"
    process = start(STUB_DELAY="60")
    wait_for(out / "workers/00000.json", process)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    assert seconds_to_end(process) < 2
    _, complaints = process.communicate()
    assert process.returncode == 130, complaints
    assert_whole(out)
    assert not (out / "workers").exists()
