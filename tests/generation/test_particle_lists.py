"""The particles of a campaign before it starts: checked whole, listed once, kept when it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caloray.atomic import sha256_file
from caloray.errors import CaloRayError, ConfigError, DataError, StorageError
from caloray.generation import particle_lists
from caloray.generation.conditions import Angles, UniformCondition
from caloray.generation.energies import FromTable, Listed, LogUniform, Uniform
from caloray.generation.particle_lists import PlannedParticles, resolve_particles
from caloray.generation.particle_sources import (
    Domain,
    FileParticles,
    GridParticles,
    SpectrumIdentity,
    SpectrumParticles,
    TableIdentity,
)
from caloray.io.particle_table import PARTICLES, ParticleTable
from caloray.preprocess.condition_range import ConditionRange
from caloray.showers import DIRECTION

ENERGIES = (1e3, 5e4)
BEAM = tuple(
    ConditionRange(name, "1", low, high)
    for name, low, high in zip(DIRECTION, (-0.7, -0.7, 0.6), (0.7, 0.7, 1.0), strict=True)
)
AGE = ConditionRange("age", "ns", 1.0, 2.0)
N = 30


def columns(n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    theta, phi = rng.uniform(0, 0.7, n), rng.uniform(0, 6, n)
    unit = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    return {
        "energy": rng.uniform(1e3, 5e4, n),
        "age": rng.uniform(1, 2, n),
        "event": np.arange(n) // 2,
        **dict(zip(DIRECTION, unit, strict=True)),
    }


def table(path: Path, **changes: Any) -> Path:
    found = columns() | changes
    pq.write_table(pa.table({name: values for name, values in found.items() if values is not None}), path)
    return path


def resolve(
    spec: Any, directory: Path, domain: Domain = "error", ranges: Any = (*BEAM, AGE), **options: Any
) -> PlannedParticles:
    return resolve_particles(spec, ENERGIES, ranges, directory, domain, **options)


def test_a_file_becomes_the_list_of_the_campaign(tmp_path: Path) -> None:
    spec = FileParticles(path=table(tmp_path / "p.parquet", colour=np.arange(N)), run=3)
    found = resolve(spec, tmp_path / "out")
    path = tmp_path / "out" / PARTICLES
    assert found.n == N
    assert found.identity == TableIdentity(source="file")
    assert found.conditions == ()
    assert found.unused == ("colour",)
    with ParticleTable(path) as listed:
        rows = listed.read(0, N)
        assert found.energies == FromTable(
            rows=N, content=listed.content, sha256=sha256_file(path), conditions=(*DIRECTION, "age")
        )
    for name, values in columns().items():
        np.testing.assert_array_equal(rows.columns()[name], values)
    assert rows.run.tolist() == [3] * N
    assert rows.particle.tolist() == [0, 1] * (N // 2)


def test_a_grid_becomes_the_list_of_the_campaign(tmp_path: Path) -> None:
    spec = GridParticles(energies=(1e3, 2e3), theta=(0, 20), conditions={"age": (1.5,)}, repeat=3)
    found = resolve(spec, tmp_path)
    assert found.n == 12
    assert found.identity == TableIdentity(source="grid")
    with ParticleTable(tmp_path / PARTICLES) as listed:
        assert listed.conditions == (*DIRECTION, "age")
        assert listed.read(0, 12).energies.tolist() == [1e3] * 6 + [2e3] * 6


def test_a_dry_run_finds_out_the_same_and_writes_nothing(tmp_path: Path) -> None:
    spec = FileParticles(path=table(tmp_path / "p.parquet"))
    dry = resolve(spec, tmp_path / "out", write=False)
    assert not (tmp_path / "out").exists()
    made = resolve(spec, tmp_path / "out")
    assert isinstance(dry.energies, FromTable)
    assert isinstance(made.energies, FromTable)
    assert dry.energies == made.energies.model_copy(update={"sha256": ""})


def test_the_same_particles_in_another_file_make_the_same_content(tmp_path: Path) -> None:
    first = resolve(FileParticles(path=table(tmp_path / "p.parquet")), tmp_path / "a")
    with h5py.File(tmp_path / "p.h5", "w") as file:
        for name, values in columns().items():
            file[name] = values
    second = resolve(FileParticles(path=tmp_path / "p.h5"), tmp_path / "b")
    assert isinstance(first.energies, FromTable)
    assert isinstance(second.energies, FromTable)
    assert first.energies.content == second.energies.content


def bad(**rows: Any) -> dict[str, np.ndarray]:
    """Columns with the given values in rows 3, 4, ..."""
    found = columns()
    for name, values in rows.items():
        found[name][3 : 3 + len(values)] = values
    return {name: found[name] for name in rows}


@pytest.mark.parametrize(
    ("rows", "kind", "message"),
    [
        (
            {"energy": [-5.0, 0.0]},
            DataError,
            "2 of 30 particles are impossible: row 3 .*: energy -5 MeV, row 4 ",
        ),
        ({"energy": [np.nan]}, DataError, "1 of 30 .*energy nan MeV"),
        ({"age": [np.inf]}, DataError, "age inf"),
        ({"direction_z": [0.1] * 20}, DataError, "20 of 30 .* length of direction 0.*row 12 .*, [.]{3}$"),
        (
            {"energy": [900.0]},
            ConfigError,
            r"1 of 30 .* outside .* row 3 \(run 1, event 1, particle 1\): energy 900",
        ),
        ({"age": [2.5] * 11}, ConfigError, r"11 of 30 .* row 12 .*age 2.5 ns \(trained 1 to 2 ns\), [.]{3}$"),
        ({"direction_x": [0.0], "direction_y": [0.8], "direction_z": [0.6]}, ConfigError, "direction_y 0.8 "),
    ],
)
def test_the_whole_list_is_checked_before_anything_starts(
    tmp_path: Path, rows: dict[str, list[float]], kind: type[CaloRayError], message: str
) -> None:
    path = table(tmp_path / "p.parquet", **bad(**rows))
    for options in ({}, {"write": False}):
        with pytest.raises(kind, match=message) as refused:
            resolve(FileParticles(path=path), tmp_path / "out", **options)
        assert str(refused.value).startswith(f"{path}: ")
        assert "\n" not in str(refused.value)
        assert refused.value.context["rows"][0] == 3
        assert not (tmp_path / "out" / PARTICLES).exists()
    for policy in ("flag", "skip"):
        if kind is ConfigError:
            assert resolve(FileParticles(path=path), tmp_path / policy, policy).n == N
        else:
            with pytest.raises(DataError, match=message):
                resolve(FileParticles(path=path), tmp_path / policy, policy)


@pytest.mark.parametrize(
    ("spec", "ranges", "message"),
    [
        (GridParticles(energies=(2e3,)), (*BEAM, AGE), "needs a value of direction_x"),
        (GridParticles(energies=(2e3,), theta=(0,)), (*BEAM, AGE), "needs a value of age"),
        (GridParticles(energies=(2e3,), theta=(0,)), (AGE,), "no condition direction_x"),
        (GridParticles(energies=(2e3,), conditions={"spin": (1,)}), (), "no condition spin; it has none"),
        (SpectrumParticles(n=5), (AGE,), "needs a value of age"),
        (
            SpectrumParticles(n=5, energies=Uniform(min=10, max=2e3)),
            (),
            "incident energies from 10 to 2000 MeV",
        ),
    ],
)
def test_sources_that_the_model_cannot_use(tmp_path: Path, spec: Any, ranges: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        resolve(spec, tmp_path, ranges=ranges)
    assert "--allow-extrapolation" not in refused.value.hint


def test_a_file_without_a_condition_needs_it_from_the_campaign(tmp_path: Path) -> None:
    path = table(tmp_path / "p.parquet", age=None)
    with pytest.raises(ConfigError, match="needs a value of age"):
        resolve(FileParticles(path=path), tmp_path)
    resolve(FileParticles(path=path, conditions={"age": 1.25}), tmp_path)
    with ParticleTable(tmp_path / PARTICLES) as listed:
        assert set(listed.read(0, N).conditions["age"]) == {1.25}
    with pytest.raises(ConfigError, match="no condition spin"):
        resolve(FileParticles(path=path, conditions={"age": 1.25, "spin": 1}), tmp_path)


@pytest.mark.parametrize("name", ["p.hepmc", "p.parquet", "p.csv", "p.h5", "p.npy"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: .*[Nn]o such file"):
        resolve(FileParticles(path=tmp_path / name), tmp_path / "out", ranges=())


def test_a_model_with_one_component_of_the_direction_takes_that(tmp_path: Path) -> None:
    resolve(GridParticles(energies=(2e3,), theta=(30,), phi=(10,)), tmp_path, ranges=(BEAM[2],))
    with ParticleTable(tmp_path / PARTICLES) as listed:
        assert listed.conditions == ("direction_z",)


def test_a_condition_whose_name_is_taken(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a condition named event"):
        resolve(GridParticles(energies=(2e3,)), tmp_path, ranges=(ConditionRange("event", "", 0, 1),))


def test_drawn_particles_need_no_file(tmp_path: Path) -> None:
    drawn = (Angles(theta=(0, 20)), UniformCondition(name="age", min=1, max=1.5))
    found = resolve(SpectrumParticles(n=50, conditions=drawn, run=4, pdg=11), tmp_path)
    assert found == PlannedParticles(
        50, LogUniform(min=1e3, max=5e4), drawn, SpectrumIdentity(run=4, pdg=11), ()
    )
    assert list(tmp_path.iterdir()) == []
    wide = SpectrumParticles(n=2, energies=Listed(values=(10.0, 2e3)))
    with pytest.raises(ConfigError, match="trained from 1000") as refused:
        resolve(wide, tmp_path, ranges=())
    assert "domain: flag" in refused.value.hint
    assert resolve(wide, tmp_path, "flag", ranges=()).energies == wide.energies
    with pytest.raises(DataError, match="not positive numbers"):
        resolve(SpectrumParticles(n=1, energies=Listed(values=(-1.0,))), tmp_path, "skip", ranges=())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been streamed from its source."""
    found: list[str] = []
    original = particle_lists.stream_particles

    def counted(spec: Any, names: Any) -> Any:
        found.append(spec.kind)
        return original(spec, names)

    monkeypatch.setattr(particle_lists, "stream_particles", counted)
    return found


