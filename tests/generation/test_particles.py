"""Particles block by block: the same in any order, those outside marked or left out and listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError, IntegrityError
from caloray.generation.conditions import Angles, ConditionStream, UniformCondition
from caloray.generation.energies import EnergyStream, FromTable, LogUniform
from caloray.generation.particle_lists import resolve_particles
from caloray.generation.particle_sources import (
    Domain,
    FileParticles,
    GridParticles,
    SpectrumParticles,
)
from caloray.generation.particles import ParticleStream, verify_particles, write_skipped
from caloray.generation.plan import GenerationPlan, Production, make_plan
from caloray.io.particle_table import PARTICLES, ParticleTable, read_skipped
from caloray.preprocess.condition_range import ConditionRange
from caloray.showers import DIRECTION

BLOCK = 8
N = 45
EDGE = float(np.sin(np.deg2rad(50)))
BEAM = tuple(
    ConditionRange(name, "1", low, high)
    for name, low, high in zip(DIRECTION, (-EDGE, -EDGE, 0.6), (EDGE, EDGE, 1.0), strict=True)
)
AGE = ConditionRange("age", "ns", 1.0, 2.0)
RANGES = (*BEAM, AGE)
WIDE = SpectrumParticles(
    n=N,
    energies=LogUniform(min=500, max=1e5),
    conditions=(Angles(theta=(0, 70)), UniformCondition(name="age", min=0.5, max=2)),
    run=6,
    pdg=22,
)


@pytest.fixture
def tilted(stub: Any) -> Any:
    found = stub.StubModel()
    found.conditions = RANGES
    return found


def campaign(model: Any, spec: Any, directory: Path, domain: Domain, **options: Any) -> GenerationPlan:
    found = resolve_particles(spec, model.energy_range, model.conditions, directory, domain)
    production = Production(particles=found.identity, domain=domain)
    return make_plan(
        model,
        found.n,
        7,
        energies=found.energies,
        conditions=found.conditions,
        allow_extrapolation=domain != "error",
        production=production,
        **options,
    )


def table(path: Path, n: int = N) -> Path:
    """Particles 0, 5, 10, 15 and 20 lie outside: too low, too high, too old, too slanted, too low."""
    rng = np.random.default_rng(8)
    theta, phi = rng.uniform(0, 0.7, n), rng.uniform(0, 6, n)
    theta[15] = 1.2
    energies, ages = rng.uniform(1e3, 5e4, n), rng.uniform(1, 2, n)
    energies[[0, 20]], energies[5], ages[10] = 700, 9e4, 2.7
    unit = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    columns = {
        "energy": energies,
        "age": ages,
        **dict(zip(DIRECTION, unit, strict=True)),
        "event": np.arange(n) // 4 + 100,
        "pdg": np.full(n, -11),
    }
    pq.write_table(pa.table(columns), path)
    return path


def specs(tmp_path: Path) -> dict[str, Any]:
    return {
        "spectrum": WIDE,
        "file": FileParticles(path=table(tmp_path / "p.parquet"), run=6),
        "grid": GridParticles(
            energies=(700.0, 2e3), theta=(0, 20, 70), conditions={"age": (1.5, 2.5)}, repeat=3
        ),
    }


@pytest.mark.parametrize("kind", ["spectrum", "file", "grid"])
@pytest.mark.parametrize("domain", ["flag", "skip"])
def test_blocks_are_the_same_in_any_order(tilted: Any, tmp_path: Path, kind: str, domain: Domain) -> None:
    plan = campaign(tilted, specs(tmp_path)[kind], tmp_path, domain)
    with ParticleStream(plan, RANGES, tmp_path) as stream:
        whole = [stream.block(b) for b in plan.blocks]
    assert sum(len(block.energies) for block in whole) == plan.n

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8))
    def check(order: list[int]) -> None:
        with ParticleStream(plan, RANGES, tmp_path) as again:
            for index in order:
                found = again.block(index)
                for name in (
                    "energies",
                    "conditions",
                    "outside",
                    "skipped",
                    "run",
                    "event",
                    "particle",
                    "pdg",
                ):
                    np.testing.assert_array_equal(getattr(found, name), getattr(whole[index], name))
                for name, values in whole[index].rows.columns().items():
                    np.testing.assert_array_equal(found.rows.columns()[name], values)

    check()


def test_drawn_values_are_those_of_the_streams(tilted: Any, tmp_path: Path) -> None:
    plan = campaign(tilted, WIDE, tmp_path, "flag")
    energies = EnergyStream(plan.energies, plan.seed, BLOCK)
    conditions = ConditionStream(plan.conditions, (*DIRECTION, "age"), plan.seed, BLOCK)
    with ParticleStream(plan, RANGES, tmp_path) as stream:
        for index in plan.blocks:
            block = stream.block(index)
            count = min(BLOCK, N - index * BLOCK)
            np.testing.assert_array_equal(block.energies, energies.block(index)[:count])
            np.testing.assert_array_equal(block.conditions, conditions.block(index, count))
            assert block.event.tolist() == list(range(index * BLOCK, index * BLOCK + count))
            assert set(block.run) == {6}
            assert set(block.pdg) == {22}
            assert not block.particle.any()


def test_a_plan_without_campaign_is_served_too(tilted: Any, model: Any, tmp_path: Path) -> None:
    plan = make_plan(
        tilted, N, 7, conditions=[Angles(theta=(0, 40)), UniformCondition(name="age", min=1, max=2)]
    )
    with ParticleStream(plan, RANGES, tmp_path) as stream:
        block = stream.block(5)
        assert len(block.energies) == N - 5 * BLOCK
        assert not block.outside.any()
        assert not block.skipped.any()
    plain = make_plan(model, N, 7)
    with ParticleStream(plain, (), tmp_path) as stream:
        assert stream.block(0).conditions is None


def test_listed_values_are_those_of_the_file(tilted: Any, tmp_path: Path) -> None:
    plan = campaign(tilted, specs(tmp_path)["file"], tmp_path, "flag")
    expected = pq.read_table(tmp_path / "p.parquet")
    with ParticleStream(plan, RANGES, tmp_path) as stream:
        blocks = [stream.block(b) for b in plan.blocks]
    energies = np.concatenate([block.energies for block in blocks])
    np.testing.assert_array_equal(energies, expected.column("energy").to_numpy())
    joined = np.concatenate([block.conditions for block in blocks if block.conditions is not None])
    for at, name in enumerate((*DIRECTION, "age")):
        np.testing.assert_array_equal(joined[:, at], expected.column(name).to_numpy())
    outside = np.concatenate([block.outside for block in blocks])
    assert np.flatnonzero(outside).tolist() == list(range(0, 21, 5))
    assert not any(block.skipped.any() for block in blocks)
    events = np.concatenate([block.event for block in blocks])
    assert events.tolist() == [100 + i // 4 for i in range(N)]
    assert np.concatenate([block.particle for block in blocks]).tolist() == [i % 4 for i in range(N)]


def test_skipped_rows_leave_the_others_alone(tilted: Any, tmp_path: Path) -> None:
    for kind, spec in specs(tmp_path).items():
        flagged = campaign(tilted, spec, tmp_path / f"{kind}-flag", "flag")
        skipped = campaign(tilted, spec, tmp_path / f"{kind}-skip", "skip")
        with (
            ParticleStream(flagged, RANGES, tmp_path / f"{kind}-flag") as first,
            ParticleStream(skipped, RANGES, tmp_path / f"{kind}-skip") as second,
        ):
            seen = 0
            for index in flagged.blocks:
                a, b = first.block(index), second.block(index)
                np.testing.assert_array_equal(a.outside, b.skipped)
                np.testing.assert_array_equal(a.energies[~b.skipped], b.energies[~b.skipped])
                assert a.conditions is not None
                assert b.conditions is not None
                np.testing.assert_array_equal(a.conditions[~b.skipped], b.conditions[~b.skipped])
                np.testing.assert_array_equal(a.rows.energies, b.rows.energies)
                length = np.sqrt((b.conditions[:, :3] ** 2).sum(axis=1))
                np.testing.assert_allclose(length, 1, atol=1e-3)
                assert ((b.energies >= 1e3 * (1 - 1e-6)) & (b.energies <= 5e4 * (1 + 1e-6))).all()
                seen += int(b.skipped.sum())
            assert 0 < seen < flagged.n


def test_the_list_of_those_that_were_left_out(tilted: Any, tmp_path: Path) -> None:
    plan = campaign(tilted, specs(tmp_path)["file"], tmp_path, "skip")
    with ParticleStream(plan, RANGES, tmp_path) as stream:
        assert write_skipped(stream, plan.blocks, tmp_path / "a.parquet") == 5
        fewer = [b for b in plan.blocks if stream.block(b).skipped.any()]
        assert len(fewer) < len(plan.blocks)
        assert write_skipped(stream, fewer, tmp_path / "b.parquet") == 5
        assert write_skipped(stream, [], tmp_path / "none.parquet") == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    ids, rows, reasons = read_skipped(tmp_path / "a.parquet")
    assert ids.tolist() == list(range(0, 21, 5))
    original = pq.read_table(tmp_path / "p.parquet")
    for name in ("energy", "age", *DIRECTION, "event", "pdg"):
        np.testing.assert_array_equal(rows.columns()[name], original.column(name).to_numpy()[ids])
    assert reasons[:3] == [
        "energy 700 MeV (trained 1000 to 50000 MeV)",
        "energy 90000 MeV (trained 1000 to 50000 MeV)",
        "age 2.7 ns (trained 1 to 2 ns)",
    ]
    assert reasons[3].startswith("direction_")
    again = resolve_particles(
        FileParticles(path=tmp_path / "a.parquet"), (1.0, 1e6), (AGE,), tmp_path / "full", "flag"
    )
    assert again.n == 5


def test_the_list_honours_the_chosen_ids(tilted: Any, tmp_path: Path) -> None:
    plan = campaign(tilted, specs(tmp_path)["file"], tmp_path, "skip", ids=[4, 5, 20, 21])
    with ParticleStream(plan, RANGES, tmp_path) as stream:
        assert write_skipped(stream, plan.blocks, tmp_path / "s.parquet") == 2
    assert read_skipped(tmp_path / "s.parquet")[0].tolist() == [5, 20]


def test_another_list_than_the_planned_one_is_refused(tilted: Any, tmp_path: Path) -> None:
    grid = GridParticles(energies=(2e3, 3e3), theta=(0,), conditions={"age": (1.5,)})
    plan = campaign(tilted, grid, tmp_path, "error")
    verify_particles(plan, tmp_path)
    campaign(tilted, grid.model_copy(update={"energies": (2e3, 3.5e3)}), tmp_path, "error")
    with pytest.raises(DataError, match=r"particles\.parquet: these are not the particles that the plan"):
        ParticleStream(plan, RANGES, tmp_path)
    with pytest.raises(IntegrityError, match="these are not the particles"):
        verify_particles(plan, tmp_path)
    (tmp_path / PARTICLES).unlink()
    with pytest.raises(IntegrityError, match="no such particle list"):
        ParticleStream(plan, RANGES, tmp_path)


@pytest.mark.faults
def test_verification_sees_every_flipped_byte(tilted: Any, tmp_path: Path) -> None:
    plan = campaign(tilted, specs(tmp_path)["file"], tmp_path, "flag")
    path = tmp_path / PARTICLES
    whole = path.read_bytes()
    for at in range(0, len(whole), 101):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(IntegrityError, match=r"particles\.parquet"):
            verify_particles(plan, tmp_path)
    path.write_bytes(whole)
    verify_particles(plan, tmp_path)
    verify_particles(campaign(tilted, WIDE, tmp_path, "flag"), tmp_path / "nothing")


def test_the_plan_tells_lists_apart_by_content_alone(tilted: Any, tmp_path: Path) -> None:
    grid = GridParticles(energies=(2e3, 3e3), theta=(0,), conditions={"age": (1.5,)})
    plan = campaign(tilted, grid, tmp_path, "error")
    assert isinstance(plan.energies, FromTable)
    other = plan.model_copy(
        update={"energies": plan.energies.model_copy(update={"sha256": "x", "path": "y"})}
    )
    assert GenerationPlan.model_validate(other.model_dump(mode="json")).digest == plan.digest
    changed = plan.energies.model_copy(update={"content": "0" * 64})
    moved = plan.model_copy(update={"energies": changed})
    assert GenerationPlan.model_validate(moved.model_dump(mode="json")).digest != plan.digest
    assert GenerationPlan.model_validate_json(plan.model_dump_json()).digest == plan.digest
    with ParticleTable(tmp_path / PARTICLES) as listed:
        assert listed.content == plan.energies.content
