from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.errors import ConfigError
from caloray.generation.energies import FromFile, Listed, LogUniform, Uniform
from caloray.generation.plan import GenerationPlan, make_plan


def test_shards_cover_every_event_once(model: Any) -> None:
    for n, k in ((1, 1), (8, 1), (9, 1), (100, 3), (64, 8)):
        plan = make_plan(model, n, blocks_per_shard=k)
        shards = [plan.shard(index) for index in range(plan.n_shards)]
        blocks = [block for shard in shards for block in shard.blocks]
        ids = np.concatenate([plan.kept(block) for block in blocks])
        np.testing.assert_array_equal(ids, np.arange(n))
        assert sum(shard.rows for shard in shards) == plan.rows == n
        assert len({shard.path for shard in shards}) == plan.n_shards


def test_chosen_ids_need_only_their_blocks(model: Any) -> None:
    plan = make_plan(model, 100, ids=[70, 12, 71, 12])
    assert plan.ids == (12, 70, 71)
    assert list(plan.blocks) == [1, 8]
    assert plan.rows == 3
    assert make_plan(model, ids=[70]).n == 71


@pytest.mark.parametrize(
    "change",
    [
        {"n": 101},
        {"seed": 8},
        {"energies": Uniform(min=1e3, max=5e4)},
        {"energies": LogUniform(min=1e3, max=4e4)},
        {"blocks_per_shard": 3},
        {"on_invalid": "resample"},
        {"allow_extrapolation": True},
        {"ids": [1, 2]},
    ],
)
def test_the_digest_covers_the_whole_request(model: Any, change: dict[str, Any]) -> None:
    request: dict[str, Any] = {"n": 100, "seed": 7, "blocks_per_shard": 2}
    assert make_plan(model, **request).digest == make_plan(model, **request).digest
    assert make_plan(model, **request).digest != make_plan(model, **{**request, **change}).digest


def test_another_bundle_is_another_plan_but_another_path_is_not(stub: Any) -> None:
    one, other = stub.StubModel(), stub.StubModel()
    assert make_plan(one, 9, bundle="a").digest == make_plan(other, 9, bundle="b").digest
    other.digest = "c" * 64
    assert make_plan(one, 9).digest != make_plan(other, 9).digest


def test_a_renamed_energy_file_is_the_same_plan(model: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full(5, 2e3))
    (tmp_path / "b.npy").write_bytes((tmp_path / "a.npy").read_bytes())
    plans = [make_plan(model, energies=FromFile(path=tmp_path / name)) for name in ("a.npy", "b.npy")]
    assert plans[0].n == 5
    assert plans[0].digest == plans[1].digest


def test_plans_travel(model: Any) -> None:
    plan = make_plan(model, 100, 2**64 - 1, energies=Listed(values=(2e3, 3e3), repeat=True), ids=[3])
    for copy in (
        GenerationPlan.model_validate_json(plan.model_dump_json()),
        pickle.loads(pickle.dumps(plan)),
    ):
        assert copy.digest == plan.digest
        assert copy == plan


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "how many"),
        ({"n": 0}, "n:"),
        ({"n": 5, "seed": -1}, "seed"),
        ({"n": 5, "ids": [5]}, "id 5 does not exist"),
        ({"n": 5, "ids": [-1]}, "ids"),
        ({"n": 5, "energies": Listed(values=(2e3, 3e3))}, "5 showers from 2"),
        ({"n": 1, "energies": Listed(values=(2e3, 3e3))}, "1 showers from 2"),
        ({"n": 5, "blocks_per_shard": -1}, "blocks_per_shard"),
    ],
)
def test_requests_that_make_no_sense(model: Any, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(model, **request_)


def test_a_file_may_be_longer_than_the_request_but_not_shorter(model: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.full(5, 2e3))
    spec = FromFile(path=tmp_path / "e.npy")
    assert make_plan(model, 3, energies=spec).n == 3
    with pytest.raises(ConfigError, match="6 showers from 5"):
        make_plan(model, 6, energies=spec)
    assert make_plan(model, 6, energies=spec.model_copy(update={"repeat": True})).n == 6


def test_an_empty_choice_of_ids_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError):
        make_plan(model, 5, ids=[])


def test_the_reproducing_command_spells_the_request(model: Any) -> None:
    plan = make_plan(
        model,
        90,
        5,
        energies=Listed(values=(2e3, 3e3), repeat=True),
        on_invalid="resample",
        bundle="runs/my model",
    )
    command = plan.command([12, 13])
    assert command.startswith("caloray generate 'runs/my model' -n 90 --seed 5 --energies 2000.0,3000.0 ")
    assert "--on-invalid resample --repeat-energies --ids 12,13 -o" in command
