"""Between the director and Ray Tune: which trials run, which comes next, what became of those that died."""

from __future__ import annotations

__all__ = ["Crew", "fit"]

import logging
import os
import signal
import threading
from typing import Any

import ray
from ray import tune
from ray._private import auto_init_hook
from ray.tune.search import Searcher

from caloray.atomic import write_bytes
from caloray.distributed.trial_tracking import TrialTracker
from caloray.distributed.tune_trainable import STOP, Bench, carry_out_trial, last_error, refused
from caloray.errors import CaloRayError
from caloray.interrupt import StopRequest
from caloray.tuning.director import Director
from caloray.tuning.ledger import Trial, TrialResult
from caloray.tuning.limits import Spent
from caloray.tuning.settings import TuneConfig
from caloray.tuning.trial import remove_checkpoints

_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one draws a box around the configuration whatever the verbosity
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "86400",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "600",
}
_LOG = logging.getLogger(__name__)
DIED = "CR-600 its process died (killed, or out of memory)"


class Crew:
    """The trials that are in Ray's hands.

    Args:
        settings: The campaign.
        director: Says what comes next.
        tracker: Told about every trial's beginning and end.
    """

    def __init__(self, settings: TuneConfig, director: Director, tracker: TrialTracker) -> None:
        self._settings, self._director, self._tracker = settings, director, tracker
        self._access = threading.RLock()
        self._running: dict[int, Trial] = {}
        self._stopping = False
        self.done = False
        """Whether the director has said that nothing is left."""
        self.error: CaloRayError | None = None
        """What ends the campaign; None while nothing does."""

    def next(self) -> Trial | str | None:
        """A trial; None while there is none now; "done"."""
        with self._access:
            if self._stopping or self.error is not None:
                return "done"
            most = self._settings.trial.concurrent or _places(self._settings)
            if most is not None and len(self._running) >= most:
                return None
            try:
                step = self._director.next()
            except CaloRayError as error:
                self._give_up(error)
                return "done"
            self.done = step == "done"
            if isinstance(step, Trial):
                self._begin(step)
                return step
            return step if step == "done" else None

    def ended(self, number: int) -> None:
        """A trial is over for Ray: with a result, stopped, refused, or because its process died too often."""
        with self._access:
            trial = self._running.pop(number)
            try:
                self._record(trial)
            except CaloRayError as error:
                self._give_up(error)

    def running(self) -> list[Trial]:
        """Trials that have been handed to Ray and are not over."""
        with self._access:
            return list(self._running.values())

    def over_budget(self) -> bool:
        """Whether the budget's hours, or hours of GPUs, are over; running trials count."""
        budget, wanted = self._settings.budget, self._settings.trial
        with self._access:
            self._director.note()
            if budget.hours is not None and self._director.hours >= budget.hours:
                return True
            if budget.gpu_hours is None:
                return False
            seconds = sum(self._spent(trial.number).seconds for trial in self._running.values())
            spent = self._director.gpu_hours + wanted.gpus * wanted.workers * seconds / 3600
            return spent >= budget.gpu_hours

    def stop(self, stop: StopRequest) -> None:
        """Ask all running trials for a checkpoint; nothing new is begun."""
        self._stopping = True
        for trial in self.running():
            self.stop_trial(trial.number, stop.signal or signal.SIGTERM)

    def stop_trial(self, number: int, by: int = signal.SIGTERM) -> None:
        """Ask one trial for a checkpoint and an end without a result."""
        path = self._director.ledger.folder(number) / STOP
        if not path.exists():
            write_bytes(path, f"{int(by)}\n".encode())

    def _record(self, trial: Trial) -> None:
        ledger, number = self._director.ledger, trial.number
        result = ledger.result(number)
        refusal = refused(ledger.folder(number)) if result is None else None
        if refusal is not None:
            self._tracker.interrupted(trial)
            self._give_up(refusal)
            return
        if result is None and self._was_stopped(number):
            self._drop(trial)
            return
        if result is None:
            result = self._lost(number)
            ledger.finish(result)
            remove_checkpoints(ledger.folder(number))
        if result.status != "complete":
            _LOG.warning("trial %d %s: %s", number, result.status, result.reason)
        self._director.ended(number)
        self._tracker.ended(trial, result)

    def _give_up(self, error: CaloRayError) -> None:
        """The first error counts; what is at work keeps a checkpoint and ends."""
        self.error = self.error or error
        for number in self._running:
            self.stop_trial(number)

    def _begin(self, trial: Trial) -> None:
        (self._director.ledger.folder(trial.number) / STOP).unlink(missing_ok=True)
        self._running[trial.number] = trial
        self._tracker.begun(trial)

    def _drop(self, trial: Trial) -> None:
        """The budget is over, or the campaign stops: the trial stays as it is, to be continued."""
        self._tracker.interrupted(trial)
        if not self._stopping:
            self._director.dropped(trial.number)

    def _was_stopped(self, number: int) -> bool:
        return (self._director.ledger.folder(number) / STOP).exists()

    def _spent(self, number: int) -> Spent:
        return Spent.read(self._director.ledger.folder(number))

    def _lost(self, number: int) -> TrialResult:
        spent, wanted = self._spent(number), self._settings.trial
        reason = last_error(self._director.ledger.folder(number)) or DIED
        return TrialResult(
            number=number,
            status="failed",
            reason=f"{reason} ({spent.attempts} attempts)",
            seconds=round(spent.seconds, 3),
            cpu_seconds=round(spent.cpu_seconds, 3),
            attempts=max(1, spent.attempts),
            peak_memory=spent.peak_memory,
            gpu_seconds=round(wanted.gpus * wanted.workers * spent.seconds, 3),
        )