def test_a_list_that_is_there_is_kept(tmp_path: Path, passes: list[str]) -> None:
    spec = FileParticles(path=table(tmp_path / "p.parquet"))
    first = resolve(spec, tmp_path / "out")
    stamp = (tmp_path / "out" / PARTICLES).stat().st_mtime_ns
    (tmp_path / "moved.parquet").write_bytes((tmp_path / "p.parquet").read_bytes())
    assert resolve(FileParticles(path=tmp_path / "moved.parquet"), tmp_path / "out") == first
    assert (tmp_path / "out" / PARTICLES).stat().st_mtime_ns == stamp
    assert passes == ["file"]


def test_a_list_that_is_there_is_checked_again(tmp_path: Path) -> None:
    spec = FileParticles(path=table(tmp_path / "p.parquet", **bad(energy=[900.0])))
    resolve(spec, tmp_path / "out", "flag")
    with pytest.raises(ConfigError, match="energy 900 MeV"):
        resolve(spec, tmp_path / "out", "error")


def test_a_damaged_list_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = FileParticles(path=table(tmp_path / "p.parquet"))
    first = resolve(spec, tmp_path / "out")
    path = tmp_path / "out" / PARTICLES
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert resolve(spec, tmp_path / "out") == first
    assert path.read_bytes() == whole
    assert "it is made again" in caplog.text


