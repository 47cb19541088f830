"""Where a campaign's particles come from: what its file may say, and the rows that come of it."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter, ValidationError

from caloray.errors import DataError
from caloray.generation import particle_sources
from caloray.generation.particle_sources import (
    FileParticles,
    GridParticles,
    ParticleSpec,
    stream_particles,
)
from caloray.io.particle_record import ParticleRows
from caloray.showers import DIRECTION

SPEC: TypeAdapter[Any] = TypeAdapter(ParticleSpec)


def rows_of(spec: FileParticles | GridParticles, *names: str) -> ParticleRows:
    return ParticleRows.concatenate(list(stream_particles(spec, names)))


def test_a_grid_by_hand() -> None:
    spec = GridParticles(
        energies=(1e3, 5e3),
        theta=(0, 30, 90),
        phi=(0, 90),
        conditions={"age": (1.0, 1.5), "spin": (7.0,)},
        repeat=2,
        run=4,
        pdg=22,
    )
    assert spec.rows == 2 * 3 * 2 * 2 * 2
    found = rows_of(spec, "age", *DIRECTION, "spin")
    expected = list(product((1e3, 5e3), (0, 30, 90), (0, 90), (1.0, 1.5), (7.0,), range(2)))
    assert found.energies.tolist() == [point[0] for point in expected]
    assert found.conditions["age"].tolist() == [point[3] for point in expected]
    assert set(found.conditions["spin"]) == {7.0}
    for row, (_, theta, phi, *_rest) in enumerate(expected):
        t, p = math.radians(theta), math.radians(phi)
        direction = (math.sin(t) * math.cos(p), math.sin(t) * math.sin(p), math.cos(t))
        assert [found.conditions[name][row] for name in DIRECTION] == pytest.approx(direction, abs=1e-15)
    assert found.run.tolist() == [4] * 48
    assert found.event.tolist() == list(range(48))
    assert found.particle.tolist() == [0] * 48
    assert found.pdg.tolist() == [22] * 48


def test_a_grid_does_not_depend_on_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = GridParticles(energies=(1e3, 5e3), theta=(0, 30, 45), repeat=5)
    whole = rows_of(spec, "direction_z")
    monkeypatch.setattr(particle_sources, "CHUNK", 4)
    assert len(list(stream_particles(spec, ["direction_z"]))) == 8
    cut = rows_of(spec, "direction_z")
    for name, values in whole.columns().items():
        np.testing.assert_array_equal(cut.columns()[name], values)


def test_a_huge_grid_is_not_held_in_memory() -> None:
    spec = GridParticles(energies=(1e3,), repeat=10**12)
    assert spec.rows == 10**12
    assert len(next(stream_particles(spec, ()))) == particle_sources.CHUNK


def table(path: Path, n: int = 10) -> Path:
    pq.write_table(
        pa.table({"energy": np.linspace(1e3, 2e3, n), "age": np.ones(n), "pdg": [11, 22] * (n // 2)}), path
    )
    return path


def test_the_first_particles_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "p.parquet")
    monkeypatch.setattr("caloray.io.column_files.CHUNK", 3)
    found = rows_of(FileParticles(path=path, n=7), "age")
    np.testing.assert_array_equal(found.energies, np.linspace(1e3, 2e3, 10)[:7])
    chosen = rows_of(FileParticles(path=path, n=3, pdg=(22,)))
    np.testing.assert_array_equal(chosen.energies, np.linspace(1e3, 2e3, 10)[1:7:2])
    assert len(rows_of(FileParticles(path=path, n=10))) == 10
    with pytest.raises(DataError, match=r"p\.parquet: 5 particles of pdg 22, 6 wanted"):
        rows_of(FileParticles(path=path, n=6, pdg=(22,)))
    with pytest.raises(DataError, match="no particles of pdg 13"):
        rows_of(FileParticles(path=path, pdg=(13,)))


def test_conditions_that_all_particles_of_a_file_share(tmp_path: Path) -> None:
    path = table(tmp_path / "p.parquet")
    found = rows_of(FileParticles(path=path, conditions={"age": 1.5, "spin": 2.0}), "spin", "age")
    assert set(found.conditions["age"]) == {1.5}
    assert set(found.conditions["spin"]) == {2.0}


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "spectrum", "n": 10},
        {
            "kind": "spectrum",
            "n": 10,
            "energies": {"kind": "uniform", "min": 1e3, "max": 2e3},
            "conditions": [
                {"kind": "angles", "theta": [0, 30]},
                {"kind": "uniform", "name": "age", "min": 1, "max": 2},
            ],
            "run": 9,
            "pdg": 22,
        },
        {"kind": "file", "path": "a/b.HDF5", "n": 3, "run": 2},
        {"kind": "file", "path": "b.hepmc.gz", "pdg": [11, -11, 22], "energy": "total"},
        {"kind": "grid", "energies": [1e3], "theta": [0, 20], "phi": [0, 45], "conditions": {"age": [1, 2]}},
    ],
)
def test_what_a_campaign_may_say(value: dict[str, Any]) -> None:
    spec = SPEC.validate_python(value)
    assert SPEC.validate_json(spec.model_dump_json()) == spec
    assert spec.kind == value["kind"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"kind": "list"}, "does not match any of the expected tags"),
        ({"kind": "spectrum"}, "n\n  Field required"),
        ({"kind": "spectrum", "n": 0}, "greater than or equal to 1"),
        ({"kind": "spectrum", "n": 1, "energies": {"kind": "file", "path": "a.csv"}}, "expected tags"),
        ({"kind": "spectrum", "n": 1, "energy": 3}, "Extra inputs are not permitted"),
        ({"kind": "file", "path": "a.root"}, "a.root: unknown ending; .parquet, .h5"),
        ({"kind": "file", "path": "a.gz"}, "unknown ending"),
        ({"kind": "file", "path": "a.csv", "pdg": []}, "at least 1 item"),
        ({"kind": "grid", "energies": []}, "at least 1 item"),
        ({"kind": "grid", "energies": [-1.0]}, "greater than 0"),
        ({"kind": "grid", "energies": [1.0], "theta": [200]}, "less than or equal to 180"),
        ({"kind": "grid", "energies": [1.0], "phi": [20]}, "phi without theta"),
        (
            {"kind": "grid", "energies": [1.0], "theta": [0], "conditions": {"direction_z": [1]}},
            "a direction by theta and by conditions",
        ),
        ({"kind": "grid", "energies": [1.0, 2.0], "repeat": 1 << 53}, "fewer than 2\\^53"),
        ({"kind": "grid", "energies": [1.0], "conditions": {"age": []}}, "at least 1 item"),
        ({"kind": "grid", "energies": [float("nan")]}, "finite number"),
    ],
)
def test_what_a_campaign_may_not_say(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SPEC.validate_python(value)
