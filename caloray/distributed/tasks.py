"""Many independent pieces of work over Ray workers, with a bounded number under way.

The pieces themselves are idempotent and commit their own output (shard, then receipt), so a piece that
died with its worker is simply run again, and what a piece returns never matters for the result on disk.
Every running piece leaves a note of its process (:mod:`caloray.io.worker_notes`).
"""

from __future__ import annotations

__all__ = ["Load", "map_tasks"]

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import OutOfMemoryError, RayError

from caloray.distributed.failures import translated
from caloray.interrupt import StopRequest
from caloray.io.worker_notes import announced, forget

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
_LOG = logging.getLogger(__name__)
_POLL = 0.5
_STOP_GRACE = 1.0


@dataclass(frozen=True)
class Load:
    """What one piece of work takes.

    Args:
        cpus: Logical CPUs.
        gpus: GPUs or fractions of one.
        memory: Bytes that the scheduler sets aside for it; bounds the pieces per node.
        in_flight: Most pieces submitted at once; None: twice what the cluster can run.
        retries: How often a piece is run again after its worker died.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    in_flight: int | None = None
    retries: int = 3

    def resources(self) -> dict[str, float]:
        """As Ray names them."""
        named = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory)}
        return {key: amount for key, amount in named.items() if amount}


def map_tasks(
    work: Callable[[Item, Path], Outcome],
    items: Sequence[Item],
    directory: Path,
    load: Load,
    *,
    what: str,
    stop: StopRequest,
) -> Iterator[tuple[int, Outcome]]:
    """Run ``work(item, directory)`` for every item; yield (index, outcome) as they end.

    The first error is raised after the pieces that still run have been stopped.

    Args:
        work: A module-level function, idempotent, that writes below ``directory``.
        items: One per piece.
        directory: Output directory, seen by all nodes.
        load: Resources of one piece.
        what: Name of the work in messages ("ingest", "generation").
        stop: Asked between pieces.

    Raises:
        CaloRayError: What the work itself raised.
        ClusterError: Workers kept dying.
        InterruptedRunError: A stop was asked for.
    """
    waiting = deque(range(len(items)))
    running: dict[Any, int] = {}
    alone: set[int] = set()
    room = load.in_flight or _room(load)
    function = _remote(load)
    try:
        while waiting or running:
            while waiting and len(running) < room:
                index = waiting.popleft()
                running[function.remote(work, items[index], directory, index)] = index
            ready, _ = ray.wait(list(running), num_returns=1, timeout=_POLL)
            stop.check(what)
            for reference in ready:
                index = running.pop(reference)
                try:
                    outcome = ray.get(reference)
                except OutOfMemoryError as error:
                    if index in alone:
                        raise translated(error, what, index) from error
                    _LOG.warning("%s: piece %d ran out of memory and is run again alone", what, index)
                    alone.add(index)
                    waiting.append(index)
                    room = 1
                except RayError as error:
                    raise translated(error, what, index) from error
                else:
                    yield index, outcome
    finally:
        _abandon(list(running))
    forget(directory)


def _remote(load: Load) -> Any:
    """The Ray function that carries out one piece."""
    options: dict[str, Any] = {"num_cpus": load.cpus, "num_gpus": load.gpus, "max_retries": load.retries}
    if load.memory:
        options["memory"] = load.memory
    return ray.remote(**options)(_piece)


def _piece(work: Callable[[Any, Path], object], item: object, directory: Path, index: int) -> object:
    with announced(directory, f"{index:05d}"):
        return work(item, directory)


def _room(load: Load) -> int:
    total = ray.cluster_resources()
    fits = [total.get(key, 0.0) / amount for key, amount in load.resources().items()]
    return max(2, 2 * int(min(fits, default=1.0)))


def _abandon(references: list[Any]) -> None:
    """Stop pieces that nobody waits for any more, and give them a moment to die."""
    for reference in references:
        ray.cancel(reference, force=True, recursive=True)
    if references:
        ray.wait(references, num_returns=len(references), timeout=_STOP_GRACE)
