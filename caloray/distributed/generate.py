"""Mass production over Ray workers: the shards of :mod:`caloray.generation`, wherever there is room.

Every worker process loads the bundle once and keeps it. Who makes which shard, how often and in which order
leaves no trace in the result.
"""

from __future__ import annotations

__all__ = ["GenerationLoad", "generate_with_ray"]

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from caloray.bundle import Bundle
from caloray.distributed.actors import Pool, map_actors
from caloray.distributed.session import Session
from caloray.flows.inverse import Backend
from caloray.generation.plan import GenerationPlan
from caloray.generation.receipts import Receipt
from caloray.generation.run import Observer, produce
from caloray.generation.shard import Progress, make_shard, require_model
from caloray.interrupt import watch_signals
from caloray.io.manifest import Manifest

MEMORY = 1 << 30
"""Bytes set aside for one worker: the libraries, the weights, a block and a row group."""
GRACE = 1.0
"""Seconds after a signal when the driver is broken off wherever it is."""


@dataclass(frozen=True)
class GenerationLoad:
    """What a production may take.

    Args:
        cpus: Logical CPUs of one worker.
        gpus: GPUs (or the fraction of one) that one worker samples on.
        workers: Most workers at once; None: as many as the cluster has room for, and more as it grows.
        backend: What inverts the flows; "auto" takes each worker's fastest.
        max_restarts: Workers that may die.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int | None = None
    backend: Backend = "auto"
    max_restarts: int = 20

    @property
    def device(self) -> str:
        """Where the flows run."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class _Job:
    """A production as it travels to its workers."""

    bundle: Path
    device: str
    backend: Backend
    plan: GenerationPlan
    directory: Path
    counted: bool


def generate_with_ray(
    session: Session,
    bundle: Path,
    plan: GenerationPlan,
    directory: Path,
    progress: Progress | None = None,
    load: GenerationLoad | None = None,
    observer: Observer | None = None,
    *,
    counted: bool = False,
) -> Manifest:
    """Make all showers of ``plan``, with the same bytes as :func:`caloray.generation.run.generate`.

    Args:
        session: An open Ray session.
        bundle: The model, on a file system that all nodes see.
        plan: The request.
        directory: Where the shards go, on a file system that all nodes see.
        progress: Called with the number of showers that were finished since the last call.
        load: Resources of one worker.
        observer: Shown every receipt.
        counted: Whether the workers count what the bundle's quality reference asks for.

    Raises:
        BundleError: The bundle is damaged or not the one of the plan.
        NumericalError: Invalid showers, or what the observer found.
        StorageError: The directory is another request's, is in use, or the disk is full.
        ClusterError: Workers kept dying, or a node does not see the directory.
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
    """
    bundle, directory = bundle.absolute(), directory.absolute()
    load = load or GenerationLoad()
    model = Bundle.load(bundle)
    require_model(model, plan)
    pool = Pool(
        cpus=load.cpus,
        gpus=load.gpus,
        memory=MEMORY,
        workers=load.workers,
        max_restarts=load.max_restarts,
        grows=not session.owned,
    )
    session.require(pool.resources(), "generation")
    job = _Job(bundle, load.device, load.backend, plan, directory, counted)

    with watch_signals(grace=GRACE, what="generation") as stop:

        def on_workers(indices: Sequence[int]) -> Iterator[Receipt]:
            session.check_directory(directory)
            prepare = partial(_workshop, job)
            for receipt in map_actors(prepare, indices, directory, pool, what="generation", stop=stop):
                if progress is not None:
                    progress(receipt.planned)
                yield receipt

        return produce(plan, directory, on_workers, progress, observer, model.conditions)


def _workshop(job: _Job) -> Callable[[int], Receipt]:
    """Runs once on every worker: the model, loaded, and what makes a shard with it."""
    sampler = Bundle.load(job.bundle, device=job.device, backend=job.backend)
    require_model(sampler, job.plan)
    reference = sampler.quality if job.counted else None

    def make(index: int) -> Receipt:
        return make_shard(sampler, job.plan, index, job.directory, reference=reference)

    return make
