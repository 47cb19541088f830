"""Summaries of made-up ledgers: what is best, what is noise, what was spent, and a config that trains."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import yaml
from scipy import stats

from caloray.config import load_config
from caloray.tuning.confirmation import difference, mean_error
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.resolve import run_of
from caloray.tuning.summary import summarise

NLL = "nll_bits_per_dim"


@pytest.fixture(scope="module")
def campaign(made_up, tmp_path_factory):
    """Settings and summary of a campaign with everything in it."""
    settings = made_up.settings_of(tmp_path_factory.mktemp("campaign") / "out")
    made_up.fill(settings)
    return settings, summarise(settings)


def test_it_is_plain_json(campaign, tmp_path):
    _, summary = campaign
    assert json.loads(summary.save(tmp_path / "summary.json").read_text()) == summary.to_dict()


def test_every_trial_is_there(campaign):
    settings, summary = campaign
    ledger = Ledger(settings.output)
    rows = summary.data["trials"]
    assert [row["number"] for row in rows] == [trial.number for trial in ledger.trials()]
    assert {row["status"] for row in rows} == {"complete", "pruned", "stopped", "open"}
    assert {row["level"] for row in rows} == {"4 epochs", "13 epochs", "40 epochs"}
    assert all(row["full"] == (row["epochs"]["next_layer"] == 40) for row in rows)


def test_the_best_is_the_lowest_of_the_full_budget(campaign):
    _, summary = campaign
    rows = [
        row for row in summary.data["trials"] if row["kind"] == "search" and row["full"] and row["values"]
    ]
    lowest = min(rows, key=lambda row: row["values"][NLL])
    assert summary.data["best"] == lowest["number"]
    assert summary.data["baseline"] == 0


def test_history_only_falls_and_ends_at_the_best(campaign):
    _, summary = campaign
    history = summary.data["history"]
    best = [value for value in history["best"][NLL] if value is not None]
    assert all(after <= before for before, after in itertools.pairwise(best))
    found = {row["number"]: row for row in summary.data["trials"]}
    everything = [found[i]["values"][NLL] for i in (summary.data["best"], summary.data["baseline"])]
    assert best[-1] == min(everything)
    spent = sum(row.get("cpu_seconds", 0) for row in summary.data["trials"]) / 3600
    assert history["cpu_hours"][-1] == pytest.approx(spent)
    assert summary.data["budget"]["cpu_hours"] == pytest.approx(spent)


def test_importance_is_that_of_the_budget_with_most_trials(campaign):
    _, summary = campaign
    found = summary.data["importance"][NLL]
    assert found["level"] == "4 epochs"
    assert found["trials"] == 22
    assert found["shares"][0]["parameter"] == "training.next_layer.schedule.max_lr"
    assert found["shares"][0]["share"] > 0.8
    assert "fewer than 3 per parameter" in found["remark"]


def test_budget(campaign):
    _, summary = campaign
    budget = summary.data["budget"]
    assert budget["trials"] == {"limit": 24, "used": 24}
    assert budget["hours"] == {"limit": 1.0, "used": pytest.approx(3000 / 3600)}
    assert budget["gpu_hours"]["used"] == 0


def test_parameters_carry_the_baselines_values(campaign):
    _, summary = campaign
    known = {one["name"]: one["baseline"] for one in summary.data["parameters"]}
    assert known["training.next_layer.schedule.max_lr"] == 2e-3
    assert known["training.next_layer.schedule.div"] == 25.0
    assert known["scheme.flows.next_layer.spline.bins"] == 8
    assert known["training.next_layer.optimizer"] == "adam"


def test_the_best_config_trains_what_was_best(campaign, tmp_path):
    settings, summary = campaign
    (tmp_path / "best.yaml").write_text(summary.best_yaml)
    found = load_config(tmp_path / "best.yaml")
    best = next(row for row in summary.data["trials"] if row["number"] == summary.data["best"])
    wanted = run_of(settings, best["assignment"])
    assert found.scheme == wanted.scheme
    assert found.training_of("next_layer") == wanted.training_of("next_layer")
    assert found.data == wanted.data
    assert found.output == settings.output / "best" / "run"
    assert found.name == "toy-best"
    assert summary.best_yaml.startswith(f"# The best settings of the campaign toy: trial {best['number']}, ")
    assert yaml.safe_load(summary.best_yaml)["scheme"]["kind"] == "inductive"


def test_repetitions_are_compared_seed_by_seed_and_with_welch(campaign):
    _, summary = campaign
    best, baseline = summary.data["confirm"]["groups"]
    assert (best["label"], baseline["label"]) == ("best", "baseline")
    assert best["seeds"] == baseline["seeds"] == [1, 2, 3]
    one, other = (group["objectives"][NLL]["values"] for group in (best, baseline))
    found = best["objectives"][NLL]["difference"]
    test = stats.ttest_ind(one, other, equal_var=False)
    assert found["p"] == pytest.approx(test.pvalue)
    assert found["value"] == pytest.approx(np.mean(one) - np.mean(other))
    assert found["paired"][0] == pytest.approx(np.mean(np.subtract(one, other)))
    assert found["paired"][1] == pytest.approx(stats.sem(np.subtract(one, other)))
    assert found["words"].startswith("The gain is told from noise")
    assert baseline["objectives"][NLL]["difference"] is None


def test_welchs_test_by_hand():
    """Welch 1947: t = (a - b) / sqrt(s_a^2 / n_a + s_b^2 / n_b), p from Student's distribution."""
    a, b = {1: 0.90, 2: 0.94, 3: 0.91, 4: 0.97}, {1: 1.00, 2: 1.05, 3: 1.01}
    found = difference(a, b)
    va, vb = (np.var(list(x.values()), ddof=1) / len(x) for x in (a, b))
    t = (np.mean(list(a.values())) - np.mean(list(b.values()))) / math.sqrt(va + vb)
    dof = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    assert found.t == pytest.approx(t)
    assert found.dof == pytest.approx(dof)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), dof))
    assert found.error == pytest.approx(math.sqrt(va + vb))
    assert found.paired is not None
    assert found.paired[2] == 3


