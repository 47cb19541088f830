"""What a campaign would do: hours still to come, from what was timed, for these data and this budget."""

from __future__ import annotations

import json

import pytest

from caloray.errors import StorageError
from caloray.tuning.director import Director
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.outlook import look_ahead
from caloray.tuning.resolve import identity

LR = "training.next_layer.schedule.max_lr"
LOCAL = {"trial": {"concurrent": 1}}


@pytest.fixture
def timed(tmp_path):
    """An earlier training of the run config: 3.6 seconds an epoch."""
    folder = tmp_path / "trained" / "components" / "next_layer"
    folder.mkdir(parents=True)
    lines = [json.dumps({"epoch": epoch, "seconds": 3.6}) for epoch in range(3)]
    (folder / "history.jsonl").write_text("\n".join(lines))
    return {"run": {"output": str(tmp_path / "trained")}}


def test_hours_add_up_search_baseline_and_repetitions(load, timed):
    found = look_ahead(load(**timed, **LOCAL))
    assert (found.trials, found.repeats, found.confirmations) == (6, 7, 6)
    assert found.total_epochs == 13 * 18
    assert found.hours == pytest.approx(13 * 18 * 3.6 / 3600)


def test_the_hours_of_the_budget_end_the_search_but_not_the_repetitions(load, timed):
    found = look_ahead(load(**timed, **LOCAL, budget={"trials": 60, "hours": 0.05}))
    assert found.hours == pytest.approx(0.05 + 6 * 18 * 3.6 / 3600)
    endless = look_ahead(load(**timed, **LOCAL, budget={"hours": 0.05}))
    assert endless.hours == pytest.approx(found.hours)


def test_other_data_take_other_hours(load, timed):
    run = timed["run"] | {"data.files": [f"{i}.hdf5" for i in range(7)]}
    whole = look_ahead(load(run=run, **LOCAL))
    part = look_ahead(load(run=run, **LOCAL, set={"data.files": ["0.hdf5"]}))
    assert part.hours == pytest.approx(whole.hours / 7)
    assert "times 0.143 for other files and splits" in part.basis


def test_what_an_epoch_costs_besides_is_told(load, timed):
    plain = look_ahead(load(**timed, **LOCAL))
    assert plain.basis.endswith(", without measuring")
    space = {LR: {"log_uniform": [1e-4, 1e-2]}, "scheme.flows.next_layer.hidden": {"choice": [16, 32]}}
    other = look_ahead(load(**timed, **LOCAL, space=space, set={"training.next_layer.batch": 50}))
    assert other.basis.endswith(", without measuring, as if batch, hidden did not matter")


def test_what_has_ended_is_not_to_come(load, timed):
    settings = load(**timed, **LOCAL)
    ledger = Ledger(settings.output)
    director = Director(settings, ledger, "data")
    for _ in range(3):
        trial = director.next()
        assert isinstance(trial, Trial)
        result = TrialResult(trial.number, "complete", {"nll_bits_per_dim": 1.0}, seconds=36.0)
        ledger.finish(result)
        director.ended(trial.number)
    found = look_ahead(settings)
    assert (found.ended, found.done) == (3, (54, 0))
    assert found.hours == pytest.approx(10 * 18 * 2.0 / 3600)


def test_a_population_has_as_many_trials_as_members_and_generations(load):
    found = look_ahead(
        load(
            fidelity={"kind": "pbt", "population": 4, "interval": 6},
            set={"training.next_layer.schedule": {"kind": "constant"}},
            space={"training.next_layer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
            budget={"trials": 12},
        )
    )
    assert found.rungs == ((6, 4, 24), (12, 4, 24), (18, 4, 24))


def test_the_output_of_another_campaign_is_no_basis(load):
    settings = load()
    ledger = Ledger(settings.output)
    ledger.claim(identity(settings, "data"))
    ledger.add(Trial(0, "baseline", {}, 1, {"next_layer": 18}, "d"))
    assert look_ahead(settings).ended == 0
    with pytest.raises(StorageError, match="holds the trials of another campaign; seed: it has 1, here 2"):
        look_ahead(load(seed=2))