class _Search(Searcher):
    """Ray Tune's view of the crew: a trial's whole configuration is its number."""

    def __init__(self, crew: Crew | None) -> None:
        super().__init__()
        self._crew = crew
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next trial, None for later, or FINISHED."""
        found = self._crew.next() if self._crew is not None else "done"
        if isinstance(found, Trial):
            self._numbers[trial_id] = found.number
            return {"trial": found.number}
        return Searcher.FINISHED if found == "done" else None

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Called once a trial is over and will not be tried again."""
        del result, error
        if self._crew is not None and trial_id in self._numbers:
            self._crew.ended(self._numbers.pop(trial_id))

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Nothing to be set."""
        del metric, mode, config, spec
        return True

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger knows."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger knows."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Search:
        return self

    def __reduce__(self) -> tuple[type[_Search], tuple[None]]:
        return _Search, (None,)


def fit(crew: Crew, bench: Bench, resources: dict[str, float]) -> None:
    """Let Ray Tune work until the crew is done.

    Args:
        crew: Hands out trials.
        bench: What all trials share.
        resources: Of one trial, as Ray Tune names them.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    auto_init_hook.enable_auto_connect = False  # after a stop a late call here would start another Ray
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    wanted = bench.settings.trial
    trainable = tune.with_parameters(carry_out_trial, bench=bench)
    tuner = tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(search_alg=_Search(crew), num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(bench.output / "ray"),
            failure_config=tune.FailureConfig(max_failures=wanted.retries),
            verbose=0,
        ),
    )
    tuner.fit()


def _places(settings: TuneConfig) -> int | None:
    """How many nested trials the cluster has room for: their own drivers take next to nothing."""
    wanted = settings.trial
    if wanted.workers == 1:
        return None
    total = ray.cluster_resources()
    places = [total.get("CPU", 0.0) / (wanted.workers * wanted.cpus)]
    if wanted.gpus:
        places.append(total.get("GPU", 0.0) / (wanted.workers * wanted.gpus))
    return max(1, int(min(places)))
