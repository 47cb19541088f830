"""Who is next: self-clocked fair queueing over requests, weighted by showers.

A piece carries the tag at which it would end if every request had its own equal share of the sampler; the
piece with the smallest tag goes first, and its tag is the time from which those that arrive then are counted.
A request of one shower therefore passes the thousands of showers of another one, requests of equal size take
turns, and nobody waits for ever (Golestani, "A self-clocked fair queueing scheme for broadband applications",
INFOCOM 1994).
"""

from __future__ import annotations

__all__ = ["FairQueue"]

import heapq
from typing import Generic, TypeVar

Item = TypeVar("Item")
CROWD = 64
"""Owners that are remembered before those that have caught up are looked for."""


class FairQueue(Generic[Item]):
    """Items of several owners, in the order in which they should be served."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, int, Item]] = []
        self._ends: dict[str, float] = {}
        self._waiting: dict[str, int] = {}
        self._now = 0.0
        self._count = 0
        self._crowd = CROWD

    def __len__(self) -> int:
        """Items that wait."""
        return len(self._heap)

    @property
    def owners(self) -> int:
        """Owners of the items that wait."""
        return len(self._waiting)

    def push(self, item: Item, owner: str, cost: int) -> None:
        """Let an item of an owner wait for its turn; ``cost`` in showers."""
        end = max(self._now, self._ends.get(owner, 0.0)) + cost
        self._ends[owner] = end
        self._waiting[owner] = self._waiting.get(owner, 0) + 1
        self._count += 1
        heapq.heappush(self._heap, (end, self._count, owner, cost, item))

    def take(self, room: int) -> list[Item]:
        """The next items whose costs together fit into ``room``, at least one if any waits."""
        taken: list[Item] = []
        while self._heap and (not taken or self._heap[0][3] <= room):
            self._now, _, owner, cost, item = heapq.heappop(self._heap)
            room -= cost
            taken.append(item)
            self._served(owner)
        return taken

    def _served(self, owner: str) -> None:
        """Forget owners that have caught up, so that the table does not grow for ever."""
        self._waiting[owner] -= 1
        if not self._waiting[owner]:
            del self._waiting[owner]
        if not self._heap:
            self._ends.clear()
        elif len(self._ends) > self._crowd:
            self._ends = {name: end for name, end in self._ends.items() if end > self._now}
            self._crowd = max(CROWD, 2 * len(self._ends))
