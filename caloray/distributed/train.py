"""Every component of a scheme as its own Ray Train run, side by side; a failed one does not stop the rest."""

from __future__ import annotations

__all__ = ["Outcome", "ShowProgress", "resources_of", "train_components"]

import logging
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.train import (
    DataConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer

from caloray.atomic import digest_json, write_bytes
from caloray.config import WorkerConfig
from caloray.distributed.feed import Feed
from caloray.distributed.loop import ComponentJob, component_loop
from caloray.distributed.progress import ComponentProgress, ProgressReader
from caloray.errors import CaloRayError, ClusterError, InterruptedRunError
from caloray.interrupt import StopRequest
from caloray.tracking import Tracker
from caloray.training.files import ComponentFolder, ComponentResult
from caloray.training.run import finished_result

Outcome = ComponentResult | CaloRayError
ShowProgress = Callable[[ComponentProgress], None]
_LOG = logging.getLogger(__name__)
_POLL = 0.5
_TRACK_EVERY = 5.0


def train_components(
    jobs: Sequence[ComponentJob],
    feed: Feed,
    workers: Mapping[str, WorkerConfig],
    run: Path,
    *,
    stop: StopRequest,
    tracker: Tracker,
    show: ShowProgress | None = None,
    grace: float = 20.0,
) -> dict[str, Outcome]:
    """Train all jobs side by side, as far as the cluster has room; what is finished already is kept.

    Args:
        jobs: One per component.
        feed: Where the rows come from.
        workers: Resources by component.
        run: The run directory; Ray keeps its own notes in ``run/ray`` while it trains.
        stop: Ends the training at the next step boundary, with a checkpoint.
        tracker: Told about every epoch and every end.
        show: Called about twice a second for every component that moves.
        grace: Seconds that workers get for their checkpoint after a stop.

    Returns:
        For each component its result or the error that ended it.

    Raises:
        InterruptedRunError: ``stop`` was requested; the same call continues.
        IntegrityError: A finished component belongs to another config or was altered, or a shard was altered.
    """
    outcomes: dict[str, Outcome] = {}
    todo: list[ComponentJob] = []
    for job in jobs:
        job.stop_file.unlink(missing_ok=True)
        finished = finished_result(job.request)
        if finished is not None:
            outcomes[job.name] = finished
            tracker.component_ended(job.name, "FINISHED")
        else:
            todo.append(job)
            for line in ComponentFolder(job.request.directory).checkpoints.damaged():
                _LOG.warning("%s", line)
    datasets = {job.name: feed.datasets(job.layers) for job in todo}
    stop.check("training")
    running = [_Training(job, datasets[job.name], workers[job.name], run) for job in todo]
    watch = _Watch(running, tracker, show)
    for training in running:
        training.start()
    while watch.alive():
        time.sleep(_POLL)
        watch.look()
        if stop.requested:
            _stop(running, stop, grace)
            raise stop.error("training")
    watch.look()
    return outcomes | {training.job.name: training.outcome() for training in running}


def resources_of(workers: WorkerConfig) -> dict[str, float]:
    """Resources of one worker, as Ray names them."""
    return {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}


def _scaling(workers: WorkerConfig) -> ScalingConfig:
    return ScalingConfig(
        num_workers=workers.workers, use_gpu=workers.gpus > 0, resources_per_worker=resources_of(workers)
    )


class _Training(threading.Thread):
    """One component's trainer; a daemon, so that a trainer that hangs cannot keep the driver alive."""

    def __init__(self, job: ComponentJob, datasets: Any, workers: WorkerConfig, run: Path) -> None:
        super().__init__(name=f"train-{job.name}", daemon=True)
        self.job = job
        self._datasets, self._workers, self._run = datasets, workers, run
        self._outcome: Outcome | None = None

    def run(self) -> None:
        """Run by ``start``."""
        try:
            self._outcome = self._fit()
        except (TrainingFailedError, RayError, RuntimeError, ValueError, OSError) as error:
            self._outcome = _explained(self.job.name, error)

    def outcome(self) -> Outcome:
        """The component's result, or the error that ended it."""
        if self._outcome is not None:
            return self._outcome
        return ClusterError(
            f"component {self.job.name}: its trainer left no result",
            hint="the checkpoints are kept: the same command continues",
        )

    def _fit(self) -> Outcome:
        name = _run_name(self._run, self.job)
        storage = self._run.absolute() / "ray"
        trainer = TorchTrainer(
            component_loop,
            train_loop_config={"job": self.job},
            scaling_config=_scaling(self._workers),
            run_config=RunConfig(
                name=name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=self._workers.max_failures),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
            datasets=dict(self._datasets),
            dataset_config=DataConfig(datasets_to_split=[]),
        )
        try:
            outcome: Outcome = trainer.fit().return_value
        finally:
            shutil.rmtree(storage / name, ignore_errors=True)
        return outcome


class _Watch:
    """Looks at all components from the driver: progress, tracking, ends."""

    def __init__(self, running: Sequence[_Training], tracker: Tracker, show: ShowProgress | None) -> None:
        self._running = running
        self._readers = {t.job.name: ProgressReader(t.job.name, t.job.request.directory) for t in running}
        self._shown: dict[str, tuple[int, int]] = {}
        self._ended: set[str] = set()
        self._tracker, self._show = tracker, show
        self._tracked = time.monotonic()

    def alive(self) -> bool:
        return any(training.is_alive() for training in self._running)

    def look(self) -> None:
        for training in self._running:
            self._look_at(training)
        if time.monotonic() - self._tracked >= _TRACK_EVERY:
            self._tracker.poll()
            self._tracked = time.monotonic()

    def _look_at(self, training: _Training) -> None:
        name = training.job.name
        now = self._readers[name].read()
        if now is not None and self._show is not None and self._shown.get(name) != (now.epoch, now.step):
            self._shown[name] = now.epoch, now.step
            self._show(now)
        if not training.is_alive() and name not in self._ended:
            self._ended.add(name)
            self._end(name, training.outcome())

    def _end(self, name: str, outcome: Outcome) -> None:
        if isinstance(outcome, InterruptedRunError):
            self._tracker.component_ended(name, "KILLED")
        elif isinstance(outcome, CaloRayError):
            _LOG.error("component %s failed: %s; the others go on", name, outcome.message)
            self._tracker.component_ended(name, "FAILED")
        else:
            self._tracker.component_ended(name, "FINISHED")


def _stop(running: Sequence[_Training], stop: StopRequest, grace: float) -> None:
    """Ask the workers for a checkpoint and wait for it, but not for ever."""
    for training in running:
        write_bytes(training.job.stop_file, f"{stop.signal}\n".encode())
    deadline = time.monotonic() + grace
    for training in running:
        training.join(max(0.0, deadline - time.monotonic()))


def _run_name(run: Path, job: ComponentJob) -> str:
    """Never used twice: Ray Train resumes from whatever it finds under an old name."""
    identity = {"training": job.request.config.model_dump(mode="json"), "seed": job.request.seed}
    return f"caloray-{run.name}-{job.name}-{digest_json(identity)[:8]}-{uuid.uuid4().hex[:8]}"


def _explained(name: str, error: Exception) -> CaloRayError:
    """A failure of Ray Train in our own words, or the deliberate error of one of the workers."""
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        for candidate in (failure, getattr(failure, "cause", None), failure.__cause__):
            if isinstance(candidate, CaloRayError):
                return candidate
    shown = next(iter(failures.values()), error)
    lines = str(shown).strip().splitlines()
    reason = f"{type(shown).__name__}: {lines[-1][:300] if lines else ''}"
    return ClusterError(
        f"component {name}: training ended with {reason}",
        hint="the checkpoints are kept: the same command continues (--debug shows the traceback)",
    )
