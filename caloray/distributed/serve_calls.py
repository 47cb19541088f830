"""Calls from a gateway to the replicas of a model, with another replica tried when one dies.

A piece is a pure function of its order, so it may be made twice; nothing of it is sent before it is whole.
"""

from __future__ import annotations

__all__ = ["Calls"]

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError, WorkerCrashedError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from caloray.errors import ClusterError, NumericalError, ServiceError
from caloray.serving.metrics import ServiceMetrics
from caloray.serving.models import Served
from caloray.serving.pieces import Made, PieceOrder
from caloray.serving.problems import Problem, busy, hopeless, not_ready

TRIES = 5
PAUSE = 0.1
FRESH = 2.0
PATIENCE = 3.0
_LOST = (RayActorError, WorkerCrashedError, ObjectLostError, ReplicaUnavailableError)


class Calls:
    """The way to the generators.

    Args:
        generators: Handle of the replicas of each model.
        timeout: Seconds without a sign of life of a model's replicas after which its pieces are given up. How
            long pieces wait for their turn does not matter.
        metrics: Where second tries are counted.
    """

    def __init__(
        self, generators: Mapping[str, DeploymentHandle], timeout: float, metrics: ServiceMetrics
    ) -> None:
        self._generators = dict(generators)
        self._timeout = timeout
        self._metrics = metrics
        self._answered: dict[str, float] = {}

    async def make(self, model: Served, order: PieceOrder, owner: str) -> Made:
        """One piece, made by whichever replica has room.

        Raises:
            Problem: 503: replicas keep dying, none comes up in time, or too much waits; 422: the showers stay
                invalid.
        """
        began = time.monotonic()
        task = asyncio.ensure_future(self._persist(model, order, owner))
        try:
            while not (await asyncio.wait({task}, timeout=self._left(model.name, began)))[0]:
                silent = self._left(model.name, began) <= 0 and not await self._pinged(model.name)
                if silent and self._left(model.name, began) <= 0:  # nothing was answered meanwhile
                    raise not_ready(5)
            return task.result()
        finally:
            task.cancel()

    async def ready(self) -> bool:
        """Whether a replica of every model answers."""
        answers = await asyncio.gather(*(self._answers(name) for name in self._generators))
        return all(answers)

    async def _persist(self, model: Served, order: PieceOrder, owner: str) -> Made:
        handle = self._generators[model.name]
        for attempt in range(TRIES):
            try:
                made: Made = await _awaited(handle.make.remote(model.digest, order, owner))
            except _LOST:
                self._metrics.retries.labels(model.name).inc()
                await asyncio.sleep(PAUSE * 2**attempt)
            except (RayError, BackPressureError, DeploymentUnavailableError) as error:
                raise _answer(error) from error
            else:
                self._answered[model.name] = time.monotonic()
                return made
        raise not_ready(5)

    def _left(self, name: str, began: float) -> float:
        """Seconds that a piece asked for at ``began`` has until its model's replicas count as dead."""
        sign = max(began, self._answered.get(name, began))
        return max(0.0, sign + self._timeout - time.monotonic())

    async def _answers(self, name: str) -> bool:
        fresh = time.monotonic() - self._answered.get(name, -FRESH) < FRESH
        return fresh or await self._pinged(name)

    async def _pinged(self, name: str) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                await _awaited(self._generators[name].ping.remote())
        except (TimeoutError, RayError, RayServeException):
            return False
        self._answered[name] = time.monotonic()
        return True


async def _awaited(response: Any) -> Any:
    """The outcome of a call, which is called off when nobody waits for it any more."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


def _answer(error: Exception) -> Exception:
    """What a client is told about a failed call; a fault of our own stays one."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    match cause:
        case Problem():
            return cause
        case NumericalError():
            return hopeless(int(str(cause.context.get("redraws", 0))))
        case BackPressureError():
            return busy(2)
        case DeploymentUnavailableError() | ServiceError():
            return not_ready(10)
        case _:
            return ClusterError(f"a piece failed: {cause!r:.300}", hint="look at the replica's log")
