"""A campaign whose file of particles is gone goes on with its own list; rows that are known ahead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caloray.errors import ConfigError, DataError, StorageError
from caloray.generation.particle_lists import PlannedParticles, resolve_particles
from caloray.generation.particle_sources import FileParticles, GridParticles, SpectrumParticles, rows_ahead
from caloray.io.particle_record import IDENTITY, ParticleRows
from caloray.io.particle_table import PARTICLES, ParticleWriter, list_bytes
from caloray.preprocess.condition_range import ConditionRange

AGE = ConditionRange("age", "ns", 1.0, 2.0)
N = 20


def spec(path: Path, **changes: object) -> FileParticles:
    return FileParticles.model_validate({"path": path, "conditions": {"age": 1.5}} | changes)


def resolve(wanted: FileParticles, directory: Path, *, write: bool = True) -> PlannedParticles:
    return resolve_particles(wanted, (1e3, 5e4), (AGE,), directory, "error", write=write)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file, of which the list in "out" with its plan was made."""
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"energy": np.linspace(1e3, 5e4, N), "pdg": [22] * N}), path)
    energies = resolve(spec(path), tmp_path / "out").energies.model_dump(mode="json")
    (tmp_path / "out" / "plan.json").write_text(json.dumps({"digest": "d", "plan": {"energies": energies}}))
    return path


@pytest.mark.parametrize("write", [True, False])
def test_a_campaign_goes_on_without_the_file_of_its_list(
    source: Path, caplog: pytest.LogCaptureFixture, write: bool
) -> None:
    first = resolve(spec(source), source.parent / "out")
    before = (source.parent / "out" / PARTICLES).read_bytes()
    source.unlink()
    assert resolve(spec(source, pdg=[22]), source.parent / "out", write=write) == first
    assert f"{source}: no such file; going on with its 20 particles in" in caplog.text
    assert (source.parent / "out" / PARTICLES).read_bytes() == before


@pytest.mark.parametrize("changes", [{"n": 5}, {"pdg": [11]}, {"conditions": {"age": 1.25}}])
def test_without_the_file_other_particles_are_refused(source: Path, changes: dict[str, object]) -> None:
    source.unlink()
    with pytest.raises(StorageError, match="belongs to a plan with other particles"):
        resolve(spec(source, **changes), source.parent / "out")
    with pytest.raises(ConfigError, match="no condition spin"):
        resolve(spec(source, conditions={"age": 1.5, "spin": 1}), source.parent / "out")


@pytest.mark.parametrize("lost", ["plan.json", PARTICLES])
def test_without_the_file_plan_and_list_must_be_there(source: Path, lost: str) -> None:
    source.unlink()
    (source.parent / "out" / lost).unlink()
    with pytest.raises(DataError, match=r"p\.parquet: no such file of particles"):
        resolve(spec(source), source.parent / "out")


def test_without_the_file_a_changed_list_does_not_do(source: Path) -> None:
    source.unlink()
    path = source.parent / "out" / PARTICLES
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    with pytest.raises(DataError, match=r"p\.parquet: no such file of particles"):
        resolve(spec(source), source.parent / "out")


def test_a_grid_of_directions_for_a_model_without(tmp_path: Path) -> None:
    grid = GridParticles(energies=(2e3,), theta=(0,), conditions={"age": (1.5,)})
    with pytest.raises(ConfigError, match="theta gives a direction, but the model has no condition") as no:
        resolve_particles(grid, (1e3, 5e4), (AGE,), tmp_path, "error")
    assert no.value.hint == "leave theta and phi out of particles"


def test_numbers_of_rows_that_are_known_ahead(source: Path) -> None:
    assert rows_ahead(SpectrumParticles(n=7)) == 7
    assert rows_ahead(GridParticles(energies=(1e3, 2e3), repeat=10**9)) == 2 * 10**9
    assert rows_ahead(spec(source)) == N
    assert rows_ahead(spec(source, n=5)) == 5
    assert rows_ahead(spec(source, n=50)) == N
    assert rows_ahead(spec(source, pdg=[22])) is None
    (source.parent / "p.csv").write_text("1e4\n")
    assert rows_ahead(spec(source.parent / "p.csv")) is None
    source.unlink()
    assert rows_ahead(spec(source)) is None
    source.mkdir()
    with pytest.raises(DataError, match="is a directory"):
        rows_ahead(spec(source))


@pytest.mark.parametrize("rows", [1, 100_000])
def test_a_list_takes_no_more_than_foretold(tmp_path: Path, rows: int) -> None:
    rng = np.random.default_rng(3)
    limits = {name: np.iinfo(kind) for name, kind in IDENTITY.items()}
    identity = {name: rng.integers(at.min, at.max, rows) for name, at in limits.items()}
    with ParticleWriter(tmp_path / PARTICLES, ["a", "b"]) as writer:
        writer.append(
            ParticleRows.of(
                {"energy": rng.random(rows), **identity, "a": rng.random(rows), "b": rng.random(rows)}
            )
        )
    size = (tmp_path / PARTICLES).stat().st_size
    assert size <= list_bytes(rows, 2) <= 1.1 * size + (1 << 17)
