"""A gateway's calls to replicas that die, hang, refuse or give nothing; no Ray is started."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from caloray.distributed import serve_calls
from caloray.distributed.serve_calls import Calls
from caloray.errors import ClusterError, NumericalError, ServiceError
from caloray.geometry import Geometry, Layer
from caloray.schemes.component import Sampled
from caloray.serving.batching import JointSampler
from caloray.serving.metrics import ServiceMetrics
from caloray.serving.models import Order, Served
from caloray.serving.pieces import Made, PieceOrder, cut, in_order
from caloray.serving.problems import Problem

GEOMETRY = Geometry("line", "cartesian", (Layer(0, (0.0, 1.0), (0.0, 1.0)),))
MODEL = Served("line", "digest", GEOMETRY, (1.0, 2.0), (), 256)
ORDER = PieceOrder(0, 0, 0, 0, np.ones(1))
MADE = Made(b"payload", 1, 0, 1, 0.0)


class Response:
    """What a handle gives for one call: an outcome, after some seconds."""

    def __init__(self, outcome, seconds=0.0):
        self.outcome, self.seconds, self.cancelled = outcome, seconds, False

    def __await__(self):
        yield from asyncio.sleep(self.seconds).__await__()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def cancel(self):
        self.cancelled = True


class Replica:
    """A handle whose calls end in the given outcomes, one after the other."""

    def __init__(self, *outcomes):
        self.outcomes = [o if isinstance(o, Response) else Response(o) for o in outcomes]
        self.called = []
        self.make = self.ping = SimpleNamespace(remote=self._remote)

    def _remote(self, *arguments):
        self.called.append(arguments)
        return self.outcomes[len(self.called) - 1]


def calls(replica, timeout=5.0):
    return Calls({"line": replica}, timeout, ServiceMetrics())


def make(replica, timeout=5.0):
    return asyncio.run(calls(replica, timeout).make(MODEL, ORDER, "me"))


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(serve_calls, "PAUSE", 0.001)


def raised(cause):
    return RayTaskError("make", "traceback", cause).as_instanceof_cause()


def test_another_replica_is_asked_when_one_dies():
    replica = Replica(ActorDiedError(), ActorUnavailableError("away", b"1" * 16), MADE)
    assert make(replica) == MADE
    assert replica.called == [("digest", ORDER, "me")] * 3


def test_not_for_ever():
    replica = Replica(*[ActorDiedError()] * 9)
    with pytest.raises(Problem) as caught:
        make(replica)
    assert caught.value.status == 503
    assert len(replica.called) == serve_calls.TRIES


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (raised(NumericalError("bad", redraws=7)), 422, "CR-400"),
        (raised(ServiceError("another bundle")), 503, "CR-710"),
        (BackPressureError(1, 1), 503, "CR-710"),
    ],
)
def test_what_clients_are_told(error, status, code):
    with pytest.raises(Problem) as caught:
        make(Replica(error))
    assert (caught.value.status, caught.value.code) == (status, code)


def test_a_fault_of_our_own_stays_one():
    with pytest.raises(ClusterError, match="out of memory"):
        make(Replica(raised(RuntimeError("out of memory"))))


def test_a_replica_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(serve_calls, "PATIENCE", 0.05)
    slow = Response(MADE, 30.0)
    with pytest.raises(Problem) as caught:
        make(Replica(slow, Response(1, 30.0)), timeout=0.05)
    assert caught.value.status == 503
    assert slow.cancelled


def test_a_replica_that_lives_is_waited_for():
    """It answers when it is asked, so the piece is in its queue."""
    replica = Replica(Response(MADE, 2.0), *[1] * 29)
    assert make(replica, timeout=0.1) == MADE
    assert 1 < len(replica.called) <= 22


class Queue:
    """A handle of one slow replica that samples in joint batches."""

    def __init__(self, sampler):
        self.make = SimpleNamespace(remote=lambda _, order, owner: Cancellable(sampler.make(order, owner)))
        self.ping = SimpleNamespace(remote=lambda: Response(1))


class Cancellable:
    """A call of this process."""

    def __init__(self, work):
        self.task = asyncio.ensure_future(work)

    def __await__(self):
        return self.task.__await__()

    def cancel(self):
        self.task.cancel()


class Slow:
    """A model that makes 3,200 showers per second."""

    condition_names = ()
    block_size = 256

    def make_pieces(self, pieces):
        time.sleep(sum(len(piece.energies) for piece in pieces) / 3200)
        return [Sampled(np.ones((len(p.energies), 1), np.float32), np.ones((1, 1))) for p in pieces]


def test_waiting_for_its_turn_is_no_fault():
    """Twelve large requests at once, each with eight pieces in the queue: pieces wait longer than any may be
    silent, and all are made."""
    requests = [Order(MODEL, np.ones(1024), None, seed, 0) for seed in range(12)]

    async def run():
        sampler = JointSampler(Slow(), batch_rows=256, crowd_rows=64)
        asked = calls(Queue(sampler), timeout=0.7)

        async def answer(order):
            pieces = in_order(cut(order, 64), lambda piece: asked.make(MODEL, piece, str(order.seed)), 8)
            return [made.rows async for made in pieces]

        return await asyncio.gather(*(answer(order) for order in requests))

    began = time.monotonic()
    assert asyncio.run(run()) == [[64] * 16] * 12
    assert time.monotonic() - began > 2.0  # the eight pieces of each wait for 96 batches of 20 ms


def test_what_nobody_waits_for_is_called_off():
    slow = Response(MADE, 30.0)

    async def leave():
        task = asyncio.ensure_future(calls(Replica(slow)).make(MODEL, ORDER, "me"))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    assert slow.cancelled


def test_readiness(monkeypatch):
    monkeypatch.setattr(serve_calls, "PATIENCE", 0.05)
    for outcome in (ActorDiedError(), RayServeException("no"), Response(1, 30.0)):
        assert not asyncio.run(calls(Replica(outcome)).ready())
    replica = Replica(1)

    async def twice():
        asked = calls(replica)
        return [await asked.ready(), await asked.ready()]

    assert asyncio.run(twice()) == [True, True]
    assert len(replica.called) == 1  # a fresh answer is as good as a new one
