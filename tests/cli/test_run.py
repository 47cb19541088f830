"""`caloray run` from a detector file and an HDF5 file to figures, in a process of its own, twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from caloray.atomic import sha256_file

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DETECTOR = {
    "kind": "cylindrical",
    "particle": "electron",
    "layers": [{"ids": "0-2", "alpha": 4, "r": {"bins": 3, "width": 5.0}}],
}
FLOW = {"blocks": 1, "hidden": 16, "hidden_layers": 1}
PARTS = ("layer_energies", "first_layer", "next_layer")
SHOWERS, VOXELS = 400, 36


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A user's folder: a detector, a data file and a config that names both by relative paths."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "toy.yaml").write_text(yaml.safe_dump(DETECTOR))
    rng = np.random.default_rng(1)
    energies = np.exp(rng.uniform(np.log(1e3), np.log(1e4), SHOWERS))
    voxels = rng.dirichlet(np.full(VOXELS, 0.5), SHOWERS) * energies[:, None] * 0.8
    with h5py.File(folder / "toy.hdf5", "w") as file:
        file["incident_energies"] = energies[:, None]
        file["showers"] = np.where(voxels > 1.0, voxels, 0.0)
    config = {
        "name": "toy",
        "output": "out",
        "data": {
            "files": ["toy.hdf5"],
            "geometry": "toy.yaml",
            "split": {"train": 0.6, "validation": 0.1, "test": 0.3},
        },
        "scheme": {"kind": "inductive", "flows": dict.fromkeys(PARTS, FLOW)},
        "training": {part: {"epochs": 2, "batch": 50} for part in PARTS},
        "cluster": {"num_cpus": 3, "object_store_gb": 0.2},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    return folder


def carry_out(folder: Path) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "caloray", "run", "run.yaml"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def first(folder) -> subprocess.CompletedProcess:
    return carry_out(folder)


def test_it_leaves_model_showers_results_and_figures(folder, first):
    assert first.returncode == 0, first.stderr[-3000:]
    out = folder / "out"
    assert (out / "bundle" / "bundle.json").is_file()
    assert list((out / "figures").glob("*.png"))
    assert json.loads((out / "results.json").read_text())["separations"]
    with h5py.File(out / "showers.hdf5") as file:
        showers, energies = file["showers"][:], file["incident_energies"][:]
    assert showers.shape == (len(energies), VOXELS)
    assert energies.shape[1] == 1
    assert np.isfinite(showers).all()


def test_it_says_what_it_found_and_where(first):
    assert "floor" in first.stdout
    for name in ("bundle", "showers.hdf5", "results.json", "figures"):
        assert f"out/{name}" in first.stdout


def test_the_showers_have_the_energies_of_the_held_out_ones(folder, first):
    results = json.loads((folder / "out" / "results.json").read_text())
    assert results["incident_energy"]["identical"] is True


def test_again_keeps_everything(folder, first):
    out = folder / "out"
    before, made = contents(out), times(out)
    assert len(before) > 5
    second = carry_out(folder)
    assert second.returncode == 0, second.stderr[-3000:]
    assert contents(out) == before
    assert times(out) == made
    assert second.stdout.splitlines()[-4:] == first.stdout.splitlines()[-4:]


def contents(out: Path) -> dict[Path, str]:
    """Hashes of what a second run must leave as it is."""
    rooms = ("shards", "bundle", "showers", "figures")
    inside = [path for room in rooms for path in (out / room).rglob("*") if path.is_file()]
    return {path: sha256_file(path) for path in [*inside, out / "showers.hdf5", out / "results.json"]}


def times(out: Path) -> dict[Path, int]:
    """When the costly files were made: a second run must not make them again."""
    files = [*out.rglob("*.parquet"), *(out / "bundle").rglob("*"), out / "results.json"]
    return {path: path.stat().st_mtime_ns for path in files}
