"""Summaries of made-up ledgers: what is best, what is noise, what was spent, and a config that trains."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from caloray.config import load_config
from caloray.report.tuning_view import Campaign
from caloray.tuning.confirmation import difference, mean_error
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.limits import Spent
from caloray.tuning.repetitions import no_bundle
from caloray.tuning.resolve import base_run, run_of
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
    wanted = run_of(settings, base_run(settings), best["assignment"])
    assert found.scheme == wanted.scheme
    assert found.training_of("next_layer") == wanted.training_of("next_layer")
    assert found.data.files == tuple(path.absolute() for path in wanted.data.files)
    assert found.output == settings.output / "best" / "run"
    assert found.name == "toy-best"
    assert summary.best_yaml.startswith(f"# The best settings of the campaign toy: trial {best['number']}, ")
    assert yaml.safe_load(summary.best_yaml)["scheme"]["kind"] == "inductive"


def test_repetitions_are_compared_seed_by_seed_and_with_welch(campaign):
    _, summary = campaign
    best, baseline = summary.data["confirm"]["groups"]
    assert (best["label"], baseline["label"]) == (f"trial {summary.data['best']}", "baseline")
    assert summary.data["chosen"] == summary.data["best"]
    assert not summary.data["confirm"]["refuted"]
    assert best["seeds"] == baseline["seeds"] == [2, 3, 4]
    one, other = (group["objectives"][NLL]["values"] for group in (best, baseline))
    found = best["objectives"][NLL]["difference"]
    test = stats.ttest_ind(one, other, equal_var=False)
    assert found["p"] == pytest.approx(test.pvalue)
    assert found["value"] == pytest.approx(np.mean(one) - np.mean(other))
    assert found["paired"][0] == pytest.approx(np.mean(np.subtract(one, other)))
    assert found["paired"][1] == pytest.approx(stats.sem(np.subtract(one, other)))
    assert found["words"].startswith("The gain is told from noise")
    assert found["told"]
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
    for i, (whole, epochs) in enumerate([(30, 3), (46, 5), (30, 30)]):
        assignment = {"training.next_layer.epochs": whole}
        ledger.add(Trial(i, "search", assignment, 1, {"next_layer": epochs}, "d", rung=2 * (i == 2)))
        ledger.finish(TrialResult(i, "complete", {NLL: 1.0}))
    data = summarise(settings).data
    rows = data["trials"]
    assert [row["level"] for row in rows] == ["10 % of the epochs"] * 2 + ["all epochs"]
    assert [row["full"] for row in rows] == [False, False, True]
    campaign = Campaign(data)
    assert campaign.levels == ["10 % of the epochs", "all epochs"]
    assert [campaign.filled(level) for level in campaign.levels] == [False, True]


def repeated(made_up, folder: Path, **changes: Any) -> Any:
    """Two searched trials, and repetitions of both and of the baseline on the test split."""
    settings = made_up.settings_of(folder / "out", fidelity={"kind": "whole"}, **changes)
    ledger, epochs = Ledger(settings.output), {"next_layer": 40}
    assignments = [{name: one.at(share) for name, one in settings.space.items()} for share in (0.3, 0.6)]
    for i, (assignment, value) in enumerate(zip(assignments, (1.0, 0.9), strict=True)):
        ledger.add(Trial(i, "search", assignment, 1, epochs, "d"))
        ledger.finish(TrialResult(i, "complete", {NLL: value}))
    return settings, ledger, assignments


def repeat(ledger: Ledger, assignment: dict[str, Any], values: list[float], **other: Any) -> None:
    for seed, value in enumerate(values, start=2):
        number = len(ledger.trials())
        fields = {"epochs": {"next_layer": 40}, "split": "test"} | other
        ledger.add(Trial(number, "confirm", assignment, seed, digest="d", **fields))
        ledger.finish(TrialResult(number, "complete", {NLL: value}))


def test_settings_that_the_repetitions_refute_say_so_themselves(made_up, tmp_path):
    settings, ledger, (_, best) = repeated(made_up, tmp_path)
    repeat(ledger, best, [1.20, 1.21, 1.22])
    repeat(ledger, {}, [1.00, 1.01, 1.02])
    summary = summarise(settings)
    assert summary.data["confirm"]["refuted"]
    (remark,) = summary.data["remarks"]
    assert remark.startswith("DO NOT USE: the repetitions say that the run config itself is better")
    assert f"# {remark}\n" in summary.best_yaml
    repeat(ledger, {}, [0.1] * 3, split="validation")
    assert summarise(settings).data["confirm"] == summary.data["confirm"], "another split does not count"


def test_only_the_first_objective_or_all_of_them_refute(made_up, tmp_path):
    """2 % more time, for certain, does not refute a likelihood that is lower, if not for certain."""
    both = [{"kind": "nll"}, {"kind": "ms_per_shower"}]

    def refuted(name: str, nll: list[float], times: list[float]) -> bool:
        settings = made_up.settings_of(tmp_path / name, fidelity={"kind": "whole"}, objective=both)
        ledger, fields = Ledger(settings.output), {"epochs": {"next_layer": 40}, "split": "test"}
        found = {name: one.at(0.5) for name, one in settings.space.items()}
        ledger.add(Trial(0, "search", found, 1, {"next_layer": 40}, "d"))
        ledger.finish(TrialResult(0, "complete", {NLL: 0.9, "ms_per_shower": 1.0}))
        for seed in (2, 3, 4):
            for assignment, value in (
                (found, (nll[seed - 2], times[seed - 2])),
                ({}, (seed / 100, 1 + seed / 1e4)),
            ):
                number = len(ledger.trials())
                ledger.add(Trial(number, "confirm", assignment, seed, digest="d", **fields))
                ledger.finish(
                    TrialResult(number, "complete", dict(zip((NLL, "ms_per_shower"), value, strict=True)))
                )
        return bool(summarise(settings).data["confirm"]["refuted"])

    slower, faster = [1.02, 1.021, 1.019], [0.5, 0.501, 0.499]
    assert not refuted("lower", [-0.01, 0.01, 0.03], slower)
    assert refuted("higher", [0.03, 0.05, 0.04], slower)
    assert refuted("worse", [0.5, 0.51, 0.52], [1.0, 1.0, 1.001])
    assert not refuted("trade-off", [0.5, 0.51, 0.52], faster)


def test_what_is_not_known_is_said_on_page_terminal_and_run_config(made_up, tmp_path):
    settings = made_up.settings_of(tmp_path / "out", budget={"trials": 9, "hours": 0.5}, confirm=None)
    ledger, fields = Ledger(settings.output), {"seed": 1, "epochs": {"next_layer": 40}, "digest": "d"}
    ledger.add(Trial(0, "baseline", {}, **fields))
    ledger.finish(TrialResult(0, "complete", {NLL: 1.0}))
    found = {name: one.at(0.5) for name, one in settings.space.items()}
    ledger.add(Trial(1, "search", found, rung=2, **fields))
    ledger.finish(TrialResult(1, "complete", {NLL: 1.1}))
    ledger.add(Trial(2, "search", found, **fields | {"epochs": {"next_layer": 4}}))
    Spent(attempts=2, seconds=60.0, cpu_seconds=50.0).write(ledger.folder(2))
    ledger.note_session("a", 1700.0)
    summary = summarise(settings)
    assert summary.data["unbeaten"]
    assert no_bundle(summary.data) == "the run config itself was at least as good, and nothing was repeated"
    unbeaten, alone = summary.data["remarks"]
    assert unbeaten.startswith("The run config itself, trained once, was at least as good")
    assert alone.startswith("Nothing was repeated")
    assert f"# {unbeaten}\n# {alone}\n" in summary.best_yaml
    assert "reason" not in summary.data["trials"][2], "it may still be at work"
    ledger.note_session("a", 1800.0)
    again = summarise(settings).data
    assert "1 of its trials was not finished" in again["remarks"][1]
    assert again["trials"][2]["reason"].startswith("the hours of the budget were over")
    assert (again["trials"][2]["attempts"], again["trials"][2]["cpu_seconds"]) == (2, 50.0)
    wanted = made_up.settings_of(
        tmp_path / "out", budget={"trials": 9}, confirm={"seeds": 3, "split": "test"}
    )
    repeat(ledger, {}, [1.0, 1.01])
    data = summarise(wanted).data
    assert data["remarks"][-1].startswith("The best settings and the baseline have not both been repeated")
    assert no_bundle(data)
    repeat(ledger, found, [0.9, 0.91])
    assert summarise(wanted).data["remarks"] == [unbeaten]
    assert not no_bundle(summarise(wanted).data), "the repetitions say more than one training each"


def test_a_best_at_the_end_of_its_range_is_told(made_up, tmp_path):
    """Of the logarithmic and the whole ranges too; a middle says nothing, a choice has no end."""

    def remarks(name: str, share: float) -> list[str]:
        settings = made_up.settings_of(tmp_path / f"{name}-{share}", fidelity={"kind": "whole"})
        found = {key: one.at(0.5) for key, one in settings.space.items()}
        found[name] = settings.space[name].at(share)
        ledger = Ledger(settings.output)
        ledger.add(Trial(0, "search", found, 1, {"next_layer": 40}, "d"))
        ledger.finish(TrialResult(0, "complete", {NLL: 1.0}))
        return [text for text in summarise(settings).data["remarks"] if "end of the searched range" in text]

    for name in ("training.next_layer.schedule.max_lr", "scheme.flows.next_layer.spline.bins"):
        assert not remarks(name, 0.5)
        for share in (0.0, 0.01, 0.99):
            assert name in remarks(name, share)[0]
    assert not remarks("training.next_layer.optimizer", 0.0)


def test_of_several_repeated_settings_the_lowest_mean_is_taken(made_up, tmp_path):
    settings, ledger, (second, first) = repeated(made_up, tmp_path, confirm={"seeds": 3, "top": 2})
    repeat(ledger, second, [0.80, 0.81, 0.82])
    repeat(ledger, first, [0.90, 0.91, 0.92])
    repeat(ledger, {}, [1.00, 1.01, 1.02])
    summary = summarise(settings).data
    assert [group["label"] for group in summary["confirm"]["groups"]] == ["trial 1", "trial 0", "baseline"]
    assert (summary["best"], summary["chosen"]) == (1, 0)
    assert "the test split has helped to select" in summary["best_yaml"]
    assert summary["best_yaml"].startswith("# The best settings of the campaign toy: trial 0, ")


def test_another_length_of_training_is_told(made_up, tmp_path):
    settings, ledger, (_, best) = repeated(made_up, tmp_path)
    repeat(ledger, best, [0.80, 0.81, 0.82], epochs={"next_layer": 80})
    repeat(ledger, {}, [1.00, 1.01, 1.02])
    (remark,) = summarise(settings).data["confirm"]["remarks"]
    assert remark.startswith("Trial 1 trains 80 epochs, the baseline 40: ")


def test_a_short_trial_does_not_speak_for_the_full_budget(made_up, tmp_path):
    settings = made_up.settings_of(tmp_path / "out")
    ledger = Ledger(settings.output)
    assignment = {name: one.at(0.5) for name, one in settings.space.items()}
    ledger.add(Trial(0, "search", assignment, 1, {"next_layer": 4}, "d"))
    ledger.finish(TrialResult(0, "complete", {NLL: 1.0}))
    assert "measured after a training of 4 epochs;" in summarise(settings).best_yaml


def test_the_address_of_the_tracking_server_stays_out(made_up, tmp_path):
    """Neither the record nor the run config holds what opens the server."""
    settings = made_up.settings_of(tmp_path / "out")
    base = yaml.safe_load(settings.config.read_text())
    base["tracking"] = {"uri": "https://physicist:geheim@host/x"}
    path = tmp_path / "secret.yaml"
    path.write_text(yaml.safe_dump(base))
    made_up.fill(settings)
    summary = summarise(settings.model_copy(update={"config": path}))
    assert summary.best_yaml
    assert "geheim" not in json.dumps(summary.data)
    assert "physicist" not in json.dumps(summary.data)


def test_gpu_hours_keep_the_price_that_they_had(made_up, tmp_path):
    settings = made_up.settings_of(tmp_path / "out", trial={"gpus": 1.0})
    ledger = Ledger(settings.output)
    for i in range(3):
        ledger.add(Trial(i, "search", {}, 1, {"next_layer": 4}, "d"))
    ledger.finish(TrialResult(0, "complete", {NLL: 1.0}, seconds=3600.0, gpu_seconds=900.0))
    ledger.finish(TrialResult(1, "complete", {NLL: 1.0}, seconds=3600.0))
    Spent(attempts=1, seconds=1800.0).write(ledger.folder(2))
    assert summarise(settings).data["budget"]["gpu_hours"]["used"] == pytest.approx(0.25 + 1 + 0.5)
