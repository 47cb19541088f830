"""How much work may wait: beyond it a request is sent away at once, told when to come back."""

from __future__ import annotations

__all__ = ["Admission", "Ticket"]

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from caloray.serving.problems import busy

MEMORY = 20.0
"""Seconds over which the speed of the recent past is averaged."""
LONGEST = 60
RESERVE = 8
"""The share (1/8) of requests kept for small ones, so that large ones cannot lock them out."""


class Admission:
    """Counts requests and showers under way.

    Args:
        max_requests: Most requests at the same time.
        max_showers: Most showers in them; a single request may have more.
        small: Requests up to this many showers may use the whole of ``max_requests`` and are not held up by
            ``max_showers``.
        clock: Seconds.
    """

    def __init__(
        self,
        max_requests: int,
        max_showers: int,
        small: int = 100,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.requests = 0
        self.showers = 0
        self._max_requests = max_requests
        self._max_showers = max_showers
        self._small = small
        self._clock = clock
        self._told = clock()
        self._rate = 0.0

    def enter(self, showers: int) -> Ticket:
        """Let a request in.

        Raises:
            Problem: 503: there are enough.
        """
        if not self._has_room(showers):
            raise busy(self.retry_after())
        self.requests += 1
        self.showers += showers
        return Ticket(self, showers)

    def retry_after(self) -> int:
        """Whole seconds until, at the speed of the recent past, half of what is under way will be done."""
        self._age()
        speed = self._rate / MEMORY
        return min(LONGEST, max(1, math.ceil(self.showers / 2 / speed))) if speed > 0 else 2

    def finished(self, showers: int) -> None:
        """Count showers that were made."""
        self._age()
        self._rate += showers

    def leave(self, showers: int) -> None:
        """Take a request out again."""
        self.requests -= 1
        self.showers -= showers

    def _has_room(self, showers: int) -> bool:
        if showers <= self._small:
            return self.requests < self._max_requests
        if self.requests >= self._max_requests - self._max_requests // RESERVE:
            return False
        return not self.showers or self.showers + showers <= self._max_showers

    def _age(self) -> None:
        now = self._clock()
        self._rate *= math.exp(-(now - self._told) / MEMORY)
        self._told = now


@dataclass
class Ticket:
    """A request's place; given back once, however often it is asked for."""

    admission: Admission
    showers: int
    valid: bool = True

    def release(self) -> None:
        """Give the place back."""
        if self.valid:
            self.valid = False
            self.admission.leave(self.showers)
