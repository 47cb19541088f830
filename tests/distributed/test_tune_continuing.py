"""Trials that go on from other trials, through Ray: asha, population-based training, lent components."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caloray.tuning.ledger import Ledger, Trial

pytestmark = pytest.mark.ray
CONSTANT = {"training.first_layer.schedule": {"kind": "constant"}}
RATE = "training.first_layer.learning_rate"
SPACE = {RATE: {"log_uniform": [1e-4, 1e-2]}}


def weights(ledger: Ledger, trial: Trial) -> str:
    """Digest of what a trial has trained."""
    result = ledger.result(trial.number)
    assert result is not None
    assert result.status == "complete", result
    found: str = result.facts["components"]["first_layer"]["weights"]
    return found


def alone(toy: Any, folder: Path, trial: Trial) -> str:
    """The same settings and epochs in one go, in this process."""
    changes = {
        "training__first_layer__schedule": {"kind": "constant"},
        "training__first_layer__learning_rate": trial.assignment[RATE],
        "training__first_layer__epochs": trial.epochs["first_layer"],
    }
    config = toy.config(folder / "base", **changes)
    digest: str = toy.trained_alone(config, "first_layer", folder / f"alone-{trial.number}")
    return digest


def test_asha_goes_on_as_if_it_had_never_stopped(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    """A promoted trial has the weights of one training of its epochs, and leaves its parent's alone."""
    settings = tuning.settings(
        toy,
        tmp_path,
        set=CONSTANT | {"training.first_layer.epochs": 4},
        space=SPACE,
        fidelity={"kind": "asha", "min_epochs": 2, "factor": 2},
        budget={"trials": 2},
    )
    ledger = tuning.carry_out(settings)
    trials = ledger.trials()
    promoted = [trial for trial in trials if trial.rung == 1]
    assert [trial.epochs["first_layer"] for trial in promoted] == [4]
    assert promoted[0].continues
    parent = trials[promoted[0].parent]
    assert parent.assignment == promoted[0].assignment
    assert weights(ledger, promoted[0]) == alone(toy, tmp_path, promoted[0])
    assert weights(ledger, parent) == alone(toy, tmp_path, parent)
    kept = {path.parts[-4] for path in settings.output.glob("trials/*/components/first_layer/checkpoints")}
    assert f"{parent.number:04d}" in kept, "a larger budget may promote it once more"


@pytest.mark.slow
def test_a_population_takes_over_weights(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    """Two generations: who was kept trains as in one go, who was replaced follows one of the best."""
    settings = tuning.settings(
        toy,
        tmp_path,
        set=CONSTANT | {"training.first_layer.epochs": 4},
        space=SPACE,
        fidelity={"kind": "pbt", "population": 4, "interval": 2, "quantile": 0.25, "resample": 0.0},
        budget={"trials": 8},
        baseline=False,
    )
    ledger = tuning.carry_out(settings)
    trials = ledger.trials()
    first, second = ([trial for trial in trials if trial.rung == rung] for rung in (0, 1))
    assert [len(first), len(second)] == [4, 4]
    scores = {trial.number: ledger.result(trial.number).objectives["nll_bits_per_dim"] for trial in first}
    order = sorted(scores, key=lambda number: scores[number])
    assert [trial.parent for trial in second] == [
        order[0] if own.number == order[-1] else own.number for own in first
    ]
    by_number = {trial.number: trial for trial in trials}
    for own, trial in zip(first, second, strict=True):
        assert trial.continues
        assert trial.epochs == {"first_layer": 4}
        before = by_number[trial.parent].assignment[RATE]
        if trial.parent == own.number:
            assert trial.assignment[RATE] == before
            assert weights(ledger, trial) == alone(toy, tmp_path, trial)
        else:
            changed = (pytest.approx(0.8 * before), pytest.approx(min(1e-2, 1.25 * before)))
            assert trial.assignment[RATE] in changed
            assert weights(ledger, trial) != alone(toy, tmp_path, trial), "its past was another's"


@pytest.mark.slow
def test_components_of_a_finished_run_are_lent(
    ray_cluster: ModuleType, toy: Any, tuning: Any, tmp_path: Path
) -> None:
    """``finish.reuse``: what the run config would train just so is taken over; only the rest is trained."""
    from caloray.distributed.pipeline import train_run
    from caloray.distributed.session import connect

    changes = {"baseline": False, "budget": {"trials": 1}, "set": {"training.first_layer.epochs": 3}}
    lender = toy.config(tmp_path / "lender", training__next_layer__epochs=2)
    with connect(lender.cluster) as session:
        assert train_run(lender, session) is not None
    settings = tuning.settings(
        toy,
        tmp_path,
        run={"training__next_layer__epochs": 2},
        finish={"bundle": True, "reuse": str(lender.output)},
        **changes,
    )
    tuning.carry_out(settings)
    made = settings.output / "best" / "run"
    for name in ("layer_energies", "next_layer"):
        ours, theirs = (
            run / "components" / name / "result" / "weights.safetensors" for run in (made, lender.output)
        )
        assert ours.read_bytes() == theirs.read_bytes()
        assert not (made / "components" / name / "checkpoints").exists()
        assert not (made / "components" / name / "worker.pid").exists(), "nobody has trained it again"
    first, other = (
        run / "components" / "first_layer" / "result" / "weights.safetensors" for run in (made, lender.output)
    )
    assert first.read_bytes() != other.read_bytes(), "three epochs against six"
    assert (made / "bundle" / "bundle.json").is_file()
