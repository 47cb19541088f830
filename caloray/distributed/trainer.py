"""One component's Ray Train run in a thread of the driver."""

from __future__ import annotations

__all__ = ["Outcome", "Training", "demand_of", "reserved", "resources_of"]

import shutil
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import ray
from ray.exceptions import RayError
from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchTrainer

from caloray.atomic import digest_json
from caloray.config import WorkerConfig
from caloray.distributed.layer_feed import Columns
from caloray.distributed.loop import ComponentJob, component_loop
from caloray.distributed.room import CONTROLLER, Demand, fits
from caloray.errors import CaloRayError, ClusterError
from caloray.interrupt import StopRequest
from caloray.training.files import ComponentResult

Outcome = ComponentResult | CaloRayError


class Rows(Protocol):
    """Gives the layers of a component, as :class:`caloray.distributed.layer_feed.LayerFeed` does."""

    def columns(self, layers: Sequence[int], *, sums: bool = False) -> Columns:
        """References to ``layers``, or to their energies alone."""


LOST = ("WorkerHealthCheckFailedError", "ActorDiedError", "ActorUnavailableError", "WorkerCrashedError")


class Training(threading.Thread):
    """One component's trainer; a daemon, so that a trainer that hangs cannot keep the driver alive.

    Args:
        job: What to train.
        feed: Where its rows come from; the component's layers are read when the thread starts.
        workers: Resources.
        run: The run directory; Ray keeps its own notes in ``run/ray`` while it trains.
        stop: Looked at before the trainer is started.
    """

    def __init__(
        self, job: ComponentJob, feed: Rows, workers: WorkerConfig, run: Path, stop: StopRequest
    ) -> None:
        super().__init__(name=f"train-{job.name}", daemon=True)
        self.job = job
        self.demand = demand_of(job, workers)
        self._feed, self._workers, self._run, self._stopping = feed, workers, run, stop
        self._outcome: Outcome | None = None

    def run(self) -> None:
        """Run by ``start``."""
        try:
            self._outcome = self._fit()
        except CaloRayError as error:
            self._outcome = error
        except (TrainingFailedError, RayError, RuntimeError, ValueError, OSError, MemoryError) as error:
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
        columns = self._feed.columns(self.job.layers, sums=self.job.sums)
        self._stopping.check(f"training of {self.job.name}")
        name = _run_name(self._run, self.job)
        storage = self._run.absolute() / "ray"
        trainer = TorchTrainer(
            component_loop,
            train_loop_config={"job": self.job, "columns": columns},
            scaling_config=_scaling(self.job, self._workers),
            run_config=RunConfig(
                name=name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=self._workers.max_failures),
                logging_config=LoggingConfig(log_level="ERROR"),
            ),
        )
        try:
            outcome: Outcome = trainer.fit().return_value
        finally:
            shutil.rmtree(storage / name, ignore_errors=True)
        return outcome


def resources_of(workers: WorkerConfig) -> dict[str, float]:
    """Resources of one worker, as Ray names them."""
    return {"CPU": workers.cpus, **({"GPU": workers.gpus} if workers.gpus else {})}


def demand_of(job: ComponentJob, workers: WorkerConfig) -> Demand:
    """What a component's trainer takes, memory included."""
    memory = float(job.memory + CONTROLLER)
    return Demand({**resources_of(workers), "memory": memory}, workers.workers)


def _scaling(job: ComponentJob, workers: WorkerConfig) -> ScalingConfig:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return ScalingConfig(
        num_workers=workers.workers,
        use_gpu=workers.gpus > 0,
        resources_per_worker=reserved(resources_of(workers), job.memory, workers.workers, nodes),
    )


def reserved(
    resources: Mapping[str, float], memory: int, workers: int, nodes: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """What is asked of Ray for each worker: its resources, and its memory where all workers find it.

    The memory is an estimate; a request beyond what the nodes have would wait for ever.

    Args:
        resources: CPUs and GPUs of a worker, as Ray names them.
        memory: What it is expected to take [bytes]; 0 where that is not known.
        workers: Number of workers.
        nodes: Resources of each node.
    """
    wanted = {**resources, "memory": float(memory)}
    return wanted if memory and fits(nodes, [Demand(wanted, workers)]) else dict(resources)


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
    reason = f"training ended with {type(shown).__name__}: {lines[-1][:300] if lines else ''}"
    if type(shown).__name__ in LOST or "actor died" in str(shown):
        reason = "its worker died (killed, or out of memory) and was not restarted again"
    return ClusterError(
        f"component {name}: {reason}",
        hint="the checkpoints are kept: the same command continues (--debug shows the traceback)",
    )
