"""Figures come from results.json alone and leave matplotlib as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import matplotlib as mpl
import numpy as np
import pytest

from caloray.evaluation import evaluate
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.source import open_source
from caloray.report import draw
from caloray.report.panels import curves_of_histogram
from caloray.showers import Showers

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"


def compare(directory: Path, geometry_name: str, voxels: np.ndarray, energies: np.ndarray) -> dict[str, Any]:
    geometry = load_geometry(geometry_name)
    half = len(voxels) // 2
    paths = []
    for i, part in enumerate((slice(0, half), slice(half, None))):
        paths.append(directory / f"{i}.hdf5")
        write_challenge(
            paths[-1], geometry, [Showers(energies[part], voxels[part], np.arange(len(energies[part])))]
        )
    data = evaluate(open_source(paths[0]), open_source(paths[1]), n_halvings=4).data
    return json.loads(json.dumps(data))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with h5py.File(SAMPLE) as file:
        voxels, energies = file["showers"][:300], file["incident_energies"][:300, 0]
    return compare(tmp_path_factory.mktemp("figures"), "ds2", voxels, energies)


def test_draws_every_figure(results: dict[str, Any], tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    paths = draw(results, tmp_path / "figures")
    assert dict(mpl.rcParams) == before
    assert [path.stem.split("_", 1)[0] for path in paths] == [f"{i:02d}" for i in range(11)]
    for path in paths:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n", path
        assert len(data) > 10_000, path
    assert sorted(tmp_path.joinpath("figures").iterdir()) == sorted(paths)


def test_ragged_layers_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = (rng.exponential(20, (80, 533)) * (rng.random((80, 533)) < 0.1)).astype(np.float32)
    voxels[:, :8] = 0  # an empty layer
    results = compare(tmp_path, "ds1_pions", voxels, rng.uniform(1e4, 2e4, 80))
    assert len(draw(results, tmp_path / "figures")) == 11


def test_curves_keep_entries_and_errors() -> None:
    record = {
        "observable": "hits",
        "edges": list(range(11)),
        "reference": {"counts": [0, 0, 9, 100, 400, 100, 16, 0, 0, 0]},
        "generated": {"counts": [0, 0, 0, 120, 300, 200, 0, 4, 0, 0]},
    }
    reference, generated = curves_of_histogram(record, (1000, 2000))
    assert reference.edges.tolist() == [2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(reference.values, np.array([9, 100, 400, 100, 16, 0]) / 1000)
    np.testing.assert_allclose(reference.errors, np.array([3, 10, 20, 10, 4, 0]) / 1000)
    np.testing.assert_allclose(generated.values, np.array([0, 120, 300, 200, 0, 4]) / 2000)


def test_voxels_of_one_shower_are_not_independent() -> None:
    part = {"counts": [100, 100], "sum_squares": [10_000, 400]}
    record = {"observable": "voxel_energy", "edges": [1.0, 2.0, 4.0], "reference": part, "generated": part}
    reference, _ = curves_of_histogram(record, (10, 10))
    np.testing.assert_allclose(reference.errors, [10.0, 2.0])
