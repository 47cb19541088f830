"""Every component of a scheme as its own Ray Train run; a failed one does not stop the rest.

As many run side by side as the cluster has room for, in the order of the scheme. A component that starts from
another one's weights waits for exactly that one, so that results do not depend on the cluster's size.
"""

from __future__ import annotations

__all__ = ["Outcome", "ShowProgress", "train_components"]

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from caloray.atomic import write_bytes
from caloray.config import WorkerConfig
from caloray.distributed.feed import SPLITS, Feed
from caloray.distributed.layer_feed import LayerFeed
from caloray.distributed.loop import ComponentJob
from caloray.distributed.progress import ComponentProgress, ComponentState, ProgressReader
from caloray.distributed.room import Room
from caloray.distributed.trainer import Outcome, Training, demand_of
from caloray.errors import CaloRayError, ClusterError, ConfigError, InterruptedRunError
from caloray.interrupt import StopRequest
from caloray.tracking import Tracker
from caloray.training.files import ComponentFolder, ComponentResult
from caloray.training.run import finished_result
from caloray.training.warm import WarmStart

ShowProgress = Callable[[Sequence[ComponentState]], None]
AS_FITS = Room()
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
    room: Room = AS_FITS,
) -> dict[str, Outcome]:
    """Train all jobs, as many at once as there is room for; what is finished already is kept.

    Args:
        jobs: One per component, in the scheme's order.
        feed: Where the rows come from.
        workers: Resources by component.
        run: The run directory; Ray keeps its own notes in ``run/ray`` while it trains.
        stop: Ends the training at the next step boundary, with a checkpoint.
        tracker: Told about every epoch and every end.
        show: Called about twice a second with the state of every component.
        grace: Seconds that workers get for their checkpoint after a stop.
        room: Bound on trainers at the same time.

    Returns:
        For each component its result or the error that ended it.

    Raises:
        InterruptedRunError: ``stop`` was requested; the same call continues.
        IntegrityError: A finished component belongs to another config or was altered.
        ConfigError: A component starts from the weights of one that is neither trained nor to be trained.
    """
    layers = LayerFeed({split: feed.paths(split) for split in SPLITS}, feed.manifest.readout)
    crew = _Crew(layers, workers, run, room, stop, tracker)
    crew.admit(jobs)
    watch = _Watch(jobs, crew, tracker, show)
    stop.check("training")
    while crew.advance():
        time.sleep(_POLL)
        watch.look()
        if stop.requested:
            _stop(list(crew.running.values()), stop, grace)
            raise stop.error("training")
    watch.look()
    _LOG.info("layers in the object store: at most %.1f MB", layers.peak / 1e6)
    return {job.name: crew.outcomes[job.name] for job in jobs}


