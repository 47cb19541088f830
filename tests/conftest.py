"""The toy model for the tests of all rooms, and a stopwatch for processes that are told to end."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples every time, however slow the machine.
settings.register_profile("caloray", deadline=None, derandomize=True, database=None)
settings.load_profile("caloray")

PROGRAM = Path(__file__).with_name("toy_model.py")


@pytest.fixture(scope="session")
def toy() -> Any:
    """The module ``toy_model``."""
    if "toy_model" not in sys.modules:
        spec = importlib.util.spec_from_file_location("toy_model", PROGRAM)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["toy_model"] = module
        spec.loader.exec_module(module)
    return sys.modules["toy_model"]


@pytest.fixture(scope="session")
def bundle_path(toy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the toy model, to be read only."""
    path: Path = toy.bundle(tmp_path_factory.mktemp("original") / "bundle").path
    return path


@pytest.fixture
def bundle_copy(bundle_path: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(bundle_path, tmp_path / "copy"))


@pytest.fixture(scope="session")
def seconds_to_end() -> Callable[[subprocess.Popen[str]], float]:
    """Waits until a process has ended; the seconds, without those in which the machine let others run."""

    def wait(process: subprocess.Popen[str]) -> float:
        starved, began = _starved(process.pid), time.monotonic()
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            assert time.monotonic() - began < 60, "it never ended"
            time.sleep(0.005)
        return time.monotonic() - began - (_starved(process.pid) - starved)

    return wait


def _starved(pid: int) -> float:
    """Seconds that the main thread of a process has been ready to run and did not, where that is counted."""
    path = Path(f"/proc/{pid}/schedstat")
    return int(path.read_text().split()[1]) / 1e9 if path.exists() else 0.0
