"""Small CaloChallenge files, and the whole content of a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.io.ingest import IngestConfig

WriteFile = Callable[..., Path]
Content = Callable[[Path], dict[str, bytes]]


def write(path: Path, rows: int, seed: int = 0, voxels: int = 368, **attrs: Any) -> Path:
    """Write a file of random showers; 368 voxels are dataset 1 photons, whose layers are ragged."""
    rng = np.random.default_rng(seed)
    showers = rng.exponential(5, (rows, voxels)) * (rng.random((rows, voxels)) < 0.2)
    with h5py.File(path, "w") as file:
        chunks = (min(50, rows), voxels)
        file.create_dataset("showers", data=showers.astype("f4"), compression="gzip", chunks=chunks)
        file.create_dataset("incident_energies", data=rng.uniform(2e3, 5e4, (rows, 1)))
        file.attrs.update(attrs)
    return path


def read_everything(directory: Path) -> dict[str, bytes]:
    """Every file of a directory by its relative name, without the lock."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(files)}


@pytest.fixture
def write_file() -> WriteFile:
    return write


@pytest.fixture
def content() -> Content:
    return read_everything


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "a.hdf5", 230, 1, cpu_s=12.5), write(tmp_path / "b.hdf5", 90, 2)]


@pytest.fixture
def config() -> Callable[..., IngestConfig]:
    return lambda files, **options: IngestConfig(**{"files": files, "rows_per_shard": 100, **options})
