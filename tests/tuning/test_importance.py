"""Importances: known functions of known parameters, and honesty where there is little to go by."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.tuning.importance import importance_of
from caloray.tuning.space import Parameter

SPACE = {
    "rate": Parameter.model_validate({"log_uniform": [1e-4, 1e-2]}),
    "share": Parameter.model_validate({"uniform": [0.1, 0.5]}),
    "kind": Parameter.model_validate({"choice": ["a", "b", "c"]}),
}


def trials(count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [
        {
            "rate": float(np.exp(rng.uniform(np.log(1e-4), np.log(1e-2)))),
            "share": float(rng.uniform(0.1, 0.5)),
            "kind": str(rng.choice(["a", "b", "c"])),
        }
        for _ in range(count)
    ]


def shares(found) -> dict[str, float]:
    return {share.parameter: share.share for share in found.shares}


def test_one_parameter_carries_everything():
    rows = trials(60)
    found = importance_of(SPACE, rows, [np.log(row["rate"]) ** 2 for row in rows])
    assert found.shares[0].parameter == "rate"
    assert found.shares[0].share > 0.8
    assert sum(shares(found).values()) + found.interactions == pytest.approx(1.0, abs=0.05)
    assert found.explained > 0.5
    assert found.remark == ""


def test_a_choice_can_be_what_counts():
    rows = trials(60, 1)
    found = importance_of(SPACE, rows, [{"a": 0.0, "b": 5.0, "c": 1.0}[row["kind"]] for row in rows])
    assert shares(found)["kind"] > 0.8


def test_shares_of_a_sum_follow_its_variances():
    """The shares of a sum of functions of one variable each are those of their variances."""
    rows = trials(400, 2)
    scaled = [(np.log(row["rate"] / 1e-4) / np.log(100), (row["share"] - 0.1) / 0.4) for row in rows]
    found = shares(importance_of(SPACE, rows, [2 * a + b for a, b in scaled]))
    assert found["rate"] == pytest.approx(0.8, abs=0.06)  # 4/12 of 5/12
    assert found["share"] == pytest.approx(0.2, abs=0.06)
    assert found["kind"] < 0.02


def test_a_product_is_an_interaction():
    rows = trials(400, 3)
    signs = [np.sign(np.log(row["rate"] / 1e-3)) * np.sign(row["share"] - 0.3) for row in rows]
    found = importance_of(SPACE, rows, signs)
    assert found.interactions > 0.6


def test_agrees_with_optuna_where_it_is_installed():
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rows = trials(120, 4)
    values = [
        np.log(row["rate"]) + 4 * (row["share"] - 0.2) ** 2 + 0.3 * (row["kind"] == "b") for row in rows
    ]
    spread = {
        "rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True),
        "share": optuna.distributions.FloatDistribution(0.1, 0.5),
        "kind": optuna.distributions.CategoricalDistribution(("a", "b", "c")),
    }
    study = optuna.create_study()
    for row, value in zip(rows, values, strict=True):
        study.add_trial(optuna.trial.create_trial(params=row, distributions=spread, value=float(value)))
    theirs = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
    )
    ours = shares(importance_of(SPACE, rows, values))
    assert max(theirs, key=theirs.get) == max(ours, key=ours.get) == "rate"
    for name, share in theirs.items():
        assert ours[name] == pytest.approx(share, abs=0.12)


def test_the_same_seed_gives_the_same_shares():
    rows = trials(30)
    values = [row["share"] for row in rows]
    assert importance_of(SPACE, rows, values, 3) == importance_of(SPACE, rows, values, 3)
    assert all(share.spread > 0 for share in importance_of(SPACE, rows, values, 3).shares)


@pytest.mark.parametrize(("count", "words"), [(0, "0 comparable trials"), (5, "5 comparable trials")])
def test_nothing_is_said_of_a_handful(count, words):
    rows = trials(count)
    found = importance_of(SPACE, rows, [row["share"] for row in rows])
    assert found.shares == ()
    assert words in found.remark


def test_equal_values_have_no_variance():
    assert "same value" in importance_of(SPACE, trials(10), [1.0] * 10).remark


def test_few_trials_and_noise_are_told():
    rows = trials(8)
    noise = np.random.default_rng(0).normal(size=8)
    remark = importance_of(SPACE, rows, noise.tolist()).remark
    assert "8 trials for 3 parameters are few" in remark
    assert "mostly noise" in remark


def test_one_diverged_trial_is_no_trend():
    rows = trials(40, 5)
    values = [row["share"] for row in rows]
    values[7] = 1e6
    found = importance_of(SPACE, rows, values)
    assert "1 much worse trial was cut" in found.remark
    assert found.shares[0].parameter == "share"
    assert found.shares[0].share > 0.7
