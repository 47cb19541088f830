"""What a campaign could be misled by: objectives without a bound, equal rungs, metrics of two models."""

from __future__ import annotations

from typing import Any

import pytest

from caloray.errors import ConfigError, StorageError
from caloray.tuning.ledger import Ledger, Trial
from caloray.tuning.searchers import GridPoints
from caloray.tuning.space import Parameter

BINS = {"scheme.flows.next_layer.spline.bins": {"int": [4, 8]}}
SHARE = {"scheme.voxel_space": "share"}


def test_shares_of_a_layer_have_no_likelihood(load: Any) -> None:
    with pytest.raises(ConfigError, match="objective: nll has no bound for next_layer, which sees shares"):
        load(run=SHARE, space=BINS)
    assert load(run=SHARE, space=BINS, objective={"kind": "ms_per_shower"}).objective_names
    assert load(run=SHARE, space=BINS, set={"scheme.voxel_space": "log"}).objective_names
    energies = {
        "components": ["layer_energies"],
        "space": {"training.layer_energies.batch": {"int": [9, 99]}},
    }
    assert load(run=SHARE, **energies).components == ("layer_energies",), "those are no shares"


def test_metrics_are_of_one_model(load: Any, tmp_path: Any) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    metrics = [
        {"kind": "metric", "name": name, "bundle": str(tmp_path / bundle)}
        for name, bundle in (("fpd", "one"), ("kpd", "other"))
    ]
    with pytest.raises(
        ConfigError, match=r"objective: metrics of one model, but the bundles .*one and .*other"
    ):
        load(objective=metrics)
    assert load(objective=[metrics[0], metrics[1] | {"bundle": metrics[0]["bundle"]}]).metrics


def test_rungs_that_round_to_the_same(load: Any) -> None:
    halving = {"kind": "halving", "min_epochs": 6, "factor": 3}
    few = {"training.next_layer.epochs": {"int": [1, 18]}}
    with pytest.raises(
        ConfigError, match=r"epochs: of 1 epochs the rungs are 1, 1, so that a promotion would"
    ):
        load(space=few, fidelity=halving)
    assert load(space={"training.next_layer.epochs": {"int": [2, 18]}}, fidelity=halving).space


def test_a_rate_counts_beside_a_schedule_that_has_none(load: Any) -> None:
    rate = {"training.next_layer.learning_rate": {"log_uniform": [1e-4, 1e-2]}}
    with pytest.raises(ConfigError, match="the schedule onecycle has a rate of its own"):
        load(space=rate)
    both = {"choice": [{"kind": "onecycle"}, {"kind": "constant"}]}
    assert load(space=rate | {"training.next_layer.schedule": both}).space


def test_a_grid_does_not_depend_on_the_order_of_its_fields() -> None:
    """A campaign whose file was sorted in between goes on with the points that are left."""
    space = {name: Parameter.model_validate({"int": [1, 3]}) for name in ("b", "a")}
    done: list[Trial] = []
    for number in range(9):
        order = ("b", "a") if number < 4 else ("a", "b")
        found = GridPoints({name: space[name] for name in order}).suggest(number, done, {})
        assert found is not None
        done.append(Trial(number, "search", found, 1, {"c": 1}, "d"))
    assert {(t.assignment["a"], t.assignment["b"]) for t in done} == {
        (a, b) for a in (1, 2, 3) for b in (1, 2, 3)
    }


def test_a_campaign_that_never_began_holds_no_directory(tmp_path: Any) -> None:
    ledger = Ledger(tmp_path / "tuned")
    ledger.claim({"seed": 1})
    ledger.claim({"seed": 2})
    ledger.add(Trial(0, "search", {}, 1, {"c": 1}, "d"))
    assert ledger.is_of({"seed": 2})
    with pytest.raises(StorageError, match="seed: it has 2, here 3"):
        ledger.claim({"seed": 3})
