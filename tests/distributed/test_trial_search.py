"""Who runs, who comes next, what becomes of trials that died or were stopped; Ray is not started."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ray.tune.error import TuneError

from caloray.atomic import write_json
from caloray.distributed import tune, tune_trainable
from caloray.distributed.trial_search import Crew
from caloray.distributed.trial_tracking import TrialTracker
from caloray.distributed.tune_trainable import last_error
from caloray.errors import ClusterError, ConfigError, IntegrityError, StorageError
from caloray.interrupt import StopRequest
from caloray.tuning.director import Director
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.limits import Spent
from caloray.tuning.settings import load_tuning


class Clock:
    """Seconds that a test sets forward."""

    def __init__(self) -> None:
        self.later = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.later


def crew_of(folder: Path, **changes: Any) -> tuple[Crew, Ledger, Clock]:
    run = {
        "name": "toy",
        "output": str(folder / "base"),
        "data": {"files": ["none.hdf5"]},
        "training": {"first_layer": {"epochs": 4}},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(run))
    value = {
        "name": "crew",
        "config": "run.yaml",
        "output": str(folder / "out"),
        "components": ["first_layer"],
        "space": {"training.first_layer.schedule.max_lr": {"log_uniform": [1e-4, 1e-2]}},
        "search": {"kind": "random"},
        "budget": {"trials": 3},
        "trial": {"concurrent": 2, "retries": 1},
        "objective": {"kind": "nll"},
        "confirm": {"seeds": 1, "split": "validation"},
        "tracking": {"enabled": False},
        **changes,
    }
    (folder / "tune.yaml").write_text(yaml.safe_dump(value))
    settings, clock = load_tuning(folder / "tune.yaml"), Clock()
    ledger = Ledger(settings.output)
    director = Director(settings, ledger, "data", clock)
    return Crew(settings, director, TrialTracker(settings, ledger)), ledger, clock


def complete(ledger: Ledger, number: int) -> None:
    ledger.finish(TrialResult(number, "complete", {"nll_bits_per_dim": 1.0 / (1 + number)}))


def begin(crew: Crew) -> Trial:
    trial = crew.next()
    assert isinstance(trial, Trial)
    return trial


def test_no_more_than_wanted_at_the_same_time(tmp_path: Path) -> None:
    crew, ledger, _ = crew_of(tmp_path)
    assert [begin(crew).number, begin(crew).number] == [0, 1]
    assert crew.next() is None
    complete(ledger, 1)
    crew.ended(1)
    assert begin(crew).number == 2
    assert [trial.number for trial in crew.running()] == [0, 2]


def test_a_trial_whose_process_died_is_on_record(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    crew, ledger, _ = crew_of(tmp_path)
    first, second = begin(crew), begin(crew)
    Spent(attempts=2, seconds=5.0).write(ledger.folder(first.number))
    (ledger.folder(first.number) / "components" / "first_layer" / "checkpoints").mkdir(parents=True)
    crew.ended(first.number)
    result = ledger.result(first.number)
    assert result is not None
    assert (result.status, result.attempts, result.seconds) == ("failed", 2, 5.0)
    assert result.reason == "CR-600 its process died (killed, or out of memory) (2 attempts)"
    assert "trial 0 failed: CR-600" in caplog.text
    assert not list(ledger.folder(first.number).rglob("checkpoints"))
    write_json(ledger.folder(second.number) / "error.json", {"error": "RuntimeError: no"})
    assert last_error(ledger.folder(second.number)) == "RuntimeError: no"
    crew.ended(second.number)
    assert ledger.results()[second.number].reason.startswith("RuntimeError: no (")


def test_a_stop_leaves_trials_without_a_result(tmp_path: Path) -> None:
    crew, ledger, _ = crew_of(tmp_path)
    trial = begin(crew)
    stop = StopRequest()
    stop.request(2)
    crew.stop(stop)
    assert (ledger.folder(trial.number) / "stop").read_text() == "2\n"
    crew.ended(trial.number)
    assert ledger.results() == {}
    assert crew.next() == "done"
    again, _, _ = crew_of(tmp_path)
    assert begin(again) == trial
    assert not (ledger.folder(trial.number) / "stop").exists()


def test_the_end_of_the_hours_leaves_the_search_and_confirms(tmp_path: Path) -> None:
    crew, ledger, clock = crew_of(tmp_path, budget={"hours": 1.0})
    for number in range(3):
        assert begin(crew).number == number
        complete(ledger, number)
        crew.ended(number)
    at_work = begin(crew)
    assert not crew.over_budget()
    clock.later = 3601.0
    assert crew.over_budget()
    assert crew.next() is None, "the trial at work is waited for"
    crew.stop_trial(at_work.number)
    crew.ended(at_work.number)
    confirmed = [begin(crew), begin(crew)]
    assert [trial.kind for trial in confirmed] == ["confirm", "confirm"]
    assert [trial.parent for trial in confirmed] == [None, None], "no weights of the search count again"
    for trial in confirmed:
        complete(ledger, trial.number)
        crew.ended(trial.number)
    assert crew.next() == "done"
    assert ledger.result(at_work.number) is None
    same, _, _ = crew_of(tmp_path, budget={"hours": 1.0})
    assert same.next() == "done"
    more, _, _ = crew_of(tmp_path, budget={"hours": 2.0})
    assert begin(more) == at_work


def test_gpu_hours_count_trials_at_work(tmp_path: Path) -> None:
    trial = {"concurrent": 2, "gpus": 0.5}
    crew, ledger, _ = crew_of(tmp_path, budget={"gpu_hours": 1.0}, trial=trial)
    number = begin(crew).number
    Spent(attempts=1, seconds=7000.0).write(ledger.folder(number))
    assert not crew.over_budget()
    Spent(attempts=1, seconds=7300.0).write(ledger.folder(number))
    assert crew.over_budget()


def test_what_cannot_be_carried_out_ends_the_campaign(tmp_path: Path) -> None:
    crew, ledger, _ = crew_of(tmp_path)
    first, second = begin(crew), begin(crew)
    words = {"error": "CR-100 no", "refused": "0000: no such bundle", "hint": "name another"}
    write_json(ledger.folder(first.number) / "error.json", words)
    crew.ended(first.number)
    assert isinstance(crew.error, ConfigError)
    assert (crew.error.message, crew.error.hint) == ("0000: no such bundle", "name another")
    assert (ledger.folder(second.number) / "stop").exists(), "the others keep a checkpoint and end"
    assert crew.next() == "done"
    assert not crew.done
    assert ledger.results() == {}


def test_a_record_that_cannot_be_written_ends_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crew, *_ = crew_of(tmp_path)
    trial = begin(crew)

    def full(*args: Any) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(Ledger, "finish", full)
    crew.ended(trial.number)
    assert isinstance(crew.error, StorageError)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (TuneError("it gave up"), ClusterError),
        (IntegrityError("result.json is damaged"), IntegrityError),
        (KeyError(3), ClusterError),
        (None, ClusterError),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_campaign_whose_thread_dies_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None, raised: type[Exception]
) -> None:
    """Whatever it died of, and even where it says nothing at all."""
    crew, *_ = crew_of(tmp_path)

    def fit(*args: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(tune, "fit", fit)
    campaign = tune._Campaign.__new__(tune._Campaign)
    campaign._crew, campaign._stop, campaign._progress = crew, StopRequest(), tune.TuneProgress()
    campaign._director, campaign._tracker = crew._director, crew._tracker
    with pytest.raises(raised) as found:
        campaign._carry_out(None, {})  # type: ignore[arg-type]
    assert "\n" not in found.value.message  # type: ignore[attr-defined]


class Told:
    """A tracker that remembers what it was told."""

    def __init__(self) -> None:
        self.params: dict[str, Any] = {}
        self.children: dict[str, str] = {}

    def start(self, name: str, components: Any, params: dict[str, Any]) -> None:
        self.params = params

    def child(self, name: str, *_: Any) -> None:
        self.children[name] = "RUNNING"

    def child_ended(self, name: str, status: str, *_: Any) -> None:
        self.children[name] = status


def test_the_tracker_begins_with_what_the_ledger_says(tmp_path: Path) -> None:
    """A trial that a killed driver left is not at work, and only what makes the campaign is a parameter."""
    crew, ledger, _ = crew_of(tmp_path)
    ended, _left = begin(crew), begin(crew)
    complete(ledger, ended.number)
    tracker, told = crew._tracker, Told()
    tracker._tracker = told  # type: ignore[assignment]
    tracker.start()
    assert told.children == {"trial-0000": "FINISHED", "trial-0001": "KILLED"}
    assert set(told.params) == {
        "config", "seed", "components", "space", "search", "fidelity", "objective",
    }  # fmt: skip
    axis = told.params["space"]["training.first_layer.schedule.max_lr"]
    assert axis == "log_uniform [0.0001, 0.01]"


def test_an_old_reason_does_not_outlive_its_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew, ledger, _ = crew_of(tmp_path)
    trial = begin(crew)
    folder = ledger.folder(trial.number)
    write_json(folder / "error.json", {"error": "OSError: of the first attempt"})
    bench = SimpleNamespace(
        output=ledger.output,
        settings=crew._settings,
        manifest=SimpleNamespace(readout=None),
        statistics=None,
    )
    job = SimpleNamespace(folder=folder)
    monkeypatch.setattr(tune_trainable, "_job", lambda *_: job)

    def refuse(*args: Any) -> None:
        assert last_error(folder) is None
        raise ConfigError("no such bundle", hint="name another")

    monkeypatch.setattr(tune_trainable, "carry_out", refuse)
    found = tune_trainable.carry_out_trial({"trial": trial.number}, bench)  # type: ignore[arg-type]
    assert found == {"ended": "refused"}
    refusal = tune_trainable.refused(folder)
    assert refusal is not None
    assert (refusal.message, refusal.hint) == ("trial 0: no such bundle", "name another")
