"""The service on Ray: the same bytes as without, overload, killed replicas, an orderly end."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from caloray.bundle import Bundle
from caloray.errors import AuthError, BundleError, ClusterError, ConfigError
from caloray.io.stream_decoder import decode

pytestmark = pytest.mark.ray
TOKEN = "a-token-of-20-letters"
LIMITS = {"max_requests": 4, "piece_rows": 8}


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Caller:
    """Sends requests to a port."""

    port: int
    token: str | None = TOKEN

    def __call__(self, method: str, path: str, body: Any = None) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=240)
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            found = {key.lower(): value for key, value in reply.getheaders()}
            return Reply(reply.status, found, reply.read())
        finally:
            connection.close()

    def showers(self, energies: list[float], seed: int = 0) -> Reply:
        return self("POST", "/v1/showers", {"energies": energies, "seed": seed})

    def wait_until_ready(self, seconds: float = 240) -> float:
        """Seconds until it was."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            try:
                if self("GET", "/readyz").status == 200:
                    return time.monotonic() - began
            except OSError:
                pass
            time.sleep(0.1)
        raise TimeoutError("not ready")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of the toy model."""
    path = Path(__file__).parents[1] / "toy_model.py"
    spec = importlib.util.spec_from_file_location("toy_model", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("toy_model", module)
    spec.loader.exec_module(module)
    return Bundle.load(module.bundle(tmp_path_factory.mktemp("served") / "toy" / "bundle").path)


@pytest.fixture(scope="module")
def service(ray_cluster, bundle):
    """The service with two replicas of the model, run as the command does."""
    from caloray.distributed.serve import run_service
    from caloray.distributed.session import Session
    from caloray.interrupt import StopRequest
    from caloray.serving.endpoint import Endpoint
    from caloray.serving.settings import read_settings

    args = {
        "bundles": {"toy": bundle.path},
        "limits": LIMITS,
        "workers": {"replicas": 2, "cpus": 0.5},
        "drain_s": 30,
    }
    endpoint, stop, started = Endpoint(port=free_port()), StopRequest(), threading.Event()
    session = Session("local", owned=False)
    thread = threading.Thread(
        target=run_service,
        args=(session, read_settings(args), endpoint, TOKEN, stop, lambda _: started.set()),
    )
    thread.start()
    assert started.wait(300)
    caller = Caller(endpoint.port)
    caller.wait_until_ready()
    yield SimpleNamespace(ask=caller, stop=stop, thread=thread)
    stop.request()
    thread.join(120)
    assert not thread.is_alive()


def pids(name="toy"):
    """Process ids of the replicas of a model, told by themselves."""
    from ray import serve

    handle = serve.get_deployment_handle(f"model-{name}", "caloray")
    return handle.broadcast("ping").results(timeout_s=30)


def test_the_bytes_of_the_bundle(service, bundle):
    energies = np.geomspace(1500, 4e4, 30).tolist()
    reply = service.ask.showers(energies, seed=5)
    assert reply.status == 200
    found = decode(reply.body)[1].dense(bundle.geometry.n_voxels)
    assert np.array_equal(found.voxels, bundle.sample(energies, seed=5).voxels)
    assert reply.headers["x-caloray-bundle"] == bundle.digest


def test_token_and_bad_bodies(service):
    assert Caller(service.ask.port, None).showers([2000.0]).status == 401
    assert Caller(service.ask.port, "another-token-of-this-length").showers([2000.0]).status == 401
    assert service.ask.showers([-1.0]).status == 422
    assert service.ask.showers([2000.0] * 200_000).status == 413
    assert service.ask("GET", "/nowhere").status == 404


def test_overload(service):
    """Sixteen at once where four may be: some are answered, the others told when to come back."""
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda seed: service.ask.showers([2000.0] * 99, seed), range(16)))
    statuses = sorted({reply.status for reply in replies})
    assert statuses == [200, 503]
    for reply in replies:
        if reply.status == 200:
            assert len(decode(reply.body)[1]) == 99
        else:
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert json.loads(reply.body)["error"]["code"] == "CR-710"


@pytest.mark.faults
def test_killed_replicas(service):
    """One of two replicas is killed while requests run, then the other: every reply is whole and the same."""
    energies = np.geomspace(1500, 4e4, 60).tolist()
    whole = service.ask.showers(energies, 1).body
    before = set(pids())
    assert len(before) == 2
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(service.ask.showers, energies, 1) for _ in range(12)]
        for victim in before:
            time.sleep(0.5)
            os.kill(victim, signal.SIGKILL)
        replies = [task.result(240) for task in asked]
    assert {reply.status for reply in replies} == {200}
    assert all(reply.body == whole for reply in replies)
    service.ask.wait_until_ready()
    assert not before & set(pids())
    text = service.ask("GET", "/metrics").body.decode()
    assert 'caloray_piece_retries_total{model="toy"}' in text


def half_a_request(port: int, count: int) -> socket.socket:
    """A connection on which showers were asked for, and of whose reply only the beginning is read."""
    body = json.dumps({"energies": [2000.0] * count, "seed": 9}).encode()
    head = (
        f"POST /v1/showers HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection = socket.create_connection(("127.0.0.1", port), timeout=240)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(head.encode() + body)
    assert connection.recv(64).startswith(b"HTTP/1.1 200")
    return connection


def read_slowly(connection: socket.socket) -> bytes:
    """The rest of a reply, a little at a time."""
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        chunk = connection.recv(16384)
        assert chunk, f"the reply was cut after {len(received)} bytes"
        received += chunk
        time.sleep(0.05)
    connection.close()
    return received


def test_others_are_answered_while_a_client_does_not_read(service):
    """When it reads on, its reply is whole. How much may wait for such clients: test_serve_slow.py."""
    slow = half_a_request(service.ask.port, 1000)
    assert service.ask.showers([2000.0]).status == 200
    time.sleep(1.0)
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        received += slow.recv(65536)
    slow.close()
    assert service.ask("GET", "/readyz").status == 200


def pending(service):
    """Requests under way."""
    text = service.ask("GET", "/metrics").body.decode()
    return next(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("caloray_pending_requests ")
    )


def test_clients_that_leave_are_forgotten(service):
    """Their showers, minutes of work, are not made for nobody."""
    for _ in range(3):
        half_a_request(service.ask.port, 10_000).close()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if pending(service) == 0:
            return
        time.sleep(0.1)
    pytest.fail("requests of clients that left are still under way")


def test_metrics_of_all_processes(service):
    service.ask.showers([2000.0])
    text = service.ask("GET", "/metrics").body.decode()
    assert 'caloray_requests_total{method="POST",path="/v1/showers",status="200"}' in text
    assert "caloray_showers_total" in text
    assert TOKEN not in text


def test_the_token_is_in_no_log(service, ray_cluster):
    service.ask.showers([-1.0])
    logs = Path(ray_cluster._private.worker.global_worker.node.get_session_dir_path()) / "logs"
    files = [path for path in logs.rglob("*") if path.is_file()]
    assert files
    assert not [path.name for path in files if TOKEN.encode() in path.read_bytes()]


def test_a_second_service_is_refused(service, bundle):
    from caloray.distributed.serve import run_service
    from caloray.distributed.session import Session
    from caloray.interrupt import StopRequest
    from caloray.serving.endpoint import Endpoint
    from caloray.serving.settings import read_settings

    settings = read_settings({"bundles": {"toy": bundle.path}, "access": "open"})
    with pytest.raises(ClusterError, match="already runs"):
        run_service(Session("x", owned=False), settings, Endpoint(), None, StopRequest(), print)
    assert Endpoint(port=1).url == "http://127.0.0.1:1"
    with pytest.raises(ClusterError, match="cannot listen"):
        Endpoint(port=service.ask.port).require_free()


def test_requests_under_way_are_finished_at_the_end(service):
    """Last: it ends the service. A request that is under way is answered, also to a client that reads
    slowly; a new one is not taken."""
    slow = half_a_request(service.ask.port, 3000)
    with ThreadPoolExecutor(2) as pool:
        task = pool.submit(service.ask.showers, [2000.0] * 2000, 3)
        reading = pool.submit(read_slowly, slow)
        while pending(service) < 2:
            assert not task.done()
        service.stop.request()
        late = []
        while not task.done():
            try:
                late.append(service.ask("GET", "/readyz").status)
            except OSError:
                break
            time.sleep(0.05)
        reply = task.result(240)
        assert reading.result(240).endswith(b"0\r\n\r\n")
    assert reply.status == 200
    assert len(decode(reply.body)[1]) == 2000
    assert 503 in late
    service.thread.join(120)
    assert not service.thread.is_alive()


def test_builder(bundle, monkeypatch, tmp_path):
    from caloray.distributed.serve import build

    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    args = {"bundles": {"toy": str(bundle.path)}}
    with pytest.raises(AuthError, match="there is none"):
        build(args)
    assert build({**args, "access": "open"})
    monkeypatch.setenv("CALORAY_SERVE_TOKEN", TOKEN)
    assert build(args)
    with pytest.raises(ConfigError):
        build({**args, "colour": "red"})
    with pytest.raises(BundleError):
        build({"bundles": {"toy": str(tmp_path)}})


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("source", ["variable", "file"])
def test_the_command(bundle, ray_home, tmp_path, source):
    """``caloray serve`` with a Ray of its own asks for its token, and leaves with status 0 on SIGTERM."""
    port, environment, words = free_port(), {**os.environ, "HOME": str(ray_home)}, []
    if source == "variable":
        environment["CALORAY_SERVE_TOKEN"] = TOKEN
    else:
        (tmp_path / "token").write_text(TOKEN)
        (tmp_path / "token").chmod(0o600)
        words = ["--token-file", str(tmp_path / "token")]
    with (tmp_path / "err").open("w") as errors:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "caloray",
                "serve",
                str(bundle.path),
                f"--port={port}",
                "--cpus=0.5",
                *words,
            ],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        )
        try:
            Caller(port, None).wait_until_ready(300)
            assert process.stdout.readline() == f"serving toy at http://127.0.0.1:{port}\n"
            assert Caller(port, None).showers([2000.0]).status == 401
            assert Caller(port).showers([2000.0]).status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(120) == 0
        finally:
            process.kill()
    said = (tmp_path / "err").read_text()
    assert "Traceback" not in said
    assert TOKEN not in said
