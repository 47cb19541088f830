"""Searchers: pure functions of seed, number and ledger; the models find a minimum sooner than chance."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.tuning.bohb_search import Density, KernelDensities
from caloray.tuning.history import observations
from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.optuna_search import TreeParzen
from caloray.tuning.searchers import GridPoints, RandomDraws
from caloray.tuning.settings import BOHBSearch, OptunaSearch
from caloray.tuning.space import Parameter

SPACE = {
    "x": Parameter.model_validate({"uniform": [-2.0, 2.0]}),
    "rate": Parameter.model_validate({"log_uniform": [1e-5, 1e-1]}),
    "n": Parameter.model_validate({"int": [1, 9]}),
    "kind": Parameter.model_validate({"choice": ["a", "b", {"kind": "c"}, None]}),
}
NAME = ("loss",)


def loss(value: dict) -> float:
    return (
        (value["x"] - 0.7) ** 2
        + np.log10(value["rate"] / 1e-3) ** 2
        + ((value["n"] - 3) / 4) ** 2
        + 0.5 * (value["kind"] != "b")
    )


def trial(number: int, assignment: dict, rung: int = 0, parent: int | None = None) -> Trial:
    return Trial(number, "search", assignment, 1, {"c": 1}, "d", rung=rung, parent=parent)


def searcher(kind: str, seed: int = 1, names=NAME):
    if kind == "optuna":
        return TreeParzen(SPACE, seed, OptunaSearch(kind="optuna", startup=8), names)
    if kind == "bohb":
        return KernelDensities(SPACE, seed, BOHBSearch(kind="bohb"), names)
    return RandomDraws(SPACE, seed)


def campaign(found, count: int) -> tuple[list[Trial], dict[int, TrialResult]]:
    trials, results = [], {}
    for number in range(count):
        trials.append(trial(number, found.suggest(number, trials, results)))
        results[number] = TrialResult(number, "complete", {"loss": float(loss(trials[-1].assignment))})
    return trials, results


@pytest.mark.parametrize("kind", ["random", "optuna", "bohb"])
def test_a_suggestion_follows_from_seed_number_and_ledger(kind):
    trials, results = campaign(searcher(kind), 14)
    again = [searcher(kind).suggest(i, trials[:i], {n: results[n] for n in range(i)}) for i in range(14)]
    assert again == [one.assignment for one in trials]
    assert searcher(kind, seed=2).suggest(14, trials, results) != searcher(kind).suggest(14, trials, results)


def losses(kind: str, seed: int, count: int) -> list[float]:
    return [result.objectives["loss"] for result in campaign(searcher(kind, seed), count)[1].values()]


def test_optuna_finds_a_lower_minimum_than_chance_at_the_same_budget():
    best = {kind: np.mean([min(losses(kind, s, 40)) for s in range(8)]) for kind in ("optuna", "random")}
    assert best["optuna"] < 0.6 * best["random"]


def test_what_bohb_suggests_is_better_than_chance():
    later = {
        kind: np.mean([np.median(losses(kind, s, 60)[30:]) for s in range(6)]) for kind in ("bohb", "random")
    }
    assert later["bohb"] < 0.75 * later["random"]


@pytest.mark.parametrize("kind", ["optuna", "bohb"])
def test_trials_that_run_or_came_to_nothing_are_told(kind):
    trials, results = campaign(searcher(kind), 20)
    for number, status in ((3, "failed"), (4, "pruned"), (5, "stopped")):
        results[number] = TrialResult(number, status)
    del results[6], results[7]
    states = [one.state for one in observations(trials, results, NAME, 8)]
    assert [states[i] for i in range(3, 8)] == ["bad", "bad", "bad", "running", "running"]
    found = searcher(kind).suggest(20, trials, results)
    assert set(found) == set(SPACE)


@pytest.mark.parametrize("kind", ["optuna", "bohb"])
@pytest.mark.parametrize("status", ["stopped", "failed", "pruned"])
def test_settings_that_end_without_objectives_are_avoided(kind, status):
    """The loss falls towards the half of the range that comes to nothing; who ignores that ends up there."""
    found, trials, results = searcher(kind), [], {}
    for number in range(60):
        trials.append(trial(number, found.suggest(number, trials, results)))
        value = trials[-1].assignment
        done = TrialResult(number, "complete", {"loss": float(loss(value))})
        results[number] = TrialResult(number, status) if value["x"] > 0 else done
    assert sum(one.assignment["x"] > 0 for one in trials[20:]) < 18


@pytest.mark.parametrize("startup", [2, 30])
def test_several_objectives_are_minimised_together(startup):
    found = TreeParzen(SPACE, 1, OptunaSearch(kind="optuna", startup=startup), ("loss", "time"))
    trials, results = [], {}
    for number in range(12):
        trials.append(trial(number, found.suggest(number, trials, results)))
        values = {"loss": float(loss(trials[-1].assignment)), "time": float(trials[-1].assignment["n"])}
        results[number] = TrialResult(number, "complete", values)
        if number in {3, 6}:
            results[number] = TrialResult(number, "pruned" if number == 3 else "failed")
    assert len({str(one.assignment) for one in trials}) == 12


def test_the_model_is_of_the_highest_rung_with_enough_results():
    trials = [trial(i, {"x": float(i)}) for i in range(6)]
    trials += [trial(6, {"x": 0.0}, 1, 0), trial(7, {"x": 1.0}, 1, 1), trial(8, {"x": 2.0}, 1, 2)]
    results = {n: TrialResult(n, "complete", {"loss": float(n)}) for n in (0, 1, 2, 3, 4, 6, 7)}
    low = observations(trials, results, NAME, 3)
    assert [(one.assignment["x"], one.state) for one in low] == [
        *((float(i), "complete") for i in range(5)),
        (5.0, "running"),
    ]
    high = observations(trials, results, NAME, 2)
    assert [(one.assignment["x"], one.state) for one in high] == [
        (5.0, "running"),
        (0.0, "complete"),
        (1.0, "complete"),
        (2.0, "running"),
    ]


def test_a_density_is_one_in_all_and_samples_follow_it():
    generator = np.random.default_rng(1)
    data = np.column_stack([generator.normal(0.5, 0.05, 30), generator.integers(0, 3, 30)])
    density = Density(data, np.array([0, 3]))
    line = np.linspace(-0.5, 1.5, 2001)
    total = sum(np.trapezoid(density(np.column_stack([line, np.full(2001, k)])), line) for k in range(3))
    assert total == pytest.approx(1.0, abs=1e-6)
    drawn = density.sample(4000, generator)
    assert drawn[:, 0].min() >= 0
    assert drawn[:, 0].max() <= 1
    assert drawn[:, 0].mean() == pytest.approx(data[:, 0].mean(), abs=0.01)
    assert set(np.unique(drawn[:, 1])) == {0.0, 1.0, 2.0}


def test_identical_points_still_make_a_density():
    density = Density(np.full((5, 2), 0.5), np.array([0, 2]))
    assert np.isfinite(density(np.array([[0.5, 0.0], [0.6, 1.0]]))).all()
    assert density.sample(50, np.random.default_rng(1))[:, 0].std() < 0.01


def test_a_grid_lists_every_combination_once_the_last_parameter_fastest():
    grid = GridPoints({"a": SPACE["kind"], "b": Parameter.model_validate({"int": [1, 3]})})
    trials: list[Trial] = []
    while (found := grid.suggest(len(trials) + 1, trials, {})) is not None:
        trials.append(trial(len(trials), found))
    assert len(trials) == len(grid) == 12
    assert [tuple(one.assignment.values()) for one in trials[:4]] == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]
    assert len({str(one.assignment) for one in trials}) == 12


def test_a_draw_depends_on_no_other_parameter():
    some = {"rate": SPACE["rate"], "x": SPACE["x"]}
    assert RandomDraws(some, 3).suggest(7, [], {})["rate"] == RandomDraws(SPACE, 3).suggest(7, [], {})["rate"]
