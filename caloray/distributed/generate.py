"""Mass production over Ray workers: the shards of :mod:`caloray.generation`, wherever there is room.

Every worker process loads the bundle once and keeps it. Who makes which shard, how often and in which order
leaves no trace in the result.
"""

from __future__ import annotations

__all__ = ["GenerationLoad", "generate_with_ray"]

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from caloray.bundle import Bundle
from caloray.distributed.session import Session
from caloray.distributed.tasks import Load, map_tasks
from caloray.flows.inverse import Backend
from caloray.generation.plan import GenerationPlan
from caloray.generation.receipts import Receipt
from caloray.generation.run import produce
from caloray.generation.shard import Progress, make_shard, require_model
from caloray.interrupt import watch_signals
from caloray.io.manifest import Manifest

MEMORY = 1 << 30
"""Bytes set aside for one shard under way: the libraries, the weights, a block and a row group."""


@dataclass(frozen=True)
class GenerationLoad:
    """What a production may take.

    Args:
        cpus: Logical CPUs of one worker.
        gpus: GPUs (or the fraction of one) that one worker samples on.
        workers: Most shards under way at once; None: as many as the cluster has room for.
        backend: What inverts the flows; "auto" takes each worker's fastest.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int | None = None
    backend: Backend = "auto"

    @property
    def device(self) -> str:
        """Where the flows run."""
        return "cuda" if self.gpus else "cpu"


@dataclass(frozen=True)
class _Piece:
    """One shard of a request, as it travels to a worker."""

    bundle: Path
    device: str
    backend: Backend
    plan: GenerationPlan
    index: int


def generate_with_ray(
    session: Session,
    bundle: Path,
    plan: GenerationPlan,
    directory: Path,
    progress: Progress | None = None,
    load: GenerationLoad | None = None,
) -> Manifest:
    """Make all showers of ``plan``, with the same bytes as :func:`caloray.generation.run.generate`.

    Args:
        session: An open Ray session.
        bundle: The model, on a file system that all nodes see.
        plan: The request.
        directory: Where the shards go, on a file system that all nodes see.
        progress: Called with the number of showers that were finished since the last call.
        load: Resources of one worker.

    Raises:
        BundleError: The bundle is damaged or not the one of the plan.
        NumericalError: Invalid showers.
        StorageError: The directory is another request's, is in use, or the disk is full.
        ClusterError: Workers kept dying, or a node does not see the directory.
        InterruptedRunError: After SIGTERM or SIGINT; the same call continues.
    """
    bundle, directory = bundle.absolute(), directory.absolute()
    load = load or GenerationLoad()
    require_model(Bundle.load(bundle), plan)
    needs = Load(cpus=load.cpus, gpus=load.gpus, memory=MEMORY, in_flight=load.workers)
    session.require(needs.resources(), "generation")

    with watch_signals() as stop:

        def on_workers(indices: Sequence[int]) -> Iterator[Receipt]:
            session.check_directory(directory)
            pieces = [_Piece(bundle, load.device, load.backend, plan, index) for index in indices]
            for _, receipt in map_tasks(_make, pieces, directory, needs, what="generation", stop=stop):
                if progress is not None:
                    progress(receipt.rows)
                yield receipt

        return produce(plan, directory, on_workers, progress)


def _make(piece: _Piece, directory: Path) -> Receipt:
    """Runs on a worker."""
    sampler = _loaded(piece.bundle, piece.plan.bundle_digest, piece.device, piece.backend)
    return make_shard(sampler, piece.plan, piece.index, directory)


@lru_cache(maxsize=1)
def _loaded(bundle: Path, digest: str, device: str, backend: Backend) -> Bundle:
    """The bundle, once per worker process; the digest is part of the key should the directory be replaced."""
    del digest
    return Bundle.load(bundle, device=device, backend=backend)
