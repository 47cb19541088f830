"""Clients that do not read: what is kept for them counts, on Ray's proxy as anywhere, until they have it."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time

import numpy as np
import pytest
import uvicorn

from caloray.distributed.serve_app import Backstage, make_app
from caloray.geometry import Geometry, Layer
from caloray.io.shower_stream import encode_part
from caloray.io.sparse import SparseShowers
from caloray.serving.endpoint import unsent
from caloray.serving.models import Served
from caloray.serving.pieces import Made
from caloray.serving.service import Limits, ShowerService

WIDE = Geometry("wide", "cartesian", (Layer(0, tuple(range(201)), tuple(range(201))),))
SHOWERS = 128
LEAST = 20_000_000
"""Bytes of a reply to so many showers, at least: much more than the kernel and the proxy hold."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def heavy(model, order, owner):
    """A piece of showers of which every voxel is hit."""
    rows, voxels = len(order), WIDE.n_voxels
    showers = SparseShowers(
        incident_energies=order.energies,
        ids=order.first + np.arange(rows),
        starts=np.arange(rows + 1) * voxels,
        voxels=np.tile(np.arange(voxels, dtype=np.int32), rows),
        energies=np.random.default_rng(order.first).random(rows * voxels, dtype=np.float32),
        conditions={},
        extras={"attempts": np.zeros(rows, np.uint8)},
    )
    return Made(encode_part(showers, ()), rows, 0, rows, 0.0)


def heavy_app():
    """The web application over it; two of the test's requests may be under way."""
    served = Served("wide", "d" * 64, WIDE, (1.0, 1e6), (), 256)
    service = ShowerService({"wide": served}, heavy, Limits(max_pending_showers=2 * SHOWERS, piece_rows=32))

    async def ready():
        return True

    async def snapshots():
        return [service.metrics.snapshot()]

    return make_app(service, Backstage(ready, snapshots))


@pytest.fixture(scope="module")
def port(ray_cluster):
    """Ray Serve with the application behind its proxy."""
    from ray import serve

    class Heavy:
        def __serve_build_asgi_app__(self):
            return heavy_app()

    found = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": found})
    deployment = serve.deployment(serve.ingress()(Heavy)).options(ray_actor_options={"num_cpus": 0})
    serve.run(deployment.bind(), name="heavy", route_prefix="/")
    yield found
    serve.shutdown()


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=240)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def ask(port):
    """A connection on which a heavy request was made."""
    body = json.dumps({"energies": [5.0] * SHOWERS}).encode()
    head = "POST /v1/showers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(240)
    connection.connect(("127.0.0.1", port))
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def number(port, name):
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", get(port, "/metrics"), re.MULTILINE)
    return float(found[1]) if found else 0.0


def until(true):
    deadline = time.monotonic() + 240
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def wait_for(port, pending):
    """Until so many requests are under way."""
    until(lambda: number(port, "caloray_pending_requests") == pending)


def read(connection, *, close=True):
    received = bytearray()
    while not received.endswith(b"0\r\n\r\n"):
        chunk = connection.recv(1 << 20)
        assert chunk, f"cut after {len(received)} bytes"
        received += chunk
    if close:
        connection.close()
    return bytes(received)


@pytest.mark.ray
def test_what_clients_do_not_read_keeps_others_out_and_is_bounded(port):
    slow = [ask(port) for _ in range(2)]
    assert all(one.recv(12) == b"HTTP/1.1 200" for one in slow)
    until(lambda: number(port, "caloray_showers_total") >= 2 * SHOWERS)  # all of it is made
    time.sleep(2.0)
    assert number(port, "caloray_pending_requests") == 2
    assert number(port, "caloray_pending_showers") == 2 * SHOWERS
    assert unsent(port) == 2
    third = ask(port)
    assert third.recv(12) == b"HTTP/1.1 503"
    third.close()
    assert len(read(slow[0])) > LEAST
    slow[1].close()  # the other one leaves
    wait_for(port, 0)
    assert unsent(port) == 0
    assert len(read(ask(port))) > LEAST


def test_places_are_given_back_without_ray_too():
    """Another server that speaks ASGI, which holds replies back by itself; connections that stay open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(heavy_app(), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            port = listener.getsockname()[1]
            slow, other = ask(port), ask(port)
            assert slow.recv(12) == b"HTTP/1.1 200"
            assert len(read(other)) > LEAST
            wait_for(port, 1)
            assert len(read(slow, close=False)) > LEAST
            wait_for(port, 0)
            slow.close()
        finally:
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


def test_what_is_not_sent_yet_is_seen():
    """The kernel tells it of each connection to a port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert unsent(port) == 0
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        server, _ = listener.accept()
        sending = threading.Thread(target=server.sendall, args=(bytes(20_000_000),))
        sending.start()
        until(lambda: unsent(port) == 1)
        left = 20_000_000
        while left:
            left -= len(client.recv(1 << 20))
        sending.join()
        until(lambda: unsent(port) == 0)
        client.close()
        server.close()


@pytest.mark.parametrize("patient", [True, False])
def test_the_end_waits_for_what_is_not_sent_yet(monkeypatch, caplog, patient):
    """No request is under way any more, but one client has not got all of its reply."""
    from caloray.distributed import serve as module

    left = iter([2, 1, 0, 0, 0, 0]) if patient else iter([1] * 99)
    monkeypatch.setattr(module, "_POLL", 0.01)
    monkeypatch.setattr(module, "_under_way", lambda _: 0)
    monkeypatch.setattr(module, "unsent", lambda _: next(left))
    module._drain(None, 1, 60.0 if patient else 0.05)
    assert ("are cut" in caplog.text) is not patient
    assert next(left) == (0 if patient else 1)
