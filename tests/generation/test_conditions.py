"""Conditions of a request: drawn, listed or read, part of its identity, and back in what it writes."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.cli import main
from caloray.errors import ConfigError, DataError
from caloray.generation.condition_words import outline, parse_conditions, spell_conditions
from caloray.generation.conditions import (
    Angles,
    ConditionStream,
    FromParticles,
    ListedCondition,
    UniformCondition,
)
from caloray.generation.energies import FromFile, Listed, LogUniform
from caloray.generation.export import export_hdf5
from caloray.generation.plan import GenerationPlan, make_plan
from caloray.generation.run import generate
from caloray.io.shards import ShardReader
from caloray.preprocess.condition_range import ConditionRange
from caloray.showers import DIRECTION

EDGE = np.sin(np.deg2rad(50))
BEAM = tuple(
    ConditionRange(name, "1", low, high)
    for name, low, high in zip(
        DIRECTION, (-EDGE, -EDGE, np.cos(np.deg2rad(50))), (EDGE, EDGE, 1.0), strict=True
    )
)
AGE = ConditionRange("age", "ns", 1.0, 2.0)


@pytest.fixture
def tilted(stub: Any) -> Any:
    """A model with a direction and an age."""
    found = stub.StubModel()
    found.conditions = (*BEAM, AGE)
    return found


def asked(*words: str, **options: Any) -> list[Any]:
    return parse_conditions(words or ("age=1:2",), options.pop("theta", "0:50"), **options)


def test_drawn_conditions_are_those_that_were_asked_for() -> None:
    stream = ConditionStream(asked(phi="90:180"), (*DIRECTION, "age"), 7, 4000)
    table = stream.block(3, 4000)
    assert table is not None
    np.testing.assert_allclose((table[:, :3] ** 2).sum(axis=1), 1)
    theta = np.rad2deg(np.arccos(table[:, 2]))
    for values, low, high in ((theta, 0, 50), (table[:, 3], 1, 2)):
        assert values.min() >= low
        assert values.max() <= high
        edges = np.histogram(values, 10, (low, high))[0]
        assert (abs(edges - 400) < 5 * 20).all()
    assert (table[:, 0] <= 1e-12).all()
    assert (table[:, 1] >= -1e-12).all()
    assert np.array_equal(stream.block(3, 10), table[:10])
    assert not np.array_equal(stream.block(4, 10), table[:10])
    assert not np.array_equal(ConditionStream(asked(), (*DIRECTION, "age"), 8, 4000).block(3, 10), table[:10])


def test_a_model_without_conditions_has_no_table_and_the_old_plan(model: Any) -> None:
    plan = make_plan(model, 20, 7)
    assert "conditions" not in plan.identity()
    assert "conditions" not in plan.model_dump(mode="json")
    # Of the version before conditions; directories that it wrote must be continued.
    assert plan.digest == PLAIN_DIGEST
    assert GenerationPlan.model_validate(plan.model_dump(mode="json")).digest == plan.digest


PLAIN_DIGEST = "d37c9aaac43072eb19056ca5bb76a73aa23ec84acae11700cc329de5f0221836"


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ([], r"needs a value of direction_x, direction_y, direction_z, age for every"),
        (parse_conditions(["age=1.5"]), "needs a value of direction_x"),
        (asked("age=1.5", "spin=1"), "no condition spin; it has direction_x"),
        (asked("age=1.5", "age=1.6"), "age is given twice"),
        (asked("age=1.5", "direction_z=1"), "direction_z is given twice"),
        (asked("age=0.5:1.5"), r"age: 0\.5 ns is outside the trained range 1 to 2"),
        (asked(theta="0:60"), r"direction_x: .*0\.866.* is outside the trained range -0\.766"),
        (asked("age=1.1,1.2"), "age: 2 values for 20 showers"),
        (
            parse_conditions(["age=1", "direction_x=0", "direction_y=0", "direction_z=0.9"]),
            r"length 0\.9",
        ),
        (
            parse_conditions(["age=1", "direction_x=0:0.7", "direction_y=-0.1:0.1", "direction_z=0.7:1"]),
            "direction_x, direction_y, direction_z drawn on its own",
        ),
        (
            parse_conditions(["age=1", "direction_x=0", "direction_y=0,0", "direction_z=0.7:1"], repeat=True),
            "direction_z drawn on its own",
        ),
        (
            parse_conditions(["age=1", "direction_x=0,0.6", "direction_y=0", "direction_z=1,"], repeat=True),
            r"row 1 has length 1\.166",
        ),
    ],
)
def test_requests_that_the_model_cannot_serve(tilted: Any, conditions: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(tilted, 20, conditions=conditions)


def test_lists_of_different_lengths_make_directions(tilted: Any) -> None:
    words = ["age=1", "direction_x=0,0.6,-0.6", "direction_y=0", "direction_z=1,0.8,0.8,1,0.8,0.8"]
    plan = make_plan(tilted, 20, conditions=parse_conditions(words, repeat=True))
    table = ConditionStream(plan.conditions, (*DIRECTION, "age"), 7, 8).block(1, 8)
    assert table is not None
    np.testing.assert_allclose((table[:, :3] ** 2).sum(axis=1), 1)


def test_every_block_of_directions_is_checked() -> None:
    """A plan from elsewhere may hold what :func:`make_plan` refuses."""
    specs = [UniformCondition(name=name, min=0.1, max=0.9) for name in DIRECTION]
    with pytest.raises(ConfigError, match=r"direction in row .* has length"):
        ConditionStream(specs, DIRECTION, 7, 8).block(0, 8)


def test_extrapolation_is_possible_where_it_is_asked_for(tilted: Any) -> None:
    assert make_plan(tilted, 20, conditions=asked(theta="0:60"), allow_extrapolation=True).n == 20
    make_plan(tilted, 20, conditions=asked(theta="50"))
    make_plan(tilted, 20, conditions=asked(theta="0"))


def test_a_model_without_conditions_takes_none(model: Any) -> None:
    with pytest.raises(ConfigError, match="no condition direction_x, direction_y, direction_z; it has none"):
        make_plan(model, 20, conditions=parse_conditions([], "10"))
    with pytest.raises(ConfigError, match="no condition age; it has none"):
        make_plan(model, 20, conditions=parse_conditions(["age=1"]))


def test_conditions_are_part_of_the_request(tilted: Any) -> None:
    digests = [
        make_plan(tilted, 20, 7, conditions=conditions).digest
        for conditions in (
            asked(),
            asked("age=1:1.9"),
            asked("age=1.5"),
            asked(theta="0:49"),
            asked(phi="0:180"),
            asked("age=1.5,1.6", repeat=True),
        )
    ]
    assert len(set(digests)) == len(digests)
    plan = make_plan(tilted, 20, 7, conditions=asked())
    assert GenerationPlan.model_validate_json(plan.model_dump_json()).digest == plan.digest


@pytest.mark.parametrize("words", [("age=1:2",), ("age=1.25",), ("age=1.5,1.6,",), ("age=1.5,",)])
def test_the_reproducing_command_spells_conditions(tilted: Any, words: tuple[str, ...]) -> None:
    plan = make_plan(tilted, 20, 7, conditions=asked(*words, theta="0.1:33.3", phi="-12:90", repeat=True))
    spelled = spell_conditions(plan.conditions)
    again = parse_conditions(
        [word for option, word in pairwise(spelled) if option == "--condition"],
        *(next(w for w in spelled if w.startswith(f"--{n}=")).partition("=")[2] for n in ("theta", "phi")),
        repeat=True,
    )
    assert tuple(again) == plan.conditions
    assert all(word in plan.command([3]).replace("'", "") for word in spelled)
    assert "0.1 to 33.3" in "; ".join(map(outline, plan.conditions))


@pytest.mark.parametrize(
    ("conditions", "theta", "phi", "message"),
    [
        (["age"], None, None, "--condition age: no name and value"),
        (["age=x"], None, None, "'x' is no number"),
        (["age=1,x"], None, None, "not numbers"),
        (["age=2:1"], None, None, "1 is below 2"),
        (["age=nan"], None, None, "finite"),
        ([], None, "0:90", "--phi without --theta"),
        ([], "50:10", None, "theta 50 to 10 degrees"),
        ([], "-5:10", None, "expected two angles from 0 to 180"),
        ([], "30:0", None, r"^--theta 30:0: theta 30 to 0 degrees, expected .* the lower one first"),
        ([], "5", "90:0", "lower one first"),
        ([], "a:b", None, "--theta: 'a:b' is no number"),
    ],
)
def test_words_that_make_no_sense(
    conditions: list[str], theta: str | None, phi: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_conditions(conditions, theta, phi)


def particle_file(path: Path, n: int = 20) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    theta, phi = rng.uniform(0, 0.8, n), rng.uniform(0, 6, n)
    columns = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.linspace(2e3, 4e4, n)[:, None]
        file["incident_directions"] = np.stack(columns, axis=1)
        file["incident_age"] = rng.uniform(1, 2, n)
        return {**dict(zip(DIRECTION, columns, strict=True)), "age": file["incident_age"][()]}


def test_a_file_of_particles_gives_energies_and_conditions(
    tilted: Any, tmp_path: Path, read_all: Any
) -> None:
    expected = particle_file(tmp_path / "p.hdf5")
    spec = FromFile(path=tmp_path / "p.hdf5")
    plan = make_plan(tilted, energies=spec)
    assert plan.n == 20
    (taken,) = plan.conditions
    assert isinstance(taken, FromParticles)
    assert taken.names == (*DIRECTION, "age")
    generate(tilted, plan, tmp_path / "out")
    with ShardReader(tmp_path / "out" / plan.shard(0).path) as reader:
        assert reader.conditions == {**dict.fromkeys(DIRECTION, "1"), "age": "ns"}
        found = reader.showers()
    for name, values in expected.items():
        np.testing.assert_array_equal(found.conditions[name], values)
    np.testing.assert_allclose(found.voxels[:, 2], expected["direction_z"], rtol=1e-6)
    export_hdf5(tmp_path / "out", tmp_path / "out.hdf5")
    with h5py.File(tmp_path / "out.hdf5") as file:
        np.testing.assert_array_equal(file["incident_directions"][:, 1], expected["direction_y"])
        assert file["incident_age"].attrs["unit"] == "ns"
    (tmp_path / "q.hdf5").write_bytes((tmp_path / "p.hdf5").read_bytes())
    assert make_plan(tilted, energies=FromFile(path=tmp_path / "q.hdf5")).digest == plan.digest
    partly = make_plan(tilted, energies=spec, conditions=parse_conditions(["age=1.5"]))
    assert [c.kind for c in partly.conditions] == ["uniform", "file"]
    with h5py.File(tmp_path / "p.hdf5", "r+") as file:
        file["incident_age"][3] = 1.0
    with pytest.raises(DataError, match="conditions have changed"):
        generate(tilted, plan, tmp_path / "new")


def test_a_text_file_with_a_header_is_a_file_of_particles(tilted: Any, tmp_path: Path) -> None:
    expected = particle_file(tmp_path / "p.hdf5")
    with h5py.File(tmp_path / "p.hdf5") as file:
        energies = file["incident_energies"][()].reshape(-1)
    columns = {"energy": energies, **expected}
    rows = [
        ", ".join(columns),
        *(",".join(map(repr, map(float, row))) for row in zip(*columns.values(), strict=True)),
    ]
    (tmp_path / "p.csv").write_text("\n".join(rows) + "\n")
    plan = make_plan(tilted, energies=FromFile(path=tmp_path / "p.csv"))
    assert plan.n == 20
    generate(tilted, plan, tmp_path / "out")
    with ShardReader(tmp_path / "out" / plan.shard(0).path) as reader:
        found = reader.showers()
    np.testing.assert_allclose(found.incident_energies, energies, rtol=1e-12)
    for name, values in expected.items():
        np.testing.assert_allclose(found.conditions[name], values, rtol=1e-12)


def test_directions_of_a_file_are_checked(tilted: Any, tmp_path: Path) -> None:
    particle_file(tmp_path / "p.hdf5")
    with h5py.File(tmp_path / "p.hdf5", "r+") as file:
        file["incident_directions"][4] = [0.1, 0, 0.7]
    with pytest.raises(ConfigError, match="direction in row 4 has length"):
        make_plan(tilted, energies=FromFile(path=tmp_path / "p.hdf5"))


def test_showers_do_not_depend_on_the_layout_and_ids_make_them_again(
    tilted: Any, tmp_path: Path, read_all: Any
) -> None:
    request: dict[str, Any] = {
        "n": 30,
        "seed": 7,
        "conditions": asked(),
        "energies": LogUniform(min=1e3, max=5e4),
    }
    whole = []
    for blocks in (1, 3):
        plan = make_plan(tilted, **request, blocks_per_shard=blocks)
        manifest = generate(tilted, plan, tmp_path / str(blocks))
        whole.append((manifest.created["content_digest"], plan))
    assert whole[0][0] == whole[1][0]
    chosen = make_plan(tilted, **request, ids=[3, 17, 29])
    generate(tilted, chosen, tmp_path / "ids")
    with ShardReader(tmp_path / "ids" / chosen.shard(0).path) as reader:
        few = reader.showers()
    every = []
    for entry in generate(tilted, whole[1][1], tmp_path / "3").shards:
        with ShardReader(tmp_path / "3" / entry.path) as reader:
            every.append(reader.showers())
    all_showers = type(few).concatenate(every).select(np.array([3, 17, 29]))
    np.testing.assert_array_equal(few.voxels, all_showers.voxels)
    for name, values in all_showers.conditions.items():
        np.testing.assert_array_equal(few.conditions[name], values)
    assert not np.array_equal(few.voxels[:, 0], few.voxels[:, 1])


def test_listed_conditions_go_with_listed_energies(tilted: Any, tmp_path: Path) -> None:
    listed = [ListedCondition(name="age", values=(1.0, 1.5)), Angles(theta=(0, 0))]
    plan = make_plan(tilted, energies=Listed(values=(2e3, 3e3)), conditions=listed)
    generate(tilted, plan, tmp_path / "out")
    with ShardReader(tmp_path / "out" / plan.shard(0).path) as reader:
        found = reader.showers().conditions
    assert found["age"].tolist() == [1.0, 1.5]
    assert found["direction_z"].tolist() == [1.0, 1.0]


def test_part_of_a_direction_is_enough_for_a_model_with_part_of_it(stub: Any) -> None:
    model = stub.StubModel()
    model.conditions = (BEAM[2],)
    assert make_plan(model, 5, conditions=parse_conditions([], "10:20")).n == 5
    assert make_plan(model, 5, conditions=[UniformCondition(name="direction_z", min=0.8, max=1)]).n == 5


def test_the_command_of_an_error_makes_the_same_showers(
    stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Energies are drawn, conditions are listed and start again."""
    import caloray.bundle

    class Tilted(stub.StubModel):  # type: ignore[misc]
        conditions = (*BEAM, AGE)

        @staticmethod
        def load(*_: object) -> Any:
            return Tilted()

    monkeypatch.setattr(caloray.bundle, "Bundle", Tilted)
    monkeypatch.chdir(tmp_path)
    plan = make_plan(Tilted(), 20, 7, conditions=asked("age=1.1,1.2,1.9", repeat=True))
    generate(Tilted(), plan, tmp_path / "out")
    words = shlex.split(plan.command([4, 17]))
    assert "--repeat-energies" in words
    assert main(words[1:]) == 0
    with ShardReader(tmp_path / "repro" / plan.shard(0).path) as reader:
        found = reader.showers()
    with ShardReader(tmp_path / "out" / plan.shard(0).path) as reader:
        expected = reader.showers().select(np.array([4, 17]))
    assert found.conditions["age"].tolist() == [1.2, 1.9]
    np.testing.assert_array_equal(found.voxels, expected.voxels)


def test_the_command_line_draws_directions(
    stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import caloray.bundle

    class Tilted(stub.StubModel):
        conditions = (*BEAM, AGE)

        @staticmethod
        def load(*_: object) -> Any:
            return Tilted()

    monkeypatch.setattr(caloray.bundle, "Bundle", Tilted)
    words = ["generate", "b", "-n", "20", "--theta", "5:45", "--condition", "age=1.5"]
    assert main([*words, "-o", str(tmp_path / "out"), "--hdf5", str(tmp_path / "o.hdf5")]) == 0
    with h5py.File(tmp_path / "o.hdf5") as file:
        theta = np.rad2deg(np.arccos(file["incident_directions"][:, 2]))
        assert (file["incident_age"][:] == 1.5).all()
    assert theta.min() >= 5 - 1e-9
    assert theta.max() <= 45 + 1e-9
    capsys.readouterr()
    assert main([*words, "-o", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert "conditions        age 1.5; theta 5 to 45, phi 0 to 360 degrees\n" in capsys.readouterr().out
    assert main(["generate", "b", "-n", "5", "-o", str(tmp_path / "x")]) != 0
    told = capsys.readouterr().err
    assert "needs a value of direction_x" in told
    assert "--theta" in told
