"""What is let in, and what those are told who are not."""

from __future__ import annotations

import asyncio

import pytest

from caloray.serving.admission import Admission
from caloray.serving.problems import Problem


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_requests_are_counted():
    admission = Admission(2, 1000)
    one = admission.enter(5)
    admission.enter(5)
    with pytest.raises(Problem, match="too many") as caught:
        admission.enter(1)
    assert caught.value.status == 503
    assert int(caught.value.headers["retry-after"]) >= 1
    one.release()
    one.release()
    assert (admission.requests, admission.showers) == (1, 5)
    admission.enter(1)


def test_showers_are_counted_but_small_requests_pass():
    admission = Admission(16, 1000)
    admission.enter(5000)  # alone, a request may be as large as it likes
    with pytest.raises(Problem):
        admission.enter(101)
    admission.enter(100)


def test_large_requests_leave_places_for_small_ones():
    admission = Admission(16, 10**9)
    for _ in range(14):
        admission.enter(1000)
    with pytest.raises(Problem):
        admission.enter(1000)
    admission.enter(1)
    admission.enter(1)
    with pytest.raises(Problem):
        admission.enter(1)


def test_retry_after_follows_the_speed():
    clock = Clock()
    admission = Admission(64, 10**6, clock=clock)
    admission.enter(1000)
    assert admission.retry_after() == 2  # nothing is known yet
    for _ in range(100):
        clock.now += 1
        admission.finished(50)
    assert 8 <= admission.retry_after() <= 12
    clock.now += 600
    assert admission.retry_after() == 60


def test_overload_is_503_and_ends(bundle, local):
    """Twelve at once where three may be: the others are sent away, and afterwards all is as before."""
    service = local({"toy": bundle}, max_requests=3)

    async def rush():
        request = {"energies": [2000.0] * 40}
        return await asyncio.gather(*(service.client.ask({**request, "seed": i}) for i in range(12)))

    replies = asyncio.run(rush())
    good = [reply for reply in replies if reply.status == 200]
    busy = [reply for reply in replies if reply.status == 503]
    assert len(good) + len(busy) == 12
    assert good
    assert busy
    assert all(reply.whole and len(reply.showers()) == 40 for reply in good)
    assert all(1 <= int(reply.headers["retry-after"]) <= 60 for reply in busy)
    assert all(reply.json()["error"]["code"] == "CR-710" for reply in busy)
    assert service.service.under_way == 0
    assert service.client.post({"energies": [2000.0]}).status == 200


def test_a_client_that_leaves_gives_its_place_back(bundle, local):
    service = local({"toy": bundle})

    async def leave():
        task = asyncio.ensure_future(service.client.ask({"energies": [2000.0] * 400}))
        while not service.service.under_way:
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return service.service.under_way

    assert asyncio.run(leave()) == 0


def test_draining(bundle, local):
    service = local({"toy": bundle})
    service.service.draining = True
    for reply in (service.client.post({"energies": [2000.0]}), service.client.get("/readyz")):
        assert reply.status == 503
        assert "retry-after" in reply.headers
    assert service.client.get("/healthz").status == 200


def test_ready_and_alive_differ(bundle, local):
    service = local({"toy": bundle}, ready=False)
    assert service.client.get("/readyz").status == 503
    assert service.client.get("/healthz").json() == {"status": "ok"}
    service.ready = True
    assert service.client.get("/readyz").json() == {"status": "ready"}


def test_a_reply_is_under_way_until_it_was_taken(bundle, local):
    """All of it may have been made and sent: whoever does not read keeps a place, and its showers count."""
    service = local({"toy": bundle}, max_requests=2, max_pending_showers=150)
    client = service.client

    async def hold():
        client.reading.clear()
        slow = asyncio.ensure_future(client.ask({"energies": [2000.0] * 120}))
        small = asyncio.ensure_future(client.ask({"energies": [2000.0]}, accept="application/json"))
        while b'caloray_showers_total{model="toy"} 121.0' not in (await client.send("GET", "/metrics")).body:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert not slow.done()
        assert service.service.under_way == 2
        assert (await client.ask({"energies": [2000.0]})).status == 503
        client.reading.set()
        return await asyncio.gather(slow, small)

    slow, small = asyncio.run(hold())
    assert len(slow.showers()) == 120
    assert small.whole
    assert service.service.under_way == 0
    assert client.post({"energies": [2000.0]}).status == 200
