"""The director: no trial lost or doubled, whatever ends first and however often the driver dies."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloray.errors import IntegrityError
from caloray.tuning.director import Director
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.limits import Spent
from caloray.tuning.resolve import run_of_trial
from caloray.tuning.settings import TuneConfig

LR = "training.next_layer.schedule.max_lr"
DECAY = "training.next_layer.weight_decay"
CONSTANT = {"training.next_layer.schedule": {"kind": "constant"}}
HALVING = {"fidelity": {"kind": "halving", "min_epochs": 2, "factor": 3}, "budget": {"trials": 9}}
ASHA = {
    "fidelity": {"kind": "asha", "min_epochs": 6, "factor": 3},
    "set": CONSTANT,
    "space": {"training.next_layer.learning_rate": {"log_uniform": [1e-4, 1e-2]}},
}
PBT = ASHA | {"fidelity": {"kind": "pbt", "population": 4, "interval": 6}, "budget": {"trials": 50}}
GRID = {
    "search": {"kind": "grid"},
    "budget": {},
    "space": {
        LR: {"log_uniform": [1e-4, 1e-2], "grid": 3},
        "training.next_layer.batch": {"choice": [256, 512]},
    },
}
CAMPAIGNS = {
    "random": {},
    "optuna": {"search": {"kind": "optuna", "startup": 3}},
    "bohb": {"search": {"kind": "bohb"}, "budget": {"trials": 10}},
    "grid": GRID,
    "halving": HALVING,
    "asha": ASHA,
    "pbt": PBT,
}


def quadratic(trial: Trial) -> float:
    """Best at a learning rate of 1e-3; longer trainings are better."""
    rate = next((v for k, v in trial.assignment.items() if k.endswith("_lr")), 3e-3)
    return float(np.log10(rate / 1e-3) ** 2 + 1 / sum(trial.epochs.values()) + 1e-6 * trial.seed)


def result_of(trial: Trial, names: tuple[str, ...] = ("nll_bits_per_dim",), **facts: Any) -> TrialResult:
    """A complete result."""
    value = quadratic(trial)
    return TrialResult(trial.number, "complete", dict.fromkeys(names, value), seconds=60.0, facts=facts)


def play(
    settings: TuneConfig,
    *,
    at_once: int = 1,
    order: np.random.Generator | None = None,
    score: Callable[[Trial], TrialResult] = result_of,
    restart: Callable[[int], bool] = lambda _: False,
) -> list[Trial]:
    """Carry a campaign out: up to ``at_once`` trials are open, any of them ends next; restarts as told."""
    ledger = Ledger(settings.output)
    director, running, step = Director(settings, ledger, "data"), [], 0
    while True:
        step += 1
        if restart(step):
            director, running = Director(settings, Ledger(settings.output), "data"), []
        found = director.next() if len(running) < at_once else "wait"
        if isinstance(found, Trial):
            assert found.number not in {trial.number for trial in running}
            running.append(found)
            continue
        if found == "done" and not running:
            return ledger.trials()
        trial = running.pop(0 if order is None else int(order.integers(len(running))))
        ledger.finish(score(trial))
        director.ended(trial.number)


def search_of(trials: list[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.kind == "search"]


def told(trials: list[Trial]) -> list[tuple]:
    return [(one.number, one.kind, one.assignment, one.seed, one.epochs, one.parent) for one in trials]


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_restart_at_every_step_changes_nothing(load, name):
    campaign = load(**CAMPAIGNS[name])
    whole = play(campaign)
    shutil.rmtree(campaign.output)
    assert play(campaign, restart=lambda step: step % 2 == 0) == whole


@pytest.mark.parametrize("name", CAMPAIGNS)
@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 999), at_once=st.integers(1, 5), deaths=st.sets(st.integers(1, 60), max_size=8))
def test_any_order_and_any_deaths_lose_and_double_nothing(load, name, seed, at_once, deaths):
    campaign = load(**CAMPAIGNS[name])
    shutil.rmtree(campaign.output, ignore_errors=True)
    order = np.random.default_rng(seed)
    trials = play(campaign, at_once=at_once, order=order, restart=lambda step: step in deaths)
    ledger = Ledger(campaign.output)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert set(ledger.results()) == set(range(len(trials)))
    assert [trial.kind for trial in trials].count("baseline") == 1
    confirmed = Counter((str(t.assignment), t.seed) for t in trials if t.kind == "confirm")
    assert len(confirmed) == 6
    assert set(confirmed.values()) == {1}
    searched = search_of(trials)
    first = [trial for trial in searched if trial.rung == 0]
    assert len({str(trial.assignment) for trial in first}) == len(first)
    expected = {"grid": 6, "halving": 9, "pbt": 4, "bohb": 10}
    assert len(first) == expected.get(name, 6)
    promoted = [trial.parent for trial in searched if trial.rung and name != "pbt"]
    assert len(promoted) == len(set(promoted))
    if name == "pbt":
        assert Counter(trial.rung for trial in searched) == {0: 4, 1: 4, 2: 4}


def test_halving_promotes_the_best_to_the_full_epochs(load):
    trials = search_of(play(load(**HALVING)))
    assert Counter(trial.rung for trial in trials) == {0: 9, 1: 3, 2: 1}
    assert [sorted({t.epochs["next_layer"] for t in trials if t.rung == rung}) for rung in range(3)] == [
        [2],
        [6],
        [18],
    ]
    assert not any(trial.continues for trial in trials)
    values = {trial.number: quadratic(trial) for trial in trials if trial.rung == 0}
    best = min(values, key=values.__getitem__)
    last = next(trial for trial in trials if trial.rung == 2)
    assert last.assignment == trials[best - 1].assignment
    assert trials[last.parent - 1].rung == 1


def test_asha_continues_its_parent(load):
    promoted = [trial for trial in search_of(play(load(**ASHA))) if trial.rung]
    assert [(trial.epochs, trial.continues) for trial in promoted] == [({"next_layer": 18}, True)] * 2


def test_generations_keep_the_good_and_replace_the_bad(load):
    campaign = load(**PBT)
    name = "training.next_layer.learning_rate"

    def score(trial: Trial) -> TrialResult:
        value = float(np.log10(trial.assignment.get(name, 1e-2) / 1e-3) ** 2)
        return TrialResult(trial.number, "complete", {"nll_bits_per_dim": value})

    trials = search_of(play(campaign, score=score))
    rungs = [[trial for trial in trials if trial.rung == rung] for rung in range(3)]
    assert [{t.epochs["next_layer"] for t in rung} for rung in rungs] == [{6}, {12}, {18}]
    for before, after in itertools.pairwise(rungs):
        value = {t.number: score(t).objectives["nll_bits_per_dim"] for t in before}
        best, worst = min(value, key=value.__getitem__), max(value, key=value.__getitem__)
        for old, new in zip(before, after, strict=True):
            assert new.continues
            if old.number == worst:
                source = next(t for t in before if t.number == best)
                assert new.parent == best
                rate = source.assignment[name]
                near = [min(1e-2, max(1e-4, rate * factor)) for factor in (0.8, 1.25)]
                assert new.assignment[name] in near or 1e-4 <= new.assignment[name] <= 1e-2
            else:
                assert (new.parent, new.assignment) == (old.number, old.assignment)


def test_a_generation_waits_for_the_one_before(load):
    campaign = load(**PBT | {"baseline": False})
    director = Director(campaign, Ledger(campaign.output), "data")
    first = [director.next() for _ in range(4)]
    assert director.next() == "wait"
    for trial in first[:3]:
        director.ledger.finish(result_of(trial))
        director.ended(trial.number)
    assert director.next() == "wait"
    director.ledger.finish(TrialResult(first[3].number, "failed"))
    director.ended(first[3].number)
    fourth = [director.next() for _ in range(4)][3]
    assert fourth.parent != first[3].number


def test_a_population_that_died_out_ends(load):
    campaign = load(**PBT)
    trials = play(campaign, score=lambda trial: TrialResult(trial.number, "failed"))
    assert [trial.kind for trial in trials] == ["baseline"] + ["search"] * 4


def test_failed_trials_are_recorded_and_count(load):
    trials = play(load(), score=lambda t: TrialResult(t.number, "pruned") if t.number % 2 else result_of(t))
    assert len(search_of(trials)) == 6
    best = min((t for t in search_of(trials) if not t.number % 2), key=quadratic)
    assert [t.assignment for t in trials if t.kind == "confirm"] == [{}] * 3 + [best.assignment] * 3


def test_confirmations_have_seeds_and_weights_of_their_own(load):
    trials = play(load(confirm={"seeds": 2, "top": 2, "split": "test"}))
    confirmed = [trial for trial in trials if trial.kind == "confirm"]
    assert [trial.seed for trial in confirmed] == [6, 7] * 3
    assert {trial.seed for trial in trials if trial.kind != "confirm"} == {5}
    assert {(trial.parent, trial.continues, trial.split) for trial in confirmed} == {(None, False, "test")}
    assert {trial.split for trial in trials if trial.kind != "confirm"} == {"validation"}
    ranked = sorted(search_of(trials), key=quadratic)
    assert [trial.assignment for trial in confirmed[2::2]] == [one.assignment for one in ranked[:2]]


def test_a_seed_that_the_search_has_had_confirms_nothing(load):
    space = {"seed": {"choice": [6, 8]}, LR: {"log_uniform": [1e-4, 1e-2]}}
    trials = play(load(space=space, budget={"trials": 8}))
    assert {trial.seed for trial in search_of(trials)} == {6, 8}
    assert [trial.seed for trial in trials if trial.kind == "confirm"] == [7, 9, 10] * 2


def test_the_difference_of_equal_settings_has_no_bias(load):
    """Nothing but seeds and showers makes a difference: the best of 20 must not look better than it is."""
    differences = []
    for campaign_seed in range(12):
        campaign = load(budget={"trials": 20}, seed=campaign_seed, confirm={"seeds": 4})
        shutil.rmtree(campaign.output, ignore_errors=True)

        def score(trial: Trial, campaign_seed: int = campaign_seed) -> TrialResult:
            rate = round(1e9 * trial.assignment.get(LR, 0.0))
            weights, showers = (
                np.random.default_rng([campaign_seed, rate, trial.seed, 1]).normal(),
                np.random.default_rng([campaign_seed, rate, trial.seed, len(trial.split)]).normal(),
            )
            return TrialResult(trial.number, "complete", {"nll_bits_per_dim": weights + showers})

        groups: dict[bool, list[float]] = {False: [], True: []}
        for trial in play(campaign, score=score):
            if trial.kind == "confirm":
                groups[bool(trial.assignment)].append(score(trial).objectives["nll_bits_per_dim"])
        differences.append(np.mean(groups[True]) - np.mean(groups[False]))
    assert abs(np.mean(differences)) < 2.5 / np.sqrt(12)  # of one difference the variance is 4 / 4 on average
    assert abs(np.mean(differences)) < 2.5 * np.std(differences, ddof=1) / np.sqrt(12)


def test_another_split_or_none_between_sessions(load):
    first = play(load(confirm={"seeds": 2, "split": "validation"}))
    trials = play(load(confirm={"seeds": 2, "split": "test"}))
    assert trials[: len(first)] == first
    later = trials[len(first) :]
    assert {trial.split for trial in later} == {"test"}
    assert [(t.assignment, t.seed) for t in later] == [
        (t.assignment, t.seed) for t in first if t.kind == "confirm"
    ]
    donors = [trials[trial.parent] for trial in later]
    assert all(trial.continues for trial in later)
    assert [(d.digest, d.split, d.kind) for d in donors] == [
        (t.digest, "validation", "confirm") for t in later
    ]
    campaign = load(confirm={"seeds": 3, "split": "test"})
    director = Director(campaign, Ledger(campaign.output), "data")
    opened = director.next()
    assert (opened.kind, opened.seed) == ("confirm", 8)
    for changed in (None, {"seeds": 1, "split": "validation"}):
        again = load(confirm=changed)
        assert Director(again, Ledger(again.output), "data").next() == "done"
    assert Director(campaign, Ledger(campaign.output), "data").next() == opened


def test_without_confirmation_and_baseline_only_the_search_is_left(load):
    trials = play(load(confirm=None, baseline=False))
    assert [trial.kind for trial in trials] == ["search"] * 6


def test_hours_are_summed_over_sessions(load):
    campaign = load(budget={"hours": 1.0}, confirm=None, baseline=False)
    now = [0.0]
    director = Director(campaign, Ledger(campaign.output), "data", clock=lambda: now[0])
    first = director.next()
    now[0] = 2400.0
    director.ledger.finish(result_of(first))
    director.ended(first.number)
    now[0] = 0.0
    again = Director(campaign, Ledger(campaign.output), "data", clock=lambda: now[0])
    assert again.hours == pytest.approx(2 / 3)
    second = again.next()
    assert second.number == 1
    now[0] = 1300.0
    assert again.next() == "wait"
    again.ledger.finish(result_of(second))
    again.ended(second.number)
    assert again.next() == "done"


def test_hours_of_repetitions_alone_are_no_hours_of_the_search(load):
    campaign = load(budget={"trials": 1, "hours": 1.0}, baseline=False)
    now = [0.0]
    director = Director(campaign, Ledger(campaign.output), "data", clock=lambda: now[0])
    for seconds in (600.0, 5000.0, 5000.0):
        trial = director.next()
        now[0] += seconds
        director.ledger.finish(result_of(trial))
        director.ended(trial.number)
    assert trial.kind == "confirm"
    assert director.hours == pytest.approx(1 / 6)
    now[0] += 10.0
    director.note()
    again = Director(campaign, Ledger(campaign.output), "data", clock=lambda: now[0])
    assert again.hours == pytest.approx(610 / 3600)


def test_gpu_hours_count_the_gpus_of_ended_trials(load):
    trials = play(load(budget={"gpu_hours": 0.1}, trial={"gpus": 2.0}, confirm=None))
    assert len(trials) == 3  # 60 s with 2 GPUs each: 0.033 hours


def test_gpu_hours_are_those_that_were_spent(load):
    campaign = load(trial={"gpus": 2.0}, budget={"gpu_hours": 5.0}, confirm=None)
    director = Director(campaign, Ledger(campaign.output), "data")
    first, second = director.next(), director.next()
    director.ledger.finish(TrialResult(first.number, "failed", seconds=1800.0, gpu_seconds=3600.0))
    director.ended(first.number)
    assert director.gpu_hours == pytest.approx(1.0)
    Spent(attempts=1, seconds=1800.0).write(director.ledger.folder(second.number))
    director.dropped(second.number)
    assert director.gpu_hours == pytest.approx(2.0)
    other = load(trial={"gpus": 1.0}, budget={"gpu_hours": 5.0}, confirm=None)
    again = Director(other, Ledger(other.output), "data")
    assert again.gpu_hours == pytest.approx(1.5)


def test_a_small_space_is_exhausted(load):
    space = {"training.next_layer.batch": {"choice": [256, 512, 1024]}}
    trials = search_of(play(load(space=space, budget={"trials": 10})))
    assert sorted(trial.assignment["training.next_layer.batch"] for trial in trials) == [256, 512, 1024]


def test_a_searched_seed_and_searched_epochs_are_the_trials_own(load):
    space = {"seed": {"int": [100, 200]}, "training.next_layer.epochs": {"int": [20, 40]}}
    campaign = load(**HALVING | {"space": space})
    for trial in search_of(play(campaign)):
        share = (2, 6, 18)[trial.rung] / 18
        assert trial.seed == trial.assignment["seed"]
        assert trial.epochs == {"next_layer": round(share * trial.assignment["training.next_layer.epochs"])}
        run = run_of_trial(campaign, trial)
        assert (run.seed, run.training_of("next_layer").epochs) == (trial.seed, trial.epochs["next_layer"])


def test_unfinished_trials_come_first_and_once_each(load):
    campaign = load()
    director = Director(campaign, Ledger(campaign.output), "data")
    open_trials = [director.next() for _ in range(3)]
    again = Director(campaign, Ledger(campaign.output), "data")
    assert [again.next() for _ in range(3)] == open_trials
    assert again.next().number == 3


def test_the_digest_tells_what_the_weights_follow_from(load):
    digests = []
    for change in (
        {},
        {"run": {"training.next_layer.batch": 77}},
        {"run": {"training.first_layer.batch": 77}},
    ):
        campaign = load(**change)
        shutil.rmtree(campaign.output, ignore_errors=True)
        digests.append(Director(campaign, Ledger(campaign.output), "data").next().digest)
    assert digests[0] != digests[1]
    assert digests[0] == digests[2]


def test_several_objectives_confirm_the_front(load):
    names = ("nll_bits_per_dim", "ms_per_shower")

    def score(trial: Trial) -> TrialResult:
        values = {names[0]: quadratic(trial), names[1]: float(trial.number % 3)}
        return TrialResult(trial.number, "complete", values)

    campaign = load(
        objective=[{"kind": "nll"}, {"kind": "ms_per_shower"}], search={"kind": "optuna", "startup": 2}
    )
    trials = play(campaign, score=score)
    best = next(trial for trial in trials if trial.kind == "confirm" and trial.assignment)
    lowest = min(search_of(trials), key=lambda trial: (quadratic(trial), trial.number % 3))
    assert best.assignment == lowest.assignment


def test_an_end_without_a_result_is_an_error(load):
    campaign = load()
    director = Director(campaign, Ledger(campaign.output), "data")
    director.next()
    with pytest.raises(IntegrityError, match="ended without a result"):
        director.ended(0)
