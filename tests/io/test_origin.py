"""CPU time of Geant4 and original files, read from files and from shards."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from caloray.cli import main
from caloray.io.origin import geant4_time, origin_files

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"


def test_a_file_with_the_attribute(tmp_path, write_file):
    found = geant4_time(write_file(tmp_path / "a.hdf5", 40, cpu_s=10.0, emin=1e3, emax=5e4, cpu_s_note="all"))
    assert found is not None
    assert found.seconds == pytest.approx(0.25)
    assert found.showers == 40
    assert found.files == ("a.hdf5",)
    assert found.energies == (1e3, 5e4)
    assert found.note == "all"
    assert found.to_dict()["attribute"] == "cpu_s"


@pytest.mark.parametrize("value", [None, -1.0, 0.0, math.nan, "soon", np.array([1.0, 2.0])])
def test_no_number_no_time(tmp_path, write_file, value):
    attrs = {} if value is None else {"cpu_s": value}
    assert geant4_time(write_file(tmp_path / "a.hdf5", 10, **attrs)) is None


def test_shards_count_all_rows_of_their_files(tmp_path, write_file, capsys):
    files = [
        write_file(tmp_path / "a.hdf5", 40, seed=1, cpu_s=10.0, emin=1e3, emax=5e4),
        write_file(tmp_path / "b.hdf5", 60, seed=2, cpu_s=20.0, emin=2e3, emax=9e4),
    ]
    shards = tmp_path / "shards"
    assert main(["data", "ingest", *map(str, files), "-o", str(shards), "--on-invalid", "drop"]) == 0
    capsys.readouterr()
    for path in (shards, shards / "manifest.json"):
        found = geant4_time(path)
        assert found is not None
        assert found.seconds == pytest.approx(30.0 / 100)
        assert found.showers == 100
        assert set(found.files) == {"a.hdf5", "b.hdf5"}
        assert found.energies == (1e3, 9e4)
    records = {record["name"]: record for record in origin_files(shards)}
    assert records["a.hdf5"]["md5"] == hashlib.md5(files[0].read_bytes()).hexdigest()
    assert records["b.hdf5"]["rows"] == 60


def test_one_file_without_it_makes_the_time_unknown(tmp_path, write_file, capsys):
    files = [
        write_file(tmp_path / "a.hdf5", 40, seed=1, cpu_s=10.0),
        write_file(tmp_path / "b.hdf5", 60, seed=2),
    ]
    assert main(["data", "ingest", *map(str, files), "-o", str(tmp_path / "s"), "--on-invalid", "drop"]) == 0
    capsys.readouterr()
    assert geant4_time(tmp_path / "s") is None


def test_origin_of_a_file(tmp_path, write_file):
    path = write_file(tmp_path / "a.hdf5", 12)
    assert origin_files(path) == [
        {
            "name": "a.hdf5",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "md5": hashlib.md5(path.read_bytes()).hexdigest(),
            "rows": 12,
            "dataset": None,
        }
    ]


def test_the_sample_in_the_repository_knows_its_time():
    found = geant4_time(SAMPLE)
    assert found is not None
    assert 0.1 < found.seconds < 0.3
    assert found.showers == 1500
