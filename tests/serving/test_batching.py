"""Whose turn it is, what shares a batch, and what happens to those that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.geometry import Geometry, Layer
from caloray.schemes.component import Sampled
from caloray.serving.batching import JointSampler
from caloray.serving.fair import FairQueue
from caloray.serving.models import Order, Served
from caloray.serving.pieces import Made, PieceOrder, cut, in_order

GEOMETRY = Geometry("line", "cartesian", (Layer(0, (0.0, 1.0), (0.0, 1.0, 2.0)),))
MODEL = Served("line", "d", GEOMETRY, (1.0, 2.0), (), 256)


class Recorder:
    """A model that notes its batches; ``gate`` holds it up."""

    condition_names = ()
    block_size = 256

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()

    def make_pieces(self, pieces):
        self.gate.wait(60)
        self.batches.append([(piece.seed, piece.start, len(piece.energies)) for piece in pieces])
        return [
            Sampled(np.full((len(p.energies), 2), float(p.seed), np.float32), np.zeros((1, 1)))
            for p in pieces
        ]


def piece(seed, rows=1, start=0):
    return PieceOrder(seed, 0, start, start, np.full(rows, 5.0))


def test_small_requests_pass_a_large_one():
    queue: FairQueue[str] = FairQueue()
    for i in range(10):
        queue.push(f"large {i}", "large", 64)
    queue.push("small", "small", 1)
    queue.push("middle", "middle", 40)
    assert queue.take(64) == ["small", "middle"]
    assert queue.take(128) == ["large 0", "large 1"]


def test_a_large_request_is_not_kept_out_by_small_ones():
    queue: FairQueue[str] = FairQueue()
    queue.push("large", "large", 64)
    served = []
    for i in range(200):
        queue.push(f"small {i}", f"owner {i}", 1)
        served += queue.take(1)
    assert 60 <= served.index("large") <= 70


def test_equal_requests_take_turns():
    queue: FairQueue[str] = FairQueue()
    for i in range(3):
        queue.push(f"a{i}", "a", 64)
    for i in range(3):
        queue.push(f"b{i}", "b", 64)
    taken = [queue.take(1)[0] for _ in range(6)]
    assert taken == ["a0", "b0", "a1", "b1", "a2", "b2"]


@given(
    pushes=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 64)), max_size=40),
    room=st.integers(1, 256),
)
def test_everybody_is_served_once_and_in_the_order_of_the_owner(pushes, room):
    queue: FairQueue[tuple[str, int]] = FairQueue()
    for i, (owner, cost) in enumerate(pushes):
        queue.push((owner, i), owner, cost)
    taken = []
    while batch := queue.take(room):
        assert sum(pushes[i][1] for _, i in batch) <= room or len(batch) == 1
        taken += batch
    assert sorted(i for _, i in taken) == list(range(len(pushes)))
    for owner in "abc":
        mine = [i for name, i in taken if name == owner]
        assert mine == sorted(mine)


def test_the_table_of_owners_does_not_grow():
    queue: FairQueue[int] = FairQueue()
    for i in range(10_000):
        queue.push(i, str(i), 1)
        queue.take(1)
    assert len(queue._ends) < 200


def test_what_arrives_during_a_batch_shares_the_next_one():
    model = Recorder()
    sampler = JointSampler(model, batch_rows=8)

    async def run():
        model.gate.clear()
        first = asyncio.ensure_future(sampler.make(piece(0), "first"))
        async with asyncio.timeout(30):
            while sampler.busy_for <= 0.02:
                await asyncio.sleep(0.01)
        assert sampler.busy_for < 60
        others = [asyncio.ensure_future(sampler.make(piece(i, 3), str(i))) for i in range(1, 5)]
        await asyncio.sleep(0.05)
        model.gate.set()
        return await asyncio.gather(first, *others)

    made = asyncio.run(run())
    assert sampler.busy_for == 0.0
    assert [len(batch) for batch in model.batches] == [1, 2, 2]
    assert [item.rows for item in made] == [1, 3, 3, 3, 3]
    assert [item.batch_rows for item in made] == [1, 6, 6, 6, 6]


def test_batches_are_smaller_while_several_requests_wait():
    model = Recorder()
    sampler = JointSampler(model, batch_rows=8, crowd_rows=2)

    async def run():
        model.gate.clear()
        tasks = [asyncio.ensure_future(sampler.make(piece(0), "first"))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.ensure_future(sampler.make(piece(1, 1), "many")) for _ in range(8)]
        tasks += [asyncio.ensure_future(sampler.make(piece(2, 1), "few"))]
        await asyncio.sleep(0.05)
        model.gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert [[seed for seed, _, _ in batch] for batch in model.batches] == [[0], [1, 2], [1] * 7]


def test_pieces_that_nobody_waits_for_are_not_made():
    model = Recorder()
    sampler = JointSampler(model, batch_rows=1)

    async def run():
        model.gate.clear()
        tasks = [asyncio.ensure_future(sampler.make(piece(i), str(i))) for i in range(4)]
        await asyncio.sleep(0.05)
        tasks[2].cancel()
        await asyncio.sleep(0)
        model.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(run())
    assert isinstance(found[2], asyncio.CancelledError)
    assert [batch[0][0] for batch in model.batches] == [0, 1, 3]


@pytest.mark.parametrize("room", [1, 256])
def test_what_fails_alone_fails_and_nothing_else(room):
    """Also where the pieces of several requests share a batch."""

    class Broken(Recorder):
        def make_pieces(self, pieces):
            if any(piece.seed == 13 for piece in pieces):
                raise RuntimeError("out of memory")
            return super().make_pieces(pieces)

    async def run(room, seeds):
        sampler = JointSampler(Broken(), batch_rows=room)
        made = (sampler.make(piece(seed), str(seed)) for seed in seeds)
        return await asyncio.gather(*made, return_exceptions=True)

    one, broken, two = asyncio.run(run(room, (1, 13, 2)))
    assert isinstance(broken, RuntimeError)
    assert [one.payload, two.payload] == [made.payload for made in asyncio.run(run(1, (1, 2)))]
    assert one.batch_rows == two.batch_rows == 1


def test_payload_depends_on_the_piece_alone():
    async def run(room):
        sampler = JointSampler(Recorder(), batch_rows=room)
        made = await asyncio.gather(*(sampler.make(piece(i, 1 + i % 3), str(i)) for i in range(9)))
        return [item.payload for item in made]

    assert asyncio.run(run(1)) == asyncio.run(run(256))


@pytest.mark.parametrize("rows", [1, 7, 64, 256, 1000])
@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 256), (250, 20), (513, 600)])
def test_pieces_of_a_request(first, count, rows):
    energies = np.arange(count) + 1.0
    order = Order(MODEL, energies, energies[:, None] * 2, 9, first)
    pieces = cut(order, rows)
    assert np.array_equal(np.concatenate([p.energies for p in pieces]), energies)
    assert np.array_equal(np.concatenate([p.conditions[:, 0] for p in pieces]), energies * 2)
    assert [p.first for p in pieces] == [first + sum(len(q) for q in pieces[:i]) for i in range(len(pieces))]
    for p in pieces:
        assert (p.block * 256 + p.start, p.seed) == (p.first, 9)
        assert p.start + len(p) <= 256
        assert len(p) <= rows
        assert p.start // rows == (p.start + len(p) - 1) // rows


def test_pieces_come_in_order_and_no_more_than_the_window_at_once():
    under_way: Counter[str] = Counter()

    async def make(order):
        under_way["now"] += 1
        under_way["most"] = max(under_way["most"], under_way["now"])
        await asyncio.sleep(0.001 * (10 - order.seed))
        under_way["now"] -= 1
        return Made(b"", order.seed, 0, 0, 0.0)

    async def run():
        return [made.rows async for made in in_order([piece(i) for i in range(10)], make, 3)]

    assert asyncio.run(run()) == list(range(10))
    assert under_way["most"] == 3


def test_leaving_early_cancels_what_is_under_way():
    cancelled = []

    async def make(order):
        try:
            await asyncio.sleep(0.01 if order.seed == 0 else 30)
        except asyncio.CancelledError:
            cancelled.append(order.seed)
            raise
        return Made(b"", 1, 0, 0, 0.0)

    async def run():
        found = in_order([piece(i) for i in range(5)], make, 3)
        await anext(found)
        await asyncio.sleep(0)
        await found.aclose()
        await asyncio.sleep(0)

    asyncio.run(run())
    assert cancelled == [1, 2, 3]
