"""Pieces of many requests sampled together, each exactly as if it were alone.

While one batch is being sampled, the pieces of the next one gather; nobody waits for company that does not
come. What a piece gives depends on the piece alone (:meth:`caloray.bundle.Bundle.make_pieces`), so it does
not matter which pieces share a batch, in which order they come, or which process makes them.
"""

from __future__ import annotations

__all__ = ["JointSampler", "PieceSampler"]

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from caloray.bundle import Piece
from caloray.errors import NumericalError
from caloray.io.shower_stream import ATTEMPTS, encode_part
from caloray.io.sparse import SparseShowers
from caloray.serving.fair import FairQueue
from caloray.serving.pieces import Made, PieceOrder
from caloray.showers import Showers

if TYPE_CHECKING:
    from caloray.schemes.component import Sampled


class PieceSampler(Protocol):
    """A model that samples rows of several blocks together; :class:`caloray.bundle.Bundle` is one."""

    @property
    def condition_names(self) -> Sequence[str]:
        """Conditions of the model, in its order."""

    @property
    def block_size(self) -> int:
        """Showers of a block."""

    def make_pieces(self, pieces: Sequence[Piece]) -> list[Sampled]:
        """The showers of each piece, whatever the others are."""


@dataclass(eq=False)
class _Job:
    """A piece on its way: what is there of it, and which rows still have to be drawn."""

    order: PieceOrder
    owner: str
    done: asyncio.Future[Made]
    arrived: float
    attempt: int = 0
    batch_rows: int = 0
    voxels: np.ndarray | None = None
    attempts: np.ndarray = field(init=False)
    missing: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.attempts = np.zeros(len(self.order), dtype=np.uint8)
        self.missing = np.arange(len(self.order))

    def pieces(self) -> list[Piece]:
        """The missing rows as runs of consecutive rows, at the current attempt."""
        order = self.order
        whole = Piece(order.seed, order.block, order.energies, order.start, conditions=order.conditions)
        return whole.runs(self.missing, self.attempt)

    def take(self, voxels: np.ndarray) -> None:
        """Put the missing rows (m, n_voxels) in place and find out which are invalid."""
        if self.voxels is None:
            self.voxels = voxels
        else:
            self.voxels[self.missing] = voxels
        self.attempts[self.missing] = self.attempt
        valid = (np.isfinite(voxels) & (voxels >= 0)).all(axis=1)
        self.missing = self.missing[~valid]
        self.attempt += 1


