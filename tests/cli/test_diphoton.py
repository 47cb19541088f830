"""``caloray diphoton``: files in, tables, record and figure out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from caloray.cli.diphoton import EXAMPLE, diphoton
from caloray.errors import CaloRayError, ConfigError, DataError
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.showers import Showers

FEW = ("--pairs", 50, "--distances", "0,5,10,15,20,30")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Blobs of 80 and 20 hits in the grid of whole cells."""
    geometry, rng, directory = (
        load_geometry("ild_30x30x30"),
        np.random.default_rng(4),
        tmp_path_factory.mktemp("two"),
    )
    paths = []
    for name in ("geant4.hdf5", "flow.hdf5"):
        energies = np.where(np.arange(60) % 2, 5000.0, 20_000.0) * rng.uniform(0.96, 1.04, 60)
        voxels = np.zeros((60, 30, 30, 30))
        for shower, energy in zip(voxels, energies, strict=True):
            x, y = np.clip(15 + 0.7 * rng.standard_normal((2, int(energy / 250))), 0, 29).astype(int)
            np.add.at(shower, (rng.integers(5, 15, len(x)), x, y), rng.exponential(2.0, len(x)))
        paths.append(directory / name)
        write_challenge(paths[-1], geometry, [Showers(energies, voxels.reshape(60, -1), np.arange(60))])
    return paths[0], paths[1]


def run(*words: object):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(diphoton)
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: object) -> CaloRayError:
    error = run(*words).exception
    assert isinstance(error, CaloRayError)
    return error


def test_tables_record_and_figure(files, tmp_path):
    result = run(*files, "-o", tmp_path, *FEW)
    assert result.exit_code == 0, result.output
    for words in (
        "geant4.hdf5 + flow.hdf5",
        "resolved at 15 mm",
        "one photon seen as two",
        "floor = halves of geant4.hdf5",
        "di-photon |ΔP| max",
        "are too few; ±30% is used",
    ):
        assert words in result.output
    record = json.loads((tmp_path / "diphoton.json").read_text())
    assert record["granularity"] == 1
    assert record["settings"]["pairs"] == 50
    assert (tmp_path / "figures" / "diphoton.png").read_bytes()[:4] == b"\x89PNG"


def test_json_of_one_sample(files, tmp_path):
    result = run(files[0], "-o", tmp_path, *FEW, "--no-figures", "--json", "--direction", "diagonal")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert len(record["curves"]) == 1
    assert record["generated"] is None
    assert record["figures"] == []
    assert not (tmp_path / "figures").exists()


def test_clear_errors(files, tmp_path):
    assert isinstance(refused(files[0], "-o", tmp_path, "--energies", "20;5"), ConfigError)
    assert "distances must ascend" in str(refused(files[0], "-o", tmp_path, "--distances", "5,0"))
    assert isinstance(refused(tmp_path / "none.hdf5", "-o", tmp_path), DataError)
    error = refused(files[0], "-o", tmp_path, "--energies", "20000,1000")
    assert "0 showers from 700 to 1,300 MeV" in str(error)
