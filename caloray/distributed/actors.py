"""Warm workers: Ray actors that prepare once (load a model) and then carry out one piece after the other.

A piece is idempotent and commits its own output, so one whose worker or node died is simply given to another
worker, and a worker that died is replaced by a new one. The pool follows the cluster: as nodes come and go,
so do workers; those that find no place yet are what an autoscaler sees as demand.
"""

from __future__ import annotations

__all__ = ["Pool", "map_actors"]

import logging
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)

from caloray.distributed.failures import last_line, translated
from caloray.distributed.session import places_for
from caloray.errors import ClusterError
from caloray.interrupt import StopRequest
from caloray.io.worker_notes import FOLDER, announced

Outcome = TypeVar("Outcome")
Prepare = Callable[[], Callable[[int], Outcome]]
"""Runs once in every worker and gives the function that makes a piece."""

_LOG = logging.getLogger(__name__)
_LOST = (NodeDiedError, ObjectLostError, OutOfMemoryError, RayActorError, WorkerCrashedError)
_POLL = 0.5
_PATIENCE = 2.0
_STOP_GRACE = 0.4
_LOOK_EVERY = 5.0
_MOST_PENDING = 32
POISON = 3
"""A piece that this many workers died of is not tried again."""


@dataclass(frozen=True)
class Pool:
    """The workers.

    Args:
        cpus: Logical CPUs of each.
        gpus: GPUs or fractions of one of each.
        memory: Bytes that the scheduler sets aside for each; bounds the workers per node.
        workers: How many at most; None: as many as there is room for.
        max_restarts: How many may die before the work is given up. Those whose node was taken away do not
            count.
        grows: Whether the cluster may grow on demand, so that more workers than have room are asked for.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    workers: int | None = None
    max_restarts: int = 20
    grows: bool = False

    def resources(self) -> dict[str, float]:
        """As Ray names them."""
        named = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {key: amount for key, amount in named.items() if amount}


def map_actors(
    prepare: Prepare[Outcome],
    pieces: Sequence[int],
    directory: Path,
    pool: Pool,
    *,
    what: str,
    stop: StopRequest,
) -> Iterator[Outcome]:
    """Make every piece on a pool of warm workers; yield the outcomes as they come.

    The first error that the work itself raises ends everything; the workers are stopped in any case.

    Args:
        prepare: Runs once in every worker.
        pieces: Numbers of the pieces.
        directory: Output directory, seen by all nodes; workers leave their notes there.
        pool: The workers.
        what: Name of the work in messages.
        stop: Asked twice a second.

    Raises:
        CaloRayError: What the work itself raised.
        ClusterError: A piece that kills its workers, or too many workers died.
        InterruptedRunError: A stop was asked for.
    """
    crew = _Crew(prepare, pieces, directory, pool, what)
    try:
        while crew.busy:
            crew.recruit()
            ready, _ = ray.wait(list(crew.duties), num_returns=1, timeout=_POLL)
            stop.check(what)
            for reference in ready:
                yield from crew.settle(reference)
    finally:
        crew.dismiss()


class _Worker:
    """Runs in a Ray process of its own."""

    def __init__(self, prepare: Prepare[Any], directory: Path) -> None:
        self._prepare, self._directory = prepare, directory
        self._make: Callable[[int], Any] | None = None

    def get_ready(self) -> str:
        """Prepare; the reply is the id of the node."""
        self._make = self._prepare()
        return str(ray.get_runtime_context().get_node_id())

    def make(self, piece: int) -> Any:
        """Carry out one piece."""
        if self._make is None:
            self._make = self._prepare()
        with announced(self._directory, f"{piece:05d}"):
            return self._make(piece)


@dataclass
class _Duty:
    """What one worker is at.

    Args:
        worker: Handle of the actor.
        piece: The piece that it makes; None while it gets ready.
        node: Where it runs, once it is ready.
    """

    worker: Any
    piece: int | None = None
    node: str = ""


class _Crew(Generic[Outcome]):
    """The workers of one run, and what is left to do."""

    def __init__(
        self, prepare: Prepare[Outcome], pieces: Sequence[int], directory: Path, pool: Pool, what: str
    ) -> None:
        self.duties: dict[Any, _Duty] = {}
        self._prepare, self._directory, self._pool, self._what = prepare, directory, pool, what
        self._waiting = deque(pieces)
        self._deaths: Counter[int] = Counter()
        self._restarts = 0
        self._limit = pool.workers
        self._room, self._next_look = 0, 0.0
        options: dict[str, Any] = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "max_restarts": 0}
        if pool.memory:
            options["memory"] = pool.memory
        self._actor = ray.remote(**options)(_Worker)

    @property
    def busy(self) -> bool:
        """Whether a piece is waiting or being made."""
        return bool(self._waiting) or any(duty.piece is not None for duty in self.duties.values())

    def recruit(self) -> None:
        """Start workers until there are as many as wanted."""
        at_work = sum(duty.piece is not None for duty in self.duties.values())
        wanted = min(at_work + len(self._waiting), self._places())
        while len(self.duties) < wanted:
            worker = self._actor.remote(self._prepare, self._directory)
            self.duties[worker.get_ready.remote()] = _Duty(worker)

    def settle(self, reference: Any) -> Iterator[Outcome]:
        """Take what a worker gave, and give it something new to do."""
        duty = self.duties.pop(reference)
        try:
            outcome = ray.get(reference)
        except _LOST as error:
            self._lost(duty, error)
            return
        except RayError as error:
            raise translated(error, self._what, duty.piece) from error
        if duty.piece is None:
            duty.node = outcome
        if self._waiting:
            piece = self._waiting.popleft()
            self.duties[duty.worker.make.remote(piece)] = _Duty(duty.worker, piece, duty.node)
        else:
            ray.kill(duty.worker)
        if duty.piece is not None:
            yield outcome

    def dismiss(self) -> None:
        """Stop all workers, whatever they are at, and give them a moment to die."""
        for duty in self.duties.values():
            ray.kill(duty.worker)
        if self.duties:
            ray.wait(list(self.duties), num_returns=len(self.duties), timeout=_STOP_GRACE)

    def _places(self) -> int:
        """How many workers there may be, those that still wait for a place included."""
        if self._limit is not None:
            return self._limit
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + _LOOK_EVERY
            self._room = places_for(self._pool.resources())
        if not self._pool.grows:
            return max(1, self._room)
        placed = sum(bool(duty.node) for duty in self.duties.values())
        return max(self._room, placed + min(max(placed, 1), _MOST_PENDING))

    def _lost(self, duty: _Duty, error: RayError) -> None:
        """Give the piece of a dead worker back, unless workers keep dying of it."""
        ray.kill(duty.worker)  # it may only have been out of reach
        reason = last_line(error)
        node_lost = _node_lost(duty, error)
        if duty.piece is not None:
            self._waiting.appendleft(duty.piece)
            (self._directory / FOLDER / f"{duty.piece:05d}.json").unlink(missing_ok=True)
        if node_lost:
            _LOG.warning("%s: a node is gone; what it was at is made again elsewhere", self._what)
            return
        if _out_of_memory(error):
            self._limit = max(1, len(self.duties))
            _LOG.warning("%s: out of memory, on with %d workers at once", self._what, self._limit)
        self._restarts += 1
        at = "getting ready" if duty.piece is None else f"making piece {duty.piece}"
        if duty.piece is not None:
            self._deaths[duty.piece] += 1
            self._require_harmless(duty.piece, error)
        self._require_restarts(reason)
        limit = self._pool.max_restarts
        _LOG.warning("%s: a worker died %s and is replaced (%d of %d)", self._what, at, self._restarts, limit)

    def _require_harmless(self, piece: int, error: RayError) -> None:
        if self._deaths[piece] < POISON:
            return
        memory = _out_of_memory(error)
        raise ClusterError(
            f"{self._what}: piece {piece} killed its worker {POISON} times ({last_line(error)})",
            hint="use nodes with more memory, or a bundle with a smaller block_size"
            if memory
            else "look at the node's memory and system log; the same command tries it again",
            piece=piece,
        ) from error

    def _require_restarts(self, reason: str) -> None:
        if self._restarts > self._pool.max_restarts:
            raise ClusterError(
                f"{self._what}: {self._restarts} workers died, {self._pool.max_restarts} may ({reason})",
                hint="look at the nodes' memory and system log; the same command continues where this one "
                "ended, `workers.max_restarts` permits more",
            )


def _node_lost(duty: _Duty, error: RayError) -> bool:
    """Whether a worker died because its node did: taken away, or cut off.

    Ray notices a silent worker at once, a silent node after many seconds: where the error leaves it open, the
    node itself is asked.
    """
    if getattr(error, "preempted", False) or isinstance(error, NodeDiedError):
        return True
    if "node has died" in str(error):
        return True
    if not duty.node:
        return False
    node = next((node for node in ray.nodes() if node["NodeID"] == duty.node and node["Alive"]), None)
    if node is None:
        return True
    return isinstance(error, ActorUnavailableError) and not _answers(node)


def _answers(node: Mapping[str, Any]) -> bool:
    """Whether anybody listens where the node's raylet should."""
    try:
        with socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), _PATIENCE):
            return True
    except OSError:
        return False


def _out_of_memory(error: RayError) -> bool:
    return isinstance(error, OutOfMemoryError) or "low on memory" in str(error)
