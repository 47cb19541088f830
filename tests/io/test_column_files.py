"""Columns of files of particles: what a file is taken for, and what it loses nothing of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caloray.errors import DataError
from caloray.io.energies import read_energies
from caloray.io.particle_files import file_columns, file_particles
from caloray.io.particle_record import ParticleRows
from caloray.io.particles import read_particles

ENERGIES = np.array([1500.0, 2500.0])


def read(path: Path, *names: str) -> ParticleRows:
    return ParticleRows.concatenate(list(file_particles(path, names)))


def hdf5(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_a_challenge_file_says_which_particles_it_holds(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = hdf5(
        tmp_path / "c.hdf5",
        incident_energies=ENERGIES[:, None],
        showers=np.zeros((2, 5)),
        event=np.array([5, 6]).reshape(shape),
        pdg=np.array([22, 11]).reshape(shape),
        flags=np.zeros(2),
    )
    assert file_columns(path).identity == ("event", "pdg")
    assert file_columns(path).conditions == ()
    found = read(path)
    assert (found.event.tolist(), found.pdg.tolist(), found.run.tolist()) == ([5, 6], [22, 11], [1, 1])


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"event": ["a", "b"]}, "column 'event' is of type object"),
        ({"event": np.arange(3)}, "column 'event' has 3 rows of 2"),
        ({"event": np.zeros((2, 2))}, r"column 'event' has shape \(2, 2\)"),
        ({"event/number": np.arange(2)}, "column 'event' is a group"),
        ({"pdg": 22}, r"column 'pdg' has shape \(\)"),
        ({"incident_pdg": ["e-", "e-"]}, "column 'pdg' is of type object"),
        ({"event": np.arange(2), "incident_event": np.arange(2)}, "both event and incident_event"),
    ],
)
def test_which_particle_it_is_does_not_get_lost(tmp_path: Path, extra: dict[str, Any], message: str) -> None:
    path = hdf5(tmp_path / "c.hdf5", incident_energies=ENERGIES, **extra)
    with pytest.raises(DataError, match=message):
        read(path)
    plain = {name: values for name, values in extra.items() if "incident" not in name}
    if plain and "rows of" not in message and "both" not in message:
        with pytest.raises(DataError, match=message):
            read(hdf5(tmp_path / "d.hdf5", energy=ENERGIES, **plain))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b"], "column 'energy' is of type object"),
        (np.zeros((2, 3)), r"column 'energy' has shape \(2, 3\)"),
        (3.0, r"column 'energy' has shape \(\)"),
    ],
)
def test_hdf5_energies_that_are_none(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(hdf5(tmp_path / "p.h5", energy=values))
    with pytest.raises(DataError, match="column 'energy' is a group"):
        read(hdf5(tmp_path / "p.h5", **{"energy/values": ENERGIES}))
    with pytest.raises(DataError, match=message.replace("energy", "age")):
        read(hdf5(tmp_path / "p.h5", energy=ENERGIES, age=values), "age")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array(["1500", "2500"]), "string"),
        (pa.array([1, 2], pa.decimal128(10, 2)), r"decimal128\(10, 2\)"),
        (pa.array([[1.0], [2.0]]), "list<"),
        (pa.array(["a", "a"]).dictionary_encode(), "dictionary<"),
    ],
)
def test_parquet_columns_that_are_no_numbers(tmp_path: Path, values: Any, kind: str) -> None:
    path = tmp_path / "p.parquet"
    for name in ("energy", "age", "event"):
        pq.write_table(pa.table({"energy": ENERGIES, "colour": ["red", "red"]} | {name: values}), path)
        with pytest.raises(
            DataError, match=f"column '{name}' is of type {kind}.*, expected one number"
        ) as no:
            read(path, *({"age"} & {name}))
        assert "\n" not in str(no.value)


def test_parquet_with_two_columns_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table([pa.array(ENERGIES)] * 2, names=["energy", "energy"]), path)
    for reader in (read, read_particles):
        with pytest.raises(DataError, match="a column is named twice: energy"):
            reader(path)


@pytest.mark.parametrize("reader", [read, read_energies, read_particles])
def test_arrays_that_are_archives(tmp_path: Path, reader: Any) -> None:
    np.savez(tmp_path / "e.npz", energy=ENERGIES, age=ENERGIES)
    path = (tmp_path / "e.npz").rename(tmp_path / "e.npy")
    with pytest.raises(DataError, match=r"e\.npy: an \.npz archive of arrays \(energy, age\)"):
        reader(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"e\.npy: cannot be read"):
        reader(path)


@pytest.mark.parametrize("ending", [".parquet", ".h5", ".npy", ".csv", ".txt", ".hepmc"])
@pytest.mark.parametrize("reader", [read, read_energies, read_particles])
def test_paths_that_are_no_files(tmp_path: Path, ending: str, reader: Any) -> None:
    (tmp_path / f"d{ending}").mkdir()
    cases = {
        f"d{ending}": "is a directory, expected a file",
        f"m{ending}": "no such file",
        "n" * 300 + ending: "File name too long",
        f"a\0b{ending}": "null byte",
    }
    for name, message in cases.items():
        with pytest.raises(DataError, match=message) as refused:
            reader(tmp_path / name)
        assert "\n" not in str(refused.value)
        assert "\0" not in str(refused.value)


def test_how_many_rows_there_are_is_known_before_they_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"energy": ENERGIES}), tmp_path / "p.parquet")
    np.save(tmp_path / "p.npy", ENERGIES)
    hdf5(tmp_path / "c.h5", incident_energies=ENERGIES)
    hdf5(tmp_path / "p.h5", energy=ENERGIES)
    (tmp_path / "p.csv").write_text("1\n2\n")
    rows = {path.name: file_columns(path).rows for path in tmp_path.iterdir()}
    assert rows == {"p.parquet": 2, "p.npy": 2, "c.h5": 2, "p.h5": 2, "p.csv": None}