def planned(directory: Path, found: PlannedParticles) -> None:
    plan = {"energies": found.energies.model_dump(mode="json")}
    (directory / "plan.json").write_text(json.dumps({"digest": "d", "plan": plan}))


def test_another_list_only_where_there_is_no_plan_yet(tmp_path: Path) -> None:
    spec = FileParticles(path=table(tmp_path / "p.parquet"))
    other = FileParticles(path=spec.path, n=10)
    assert resolve(other, tmp_path / "out").n == 10
    first = resolve(spec, tmp_path / "out")
    planned(tmp_path / "out", first)
    before = (tmp_path / "out" / PARTICLES).read_bytes()
    for write in (False, True):
        with pytest.raises(StorageError, match="belongs to a plan with other particles"):
            resolve(other, tmp_path / "out", write=write)
    assert (tmp_path / "out" / PARTICLES).read_bytes() == before
    (tmp_path / "out" / PARTICLES).unlink()
    with pytest.raises(StorageError, match="belongs to a plan with other particles"):
        resolve(other, tmp_path / "out")
    assert not (tmp_path / "out" / PARTICLES).exists()
    assert resolve(spec, tmp_path / "out") == first


def test_the_planned_list_stays_when_its_particles_come_from_another_file(tmp_path: Path) -> None:
    first = resolve(FileParticles(path=table(tmp_path / "p.parquet")), tmp_path / "out")
    planned(tmp_path / "out", first)
    names = list(columns())
    lines = [
        ",".join(names),
        *(",".join(map(repr, row)) for row in zip(*map(np.ndarray.tolist, columns().values()), strict=True)),
    ]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    assert resolve(FileParticles(path=tmp_path / "p.csv"), tmp_path / "out") == first


def test_a_plan_of_drawn_particles_has_no_list(tmp_path: Path) -> None:
    planned(tmp_path, resolve(SpectrumParticles(n=3), tmp_path, ranges=()))
    with pytest.raises(StorageError, match="belongs to a plan with other particles"):
        resolve(GridParticles(energies=(2e3,)), tmp_path, ranges=())
    assert not (tmp_path / PARTICLES).exists()