class JointSampler:
    """Samples pieces as they come, many in a batch.

    Two threads work for it, so that the event loop stays free: one samples, the other one packs what is done.

    Args:
        sampler: The model.
        batch_rows: Most showers of a batch; a single piece may have more.
        crowd_rows: Most of them when several requests wait: smaller batches cost a little more time in all,
            and let small requests through sooner. As many as in other batches if omitted.
        max_attempts: Redraws that an invalid shower may have.
        linger: Seconds that an idle sampler waits for company before it starts.
    """

    def __init__(
        self,
        sampler: PieceSampler,
        *,
        batch_rows: int,
        crowd_rows: int | None = None,
        max_attempts: int = 10,
        linger: float = 0.0,
    ) -> None:
        self._sampler = sampler
        self._room = batch_rows
        self._crowd_room = batch_rows if crowd_rows is None else crowd_rows
        self._max_attempts = max_attempts
        self._linger = linger
        self._queue: FairQueue[_Job] = FairQueue()
        self._sampling = ThreadPoolExecutor(1, thread_name_prefix="sampling")
        self._packing = ThreadPoolExecutor(1, thread_name_prefix="packing")
        self._worker: asyncio.Task[None] | None = None
        self._began: float | None = None

    @property
    def busy_for(self) -> float:
        """Seconds since the batch that is being sampled was begun; 0 if there is none."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def make(self, order: PieceOrder, owner: str) -> Made:
        """The showers of one piece.

        Args:
            order: The piece.
            owner: Name of the request that it belongs to; requests take turns.

        Raises:
            NumericalError: A shower was invalid in the first draw and in every redraw.
        """
        loop = asyncio.get_running_loop()
        job = _Job(order, owner, loop.create_future(), time.monotonic())
        self._enqueue(job)
        return await job.done

    def close(self) -> None:
        """Stop the threads; what is being sampled is finished first."""
        self._sampling.shutdown()
        self._packing.shutdown()

    def _enqueue(self, job: _Job) -> None:
        self._queue.push(job, job.owner, len(job.missing))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        """Batch after batch until nothing waits."""
        if self._linger:
            await asyncio.sleep(self._linger)
        while jobs := self._next():
            await self._sample(jobs)

    def _next(self) -> list[_Job]:
        """The jobs of the next batch, without those that nobody waits for any more."""
        while jobs := self._queue.take(self._crowd_room if self._queue.owners > 1 else self._room):
            if wanted := [job for job in jobs if not job.done.done()]:
                return wanted
        return []

    async def _sample(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        future = loop.run_in_executor(self._sampling, self._draw, jobs)
        await asyncio.wait([future])
        self._began = None
        if error := future.exception():
            await self._blame(jobs, error)
            return
        for job in jobs:
            if not len(job.missing):
                packed = loop.run_in_executor(self._packing, self._pack, job)
                packed.add_done_callback(partial(_settle, job))
            elif job.attempt > self._max_attempts:
                _fail(job, _failure(job, self._max_attempts))
            elif not job.done.done():
                self._queue.push(job, job.owner, len(job.missing))

    async def _blame(self, jobs: list[_Job], error: BaseException) -> None:
        """After a batch that failed: those of its jobs that fail alone, too, have failed."""
        if len(jobs) == 1:
            _fail(jobs[0], error)
            return
        for job in jobs:
            if not job.done.done():
                await self._sample([job])

    def _draw(self, jobs: list[_Job]) -> None:
        """Sample the missing rows of all jobs in one call; if that fails, no job has changed."""
        parts = [job.pieces() for job in jobs]
        drawn = iter(self._sampler.make_pieces([piece for pieces in parts for piece in pieces]))
        rows = sum(len(job.missing) for job in jobs)
        voxels = [np.concatenate([next(drawn).voxels for _ in pieces]) for pieces in parts]
        for job, found in zip(jobs, voxels, strict=True):
            job.batch_rows = max(job.batch_rows, rows)
            job.take(found)

    def _pack(self, job: _Job) -> Made:
        order, names = job.order, tuple(self._sampler.condition_names)
        table = order.conditions
        columns = {} if table is None else dict(zip(names, table.T, strict=True))
        ids = np.arange(order.first, order.first + len(order), dtype=np.int64)
        voxels = np.empty((0, 0)) if job.voxels is None else job.voxels
        showers = SparseShowers.of(Showers(order.energies, voxels, ids, columns), {ATTEMPTS: job.attempts})
        return Made(
            payload=encode_part(showers, names),
            rows=len(order),
            redrawn=int((job.attempts > 0).sum()),
            batch_rows=job.batch_rows,
            seconds=time.monotonic() - job.arrived,
        )


def _settle(job: _Job, packed: asyncio.Future[Made]) -> None:
    if error := packed.exception():
        _fail(job, error)
    elif not job.done.done():
        job.done.set_result(packed.result())


def _fail(job: _Job, error: BaseException) -> None:
    if not job.done.done():
        job.done.set_exception(error)


def _failure(job: _Job, redraws: int) -> NumericalError:
    order = job.order
    ids = [order.first + int(row) for row in job.missing]
    return NumericalError(
        f"block {order.block}, seed {order.seed}: {len(ids)} showers are invalid after {redraws} redraws",
        hint="look at these events with `caloray generate --ids`",
        block=order.block,
        seed=order.seed,
        ids=ids[:100],
        redraws=redraws,
    )
