"""Files of particles in every format: the same rows, and one line about what is wrong with them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError
from caloray.io import column_files
from caloray.io.column_files import open_columns
from caloray.io.particle_files import Numbering, file_columns, file_particles
from caloray.io.particle_record import ParticleRows
from caloray.io.particles import read_particles

N = 10
RNG = np.random.default_rng(4)
FULL: dict[str, np.ndarray] = {
    "energy": RNG.uniform(1e3, 5e4, N),
    "age": RNG.uniform(1, 2, N),
    "direction_z": RNG.uniform(0.8, 1, N),
    "run": np.full(N, 3),
    "event": np.arange(N) // 4 + (1 << 60),
    "particle": np.arange(N) % 4,
    "pdg": np.array([22, 11, -11] * 3 + [22]),
}


def parquet(path: Path, columns: dict[str, np.ndarray]) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def challenge(path: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file["incident_energies" if name == "energy" else f"incident_{name}"] = values[:, None]
    return path


def plain(path: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        file["label"] = ["x"] * N
        file["matrix"] = np.zeros((2, 2))
        for name, values in columns.items():
            file[name] = values
    return path


def text(path: Path, columns: dict[str, np.ndarray]) -> Path:
    lines = [", ".join(["name", *columns])]
    lines += [
        ", ".join(["e-", *map(repr, row)])
        for row in zip(*(c.tolist() for c in columns.values()), strict=True)
    ]
    path.write_text("# beam\n" + "\n".join(lines) + "\n")
    return path


WRITERS: dict[str, Any] = {
    "p.parquet": parquet,
    "c.hdf5": challenge,
    "d.h5": plain,
    "t.csv": text,
    "t.txt": text,
}


def read(path: Path, *names: str, **options: Any) -> ParticleRows:
    return ParticleRows.concatenate(list(file_particles(path, names, **options)))


@pytest.fixture(params=WRITERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return lambda columns: WRITERS[request.param](tmp_path / request.param, columns)


@pytest.mark.parametrize("chunk", [1000, 3])
def test_every_format_gives_the_same_rows(make: Any, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_files, "CHUNK", chunk)
    path = make(FULL)
    found = read(path, "direction_z", "age")
    assert list(found.conditions) == ["direction_z", "age"]
    for name, values in FULL.items():
        np.testing.assert_array_equal(found.columns()[name], values)
    told = file_columns(path)
    assert set(told.conditions) >= {"age", "direction_z"}
    assert set(told.identity) == {"run", "event", "particle", "pdg"}


def test_what_a_file_leaves_out_is_filled_in(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_files, "CHUNK", 3)
    found = read(make({"energy": FULL["energy"]}), run=12)
    assert found.run.tolist() == [12] * N
    assert found.event.tolist() == list(range(N))
    assert found.particle.tolist() == [0] * N
    assert found.pdg.tolist() == [0] * N
    assert found.conditions == {}


def test_particles_are_counted_within_their_events(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_files, "CHUNK", 3)
    path = make({"energy": FULL["energy"], "event": np.arange(N) // 4, "pdg": FULL["pdg"]})
    assert read(path).particle.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    chosen = read(path, pdg=[22, 11])
    assert chosen.pdg.tolist() == [22, 11, 22, 11, 22, 11, 22]
    assert chosen.event.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert chosen.particle.tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_energies_alone_in_the_simplest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_files, "CHUNK", 4)
    np.save(tmp_path / "e.npy", FULL["energy"][:, None])
    (tmp_path / "e.txt").write_text("# MeV\n" + "\n".join(map(repr, FULL["energy"].tolist())) + "\n")
    for name in ("e.npy", "e.txt"):
        found = read(tmp_path / name)
        np.testing.assert_array_equal(found.energies, FULL["energy"])
        assert found.event.tolist() == list(range(N))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
)
def test_numbering_does_not_depend_on_the_pieces(keys: list[tuple[int, int]], cuts: list[int]) -> None:
    table = np.array(keys, dtype=np.int64).reshape(-1, 2)
    expected: list[int] = []
    for i, key in enumerate(keys):
        expected.append(expected[-1] + 1 if i and keys[i - 1] == key else 0)
    numbering, found = Numbering(), []
    edges = [0, *sorted(min(c, len(keys)) for c in cuts), len(keys)]
    for start, stop in pairwise(edges):
        found += numbering.next(table[start:stop, 0], table[start:stop, 1]).tolist()
    assert found == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy": None}, "no (column|dataset) .*'energy'"),
        ({"age": None}, "no column age"),
        ({"pdg": np.full(N, 1 << 40)}, r"pdg is 1099511627776 in row 0, expected a whole number of 32 bits"),
        ({"event": np.r_[np.zeros(7), 0.5, 0, 0]}, r"event is 0\.5 in row 7"),
        ({"run": np.r_[0, np.nan, np.zeros(8)]}, "run is nan in row 1"),
    ],
)
def test_columns_that_are_no_good(make: Any, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    columns = {name: values for name, values in (FULL | change).items() if values is not None}
    path = make(columns)
    with pytest.raises(DataError, match=message) as refused:
        read(path, "age")
    assert str(path) in str(refused.value)


def test_a_selection_needs_the_column(make: Any) -> None:
    with pytest.raises(DataError, match="no column pdg"):
        read(make({"energy": FULL["energy"]}), pdg=[11])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("energy,age\n1,2\n3\n", "line 3 is not 2 numbers: '3'"),
        ("energy,age\n1,2\n3,x\n", "line 3, age: 'x' is not a number"),
        ("energy,age,age\n1,2,3\n", "a column is named twice"),
        ("1000,2000\n", "line 1 is not one number"),
        (b"\xff\xfe\x00", "cannot be read as text"),
    ],
)
def test_text_that_makes_no_sense(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        read(path, *(name for name in file_columns(path).conditions[:1]))


def test_parquet_that_makes_no_sense(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"energy": [1.0, 2.0, None]}), path)
    with pytest.raises(DataError, match="energy is empty in row 2"):
        read(path)
    data = parquet(path, FULL).read_bytes()
    path.write_bytes(data[:-40])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(path)
    pq.write_table(pa.table({"energy": ["a"], "age": [1]}), path)
    with pytest.raises(DataError, match="column 'energy' is of type string"):
        read(path)
    pq.write_table(pa.table({"age": [1]}), path)
    with pytest.raises(DataError, match="no column 'energy', it has age"):
        read(path)


def test_arrays_that_make_no_sense(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"shape \(3, 2\), expected one energy per row"):
        read(tmp_path / "e.npy")
    (tmp_path / "e.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path / "e.npy")
    with pytest.raises(DataError, match="no such file"):
        open_columns(tmp_path / "x.npy")


def test_hdf5_that_makes_no_sense(tmp_path: Path) -> None:
    path = plain(tmp_path / "d.h5", FULL)
    with h5py.File(path, "r+") as file:
        file["short"] = np.zeros(3)
    with pytest.raises(DataError, match="datasets of different lengths"):
        read(path)
    with h5py.File(path, "w") as file:
        file["energy"] = h5py.ExternalLink("elsewhere.h5", "energy")
    with pytest.raises(DataError, match="a link to other data"):
        read(path)
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.zeros((3, 2))
    with pytest.raises(DataError, match="expected one energy per row"):
        read(path)


def test_parquet_lists_also_serve_single_requests(tmp_path: Path) -> None:
    """`caloray generate --energies FILE` reads every number column that is not the energy as a condition."""
    found = read_particles(parquet(tmp_path / "p.parquet", FULL))
    np.testing.assert_array_equal(found.energies, FULL["energy"])
    assert set(found.conditions) == set(FULL) - {"energy"}
    np.testing.assert_array_equal(found.conditions["age"], FULL["age"])
    parquet(tmp_path / "p.parquet", {"energy": np.zeros(0)})
    with pytest.raises(DataError, match="no particle"):
        read_particles(tmp_path / "p.parquet")