@pytest.mark.parametrize(
    ("best", "baseline", "words"),
    [
        ([1.0, 1.1, 0.9], [1.02, 1.12, 0.95], "Not told from noise"),
        ([0.90, 0.91, 0.92], [1.0, 1.01, 1.02], "The gain is told from noise"),
        ([1.0, 1.01, 1.02], [0.90, 0.91, 0.92], "worse than the baseline"),
        ([1.0], [1.1, 1.2], "One repetition on a side"),
        ([1.0, 1.0], [1.1, 1.1], "do not scatter at all"),
    ],
)
def test_words(best, baseline, words):
    one, other = (dict(enumerate(values)) for values in (best, baseline))
    assert words in difference(one, other).words


def test_several_comparisons_need_a_smaller_probability():
    one, other = dict(enumerate([0.95, 0.97, 0.99])), dict(enumerate([1.0, 1.02, 1.04]))
    alone = difference(one, other)
    assert 0.01 < alone.p < 0.05
    assert "told from noise:" in alone.words
    assert "Not told" in difference(one, other, compared=5).words


def test_mean_and_standard_error():
    values = [1.0, 2.0, 4.0, 4.5]
    assert mean_error(values) == (pytest.approx(np.mean(values)), pytest.approx(stats.sem(values)))
    assert mean_error([3.0]) == (3.0, None)


def test_the_pareto_front_is_that_of_brute_force(made_up, tmp_path):
    settings = made_up.settings_of(
        tmp_path / "out", objective=[{"kind": "nll"}, {"kind": "ms_per_shower"}], fidelity={"kind": "whole"}
    )
    ledger, rng = Ledger(settings.output), np.random.default_rng(2)
    points = rng.normal(size=(30, 2))
    for i, (nll, time) in enumerate(points):
        assignment = {name: one.draw(rng) for name, one in settings.space.items()}
        ledger.add(Trial(i, "search", assignment, 1, {"next_layer": 40}, "d"))
        ledger.finish(TrialResult(i, "complete", {NLL: float(nll), "ms_per_shower": float(time)}))

    def beaten(one):
        return any((other <= one).all() and (other < one).any() for other in points)

    kept = {i for i, one in enumerate(points) if not beaten(one)}
    summary = summarise(settings)
    assert set(summary.data["pareto"]) == kept
    assert summary.data["best"] in kept


def test_an_empty_campaign(made_up, tmp_path):
    summary = summarise(made_up.settings_of(tmp_path / "out"))
    assert summary.best_yaml == ""
    assert summary.data["best"] is None
    assert summary.data["trials"] == []
    assert summary.data["confirm"] is None
    assert "0 comparable trials" in summary.data["importance"][NLL]["remark"]


def test_searched_epochs_make_rungs_shares(made_up, tmp_path):
    space = {"training.next_layer.epochs": {"int": [20, 60]}}
    settings = made_up.settings_of(tmp_path / "out", space=space)
    ledger = Ledger(settings.output)
    for i, (whole, epochs) in enumerate([(30, 10), (45, 15), (30, 30)]):
        assignment = {"training.next_layer.epochs": whole}
        ledger.add(Trial(i, "search", assignment, 1, {"next_layer": epochs}, "d"))
        ledger.finish(TrialResult(i, "complete", {NLL: 1.0}))
    rows = summarise(settings).data["trials"]
    assert [row["level"] for row in rows] == ["1/3 of the epochs", "1/3 of the epochs", "all epochs"]
    assert [row["full"] for row in rows] == [False, False, True]
