"""A request cut into pieces: some rows of one block each, small enough that nobody waits long behind one."""

from __future__ import annotations

__all__ = ["Made", "PieceOrder", "cut", "in_order"]

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

from caloray.serving.models import Order


@dataclass(frozen=True, eq=False)
class PieceOrder:
    """Rows ``start`` to ``start + k - 1`` of one block of a request.

    Args:
        seed: Of the request.
        block: Index of the block.
        start: First row in the block.
        first: Id of the first shower.
        energies: (k,) float64 [MeV].
        conditions: (k, P) float64 in the model's order; None for a model without.
    """

    seed: int
    block: int
    start: int
    first: int
    energies: np.ndarray
    conditions: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.energies)


@dataclass(frozen=True)
class Made:
    """A finished piece.

    Args:
        payload: Its record batch, a message of :mod:`caloray.io.shower_stream`.
        rows: Showers in it.
        redrawn: How many of them were invalid at first and drawn again.
        batch_rows: Rows of the joint batch that it was sampled in.
        seconds: From its arrival in the queue to its end.
    """

    payload: bytes
    rows: int
    redrawn: int
    batch_rows: int
    seconds: float


def cut(order: Order, rows: int) -> list[PieceOrder]:
    """The pieces of a request, in order.

    They end where a block does, and within a block at multiples of ``rows``, so that they depend on the
    request alone.
    """
    size = order.model.block_size
    pieces, at, end = [], order.first, order.first + len(order)
    while at < end:
        block, start = divmod(at, size)
        stop = min(end, block * size + min(size, (start // rows + 1) * rows))
        chosen = slice(at - order.first, stop - order.first)
        conditions = None if order.conditions is None else order.conditions[chosen]
        pieces.append(PieceOrder(order.seed, block, start, at, order.energies[chosen], conditions))
        at = stop
    return pieces


async def in_order(
    pieces: Iterable[PieceOrder], make: Callable[[PieceOrder], Awaitable[Made]], window: int
) -> AsyncGenerator[Made, None]:
    """The finished pieces in their order, at most ``window`` of them under way or waiting to be taken.

    Whoever stops early cancels what is under way.
    """
    waiting = iter(pieces)
    tasks = deque(asyncio.ensure_future(make(piece)) for piece in islice(waiting, window))
    try:
        while tasks:
            made = await tasks[0]
            tasks.popleft()
            tasks.extend(asyncio.ensure_future(make(piece)) for piece in islice(waiting, 1))
            yield made
    finally:
        for task in tasks:
            task.cancel()
