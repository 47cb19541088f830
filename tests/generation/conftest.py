"""The stub model as a fixture, for this process and as a program."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader
from caloray.showers import Showers

PROGRAM = Path(__file__).with_name("stub_model.py")
Start = Callable[..., "subprocess.Popen[str]"]


def load(name: str) -> Any:
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stub() -> Any:
    """The module ``stub_model``."""
    return load("stub_model")


@pytest.fixture(scope="session")
def campaigns() -> Any:
    """The module ``campaigns``."""
    return load("campaigns")


@pytest.fixture
def model(stub: Any) -> Any:
    """A stub model all of whose draws are valid."""
    return stub.StubModel()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``caloray`` with the stub model as its bundle; what still runs at the end is killed by its id."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *map(str, arguments)],
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


@pytest.fixture
def read_all() -> Callable[[Path], Showers]:
    """Read every shower that a manifest lists, in its order."""

    def read(directory: Path) -> Showers:
        parts = []
        for entry in Manifest.load(directory).shards:
            with ShardReader(directory / entry.path) as reader:
                parts.append(reader.showers())
        return Showers(
            np.concatenate([part.incident_energies for part in parts]),
            np.concatenate([part.voxels for part in parts]),
            np.concatenate([part.ids for part in parts]),
        )

    return read
