"""Trials in one process: results, limits, interruptions and continuations, without Ray."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloray.config import RunConfig
from caloray.errors import CheckpointError, ConfigError, InterruptedRunError
from caloray.training.files import ComponentFolder
from caloray.tuning.ledger import Ledger, Trial
from caloray.tuning.limits import Limits, Spent, TrialStop
from caloray.tuning.objective_settings import NLLObjective
from caloray.tuning.trial import TrialJob, carry_out, train_here

NLL = (NLLObjective(kind="nll", rows=60),)
FLOW = {"blocks": 2, "hidden": 16}
CONSTANT = {"schedule": {"kind": "constant"}, "learning_rate": 1e-3}


@pytest.fixture
def bench(toy: Any, tmp_path: Path) -> Bench:
    return Bench(toy, tmp_path)


class Bench:
    """Carries out trials of the toy model below one folder."""

    def __init__(self, toy: Any, output: Path) -> None:
        self.toy, self.output, self.ledger = toy, output, Ledger(output)

    def job(self, number: int = 0, epochs: int = 2, names: Sequence[str] = ("first_layer",), **changes: Any):
        """A trial, which is in the ledger; ``changes`` are training settings, or fields of the trial."""
        own = {key: changes.pop(key) for key in ("parent", "continues", "kind", "rung") if key in changes}
        keep = changes.pop("keep", False)
        split = changes.pop("split", "validation")
        settings = {"batch": 50, "validation_rows": 60, "device": "cpu", "checkpoint_steps": 2}
        training = {name: {**settings, "epochs": epochs, **changes} for name in names}
        run = RunConfig.model_validate(
            {
                "name": "toy",
                "output": self.output / "base",
                "data": {"files": ["none.hdf5"]},
                "scheme": {"flows": dict.fromkeys(("layer_energies", "first_layer", "next_layer"), FLOW)},
                "training": training,
            }
        )
        fields = {"kind": "search", "assignment": {}, "seed": 1, "epochs": dict.fromkeys(names, epochs)}
        trial = Trial(number=number, digest="d", **{**fields, **own})
        if len(self.ledger.trials()) == number:
            self.ledger.add(trial)
        return TrialJob(trial, run, self.output, tuple(names), NLL, split=split, keep_checkpoints=keep)

    def rows(self, split: str, layers: Sequence[int], *, sums: bool) -> Any:
        count, seed = {"train": (200, 0), "validation": (60, 1), "test": (60, 2)}[split]
        return self.toy.store_of(self.toy.showers(count, seed), layers=tuple(layers))

    def stop(self, job: TrialJob, **limits: Any) -> TrialStop:
        return TrialStop(job.folder / "stop", job.folder, Limits(**limits))

    def carry_out(self, job: TrialJob, stop: TrialStop | None = None, train: Any = train_here) -> Any:
        stop = stop or self.stop(job)
        return carry_out(job, self.rows, self.toy.GEOMETRY, self.toy.statistics(), stop, train)

    def weights(self, job: TrialJob) -> str:
        result = ComponentFolder(job.folder / "components" / job.components[0]).result()
        assert result is not None
        return result.sha256


def stopping_at(look: int):
    """A stop that comes at the n-th look."""

    class Stop(TrialStop):
        looks = 0

        @property
        def requested(self) -> bool:
            self.looks += 1
            if self.looks == look:
                self.request()
            return self.signal is not None

    return Stop


def test_a_trial_ends_with_its_objectives(bench: Bench) -> None:
    job = bench.job()
    result = bench.carry_out(job)
    assert result.status == "complete"
    assert set(result.objectives) == {"nll_bits_per_dim"}
    assert np.isfinite(result.objectives["nll_bits_per_dim"])
    assert result == bench.ledger.result(0)
    facts = result.facts["components"]["first_layer"]
    assert facts["weights"] == bench.weights(job)
    assert facts["epochs"] == 2
    assert (result.attempts, result.reason) == (1, "")
    assert result.seconds > 0
    assert result.peak_memory > 1e7
    assert not list(job.folder.glob("components/*/checkpoints"))
    assert bench.carry_out(job) == result, "what has ended is not carried out again"


def test_components_are_trained_one_after_another(bench: Bench) -> None:
    names = ("layer_energies", "first_layer", "next_layer")
    job = bench.job(epochs=1, names=names)
    result = bench.carry_out(job)
    assert result.status == "complete", result
    assert tuple(result.facts["components"]) == names


def test_nan_is_pruned_with_its_message(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def nan(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return torch.full((1,), torch.nan, requires_grad=True)

    monkeypatch.setattr("nflows.flows.base.Flow.log_prob", nan)
    result = bench.carry_out(bench.job())
    assert result.status == "pruned"
    assert result.reason.startswith("CR-400 component first_layer: loss is nan in epoch 0")
    assert result.objectives == {}


def test_a_limit_on_time_counts_all_attempts(bench: Bench) -> None:
    job = bench.job(epochs=500)
    Spent(attempts=2, seconds=100.0).write(job.folder)
    result = bench.carry_out(job, bench.stop(job, minutes=101 / 60))
    assert result.status == "stopped"
    assert re.fullmatch(r"time limit: 1\d\d s of 101 s", result.reason), "how late, depends on the machine"
    assert result.attempts == 3
    assert 101 <= result.seconds < 130


def test_a_limit_on_memory(bench: Bench) -> None:
    job = bench.job()
    result = bench.carry_out(job, bench.stop(job, memory_gb=0.01))
    assert result.status == "stopped"
    assert re.fullmatch(r"memory limit: \d+\.\d\d GB of 0\.01 GB", result.reason)
    assert result.peak_memory > 0.01e9


def test_an_interrupted_trial_ends_with_the_same_weights(bench: Bench) -> None:
    undisturbed = bench.job(0, epochs=3)
    bench.carry_out(undisturbed)
    job = bench.job(1, epochs=3)
    stop = stopping_at(6)(job.folder / "stop", job.folder)
    with pytest.raises(InterruptedRunError, match="training of first_layer stopped by SIGTERM"):
        bench.carry_out(job, stop)
    assert bench.ledger.result(1) is None
    assert list(job.folder.glob("components/*/checkpoints/step-*"))
    result = bench.carry_out(job)
    assert result.attempts == 2
    assert bench.weights(job) == bench.weights(undisturbed)
    assert result.objectives == bench.ledger.result(0).objectives


def test_the_stop_file_stops(bench: Bench) -> None:
    job = bench.job()
    (job.folder / "stop").write_text("2\n")
    with pytest.raises(InterruptedRunError) as error:
        bench.carry_out(job)
    assert error.value.context["signal"] == 2


def test_an_unexpected_error_leaves_no_result(bench: Bench) -> None:
    job = bench.job()

    def broken(*args: Any) -> Any:
        raise OSError("no such device")

    with pytest.raises(OSError, match="no such device"):
        bench.carry_out(job, train=broken)
    assert bench.ledger.result(0) is None


def test_asha_goes_on_as_if_nothing_had_been(bench: Bench) -> None:
    """With the same settings a continued training is the one that was never stopped."""
    whole = bench.job(0, epochs=4, **CONSTANT)
    bench.carry_out(whole)
    parent = bench.job(1, epochs=2, keep=True, **CONSTANT)
    bench.carry_out(parent)
    child = bench.job(2, epochs=4, keep=True, parent=1, continues=True, **CONSTANT)
    result = bench.carry_out(child)
    assert result.status == "complete"
    assert bench.weights(child) == bench.weights(whole)
    history = (child.folder / "components/first_layer/history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in history] == [0, 1, 2, 3]
    assert "continues" not in (child.folder / "components/first_layer/identity.json").read_text()


def test_pbt_goes_on_with_its_own_rate(bench: Bench) -> None:
    parent = bench.job(0, epochs=2, keep=True, **CONSTANT)
    bench.carry_out(parent)
    changed = {**CONSTANT, "learning_rate": 4e-3, "weight_decay": 0.1}
    child = bench.job(1, epochs=4, keep=True, parent=0, continues=True, **changed)
    stop = stopping_at(6)(child.folder / "stop", child.folder)
    with pytest.raises(InterruptedRunError):
        bench.carry_out(child, stop)
    assert bench.carry_out(child).status == "complete"
    folder = child.folder / "components/first_layer"
    rates = [json.loads(line)["lr"] for line in (folder / "history.jsonl").read_text().splitlines()]
    assert rates == [1e-3, 1e-3, 4e-3, 4e-3]
    identity = json.loads((folder / "identity.json").read_text())
    assert identity["continues"] == bench.weights(parent)
    straight = bench.job(2, epochs=4, keep=True, parent=0, continues=True, **changed)
    bench.carry_out(straight)
    assert bench.weights(straight) == bench.weights(child), "an interruption changes nothing"


def test_a_confirmation_of_a_trained_trial_is_only_measured(bench: Bench) -> None:
    parent = bench.job(0)
    before = bench.carry_out(parent)
    job = bench.job(1, kind="confirm", parent=0, continues=True, split="test")

    def never(*args: Any) -> Any:
        return train_here(args[0], no_rows, args[2])

    def no_rows(*args: Any, **kwargs: Any) -> None:
        return None

    result = bench.carry_out(job, train=never)
    assert result.status == "complete"
    assert bench.weights(job) == bench.weights(parent)
    assert result.facts["split"] == "test"
    assert result.objectives != before.objectives


def test_a_parent_without_checkpoints_cannot_be_continued(bench: Bench) -> None:
    bench.carry_out(bench.job(0, **CONSTANT))
    with pytest.raises(CheckpointError, match="its checkpoints are gone"):
        bench.carry_out(bench.job(1, epochs=4, parent=0, continues=True, **CONSTANT))


def test_a_warm_start_from_what_the_trial_does_not_train(bench: Bench) -> None:
    with pytest.raises(
        ConfigError, match="starts from the weights of layer_energies, which the trial does not"
    ):
        bench.carry_out(bench.job(warm_start="layer_energies"))


def test_what_was_spent_survives_a_kill(bench: Bench) -> None:
    job = bench.job()
    stop = bench.stop(job)
    assert Spent.read(job.folder).attempts == 1
    assert replace(stop.note(), attempts=1).seconds >= 0
    assert bench.stop(job).spent.attempts == 2