class _Crew:
    """Waiting, running and ended components."""

    def __init__(
        self,
        feed: LayerFeed,
        workers: Mapping[str, WorkerConfig],
        run: Path,
        room: Room,
        stop: StopRequest,
        tracker: Tracker,
    ) -> None:
        self.waiting: dict[str, ComponentJob] = {}
        self.running: dict[str, Training] = {}
        self.outcomes: dict[str, Outcome] = {}
        self._feed, self._workers, self._run = feed, workers, run
        self._room, self._stop, self._tracker = room, stop, tracker

    def admit(self, jobs: Sequence[ComponentJob]) -> None:
        """Sort out what is finished; the rest waits."""
        for job in jobs:
            job.stop_file.unlink(missing_ok=True)
            ready = job if job.after in self.waiting else _resolved(job)
            finished = None if ready.after else finished_result(ready.request)
            if finished is not None:
                self._end(job.name, finished)
                continue
            self.waiting[job.name] = ready
            for line in ComponentFolder(job.request.directory).checkpoints.damaged():
                _LOG.warning("%s", line)

    def advance(self) -> bool:
        """Note what has ended and start what has room; whether anything is left to be done."""
        for name, training in list(self.running.items()):
            if not training.is_alive():
                del self.running[name]
                self._end(name, training.outcome())
        for job in list(self.waiting.values()):
            ready = self._ready(job)
            if ready is not None and not self._started(ready):
                break
        soon = list(self.waiting.values())[: max(1, len(self.running))]
        used = [*(training.job for training in self.running.values()), *soon]
        self._feed.keep({(layer, job.sums) for job in used for layer in job.layers})
        return bool(self.running or self.waiting)

    def _ready(self, job: ComponentJob) -> ComponentJob | None:
        """The job as it can be started now; None while it waits for another one, or if it has ended so."""
        if job.after in self.waiting or job.after in self.running:
            return None
        if job.after is None:
            return job
        if isinstance(self.outcomes.get(job.after), CaloRayError):
            self._end(job.name, _without(job))
            return None
        try:
            ready = _resolved(job)
            finished = finished_result(ready.request)
        except CaloRayError as error:
            self._end(job.name, error)
            return None
        if finished is not None:
            self._end(job.name, finished)
            return None
        self.waiting[job.name] = ready
        return ready

    def _started(self, job: ComponentJob) -> bool:
        """Start a trainer if there is room."""
        workers = self._workers[job.name]
        if not self._room.has([t.demand for t in self.running.values()], demand_of(job, workers)):
            return False
        del self.waiting[job.name]
        self.running[job.name] = Training(job, self._feed, workers, self._run, self._stop)
        self.running[job.name].start()
        return True

    def _end(self, name: str, outcome: Outcome) -> None:
        self.waiting.pop(name, None)
        self.outcomes[name] = outcome
        if isinstance(outcome, InterruptedRunError):
            self._tracker.component_ended(name, "KILLED")
        elif isinstance(outcome, CaloRayError):
            named = "" if name in outcome.message else f"component {name}: "
            _LOG.error("%s%s; the others go on", named, outcome.message)
            self._tracker.component_ended(name, "FAILED")
        else:
            self._tracker.component_ended(name, "FINISHED")


class _Watch:
    """Looks at all components from the driver: progress and tracking."""

    def __init__(
        self, jobs: Sequence[ComponentJob], crew: _Crew, tracker: Tracker, show: ShowProgress | None
    ) -> None:
        self._jobs, self._crew, self._tracker, self._show = jobs, crew, tracker, show
        self._readers = {job.name: ProgressReader(job.name, job.request.directory) for job in jobs}
        self._last: dict[str, ComponentProgress | None] = {}
        self._tracked = time.monotonic()

    def look(self) -> None:
        if self._show is not None:
            self._show([self._state(job) for job in self._jobs])
        if time.monotonic() - self._tracked >= _TRACK_EVERY:
            self._tracker.poll()
            self._tracked = time.monotonic()

    def _state(self, job: ComponentJob) -> ComponentState:
        name, outcome = job.name, self._crew.outcomes.get(job.name)
        if name in self._crew.waiting:
            return ComponentState(name, "waiting", note=f"after {job.after}" if job.after else "")
        if outcome is None or name not in self._last:
            self._last[name] = self._readers[name].read()
        now = self._last[name]
        if outcome is None:
            return ComponentState(name, "running", now)
        if isinstance(outcome, ComponentResult):
            return ComponentState(name, "done", now)
        return ComponentState(name, "failed", now, outcome.message)


def _resolved(job: ComponentJob) -> ComponentJob:
    """The job with the weights that it starts from, which are trained by now.

    Raises:
        ConfigError: They are not.
        CheckpointError: They were altered.
    """
    if job.after is None:
        return job
    folder = ComponentFolder(job.request.directory.parent / job.after)
    result = folder.result()
    if result is None:
        raise ConfigError(
            f"component {job.name} starts from the weights of {job.after}, which is not trained",
            hint=f"train {job.after} first or with it, or set training.{job.name}.warm_start: null",
        )
    warm = WarmStart(job.after, folder.weights_file, result.sha256)
    return replace(job, after=None, request=replace(job.request, warm=warm))


def _without(job: ComponentJob) -> CaloRayError:
    return ClusterError(
        f"component {job.name} was not started: {job.after}, whose weights it starts from, failed",
        hint="the same command trains both",
    )


def _stop(running: Sequence[Training], stop: StopRequest, grace: float) -> None:
    """Ask the workers for a checkpoint and wait for it, but not for ever."""
    for training in running:
        write_bytes(training.job.stop_file, f"{stop.signal}\n".encode())
    deadline = time.monotonic() + grace
    for training in running:
        training.join(max(0.0, deadline - time.monotonic()))
