"""How many trainers a cluster has room for, told from its resources before they are asked for.

Ray would queue any number of trainers, but each of them costs processes of its own while it waits. The
count is a forecast: Ray places the workers itself, and waits where the forecast was too kind.
"""

from __future__ import annotations

__all__ = ["Demand", "Room", "fits"]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

CONTROLLER = 400 << 20
"""Memory of the process with which Ray Train watches one trainer's workers, measured [bytes]."""
_LITTLE = 1e-9


@dataclass(frozen=True)
class Demand:
    """What one trainer takes.

    Args:
        worker: Resources of each worker, as Ray names them ("CPU", "GPU", "memory" in bytes).
        workers: Number of workers.
    """

    worker: Mapping[str, float]
    workers: int = 1


@dataclass(frozen=True)
class Room:
    """The bound on trainers at the same time.

    Args:
        limit: Most trainers; None: as many as have room.
        grows: Whether the cluster may grow when more is asked of it than it has; then ``limit`` alone counts,
            if there is one.
    """

    limit: int | None = None
    grows: bool = False

    def has(self, running: Sequence[Demand], wanted: Demand) -> bool:
        """Whether one more trainer may start beside the running ones; the first always may."""
        if not running:
            return True
        if self.limit is not None and (len(running) >= self.limit or self.grows):
            return len(running) < self.limit
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return fits(nodes, [*running, wanted])


def fits(nodes: Sequence[Mapping[str, float]], demands: Sequence[Demand]) -> bool:
    """Whether all workers find a node, each put on the first one that has enough left."""
    left = [dict(node) for node in nodes]
    for demand in demands:
        for _ in range(demand.workers):
            if not _placed(left, demand.worker):
                return False
    return True


def _placed(left: Sequence[dict[str, float]], worker: Mapping[str, float]) -> bool:
    for node in left:
        if all(node.get(name, 0.0) + _LITTLE >= amount for name, amount in worker.items()):
            for name, amount in worker.items():
                node[name] -= amount
            return True
    return False
