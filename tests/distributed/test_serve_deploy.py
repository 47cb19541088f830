"""What `serve deploy` starts: several bundles behind several gateways, some of which are killed."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from caloray.client import Client, Patience
from caloray.errors import AuthError, IntegrityError
from caloray.io.stream_decoder import StreamDecoder

pytestmark = [pytest.mark.ray, pytest.mark.faults]
TOKEN = "a-token-of-20-letters"
DEPLOY = Path(__file__).parents[2] / "configs" / "serve.yaml"


def half_a_minute():
    """Seconds; more on a machine that has other work, where everything takes longer."""
    return 30 * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def toy_model():
    spec = importlib.util.spec_from_file_location("toy_model", Path(__file__).parents[1] / "toy_model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("toy_model", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Two models with other weights."""
    folder = tmp_path_factory.mktemp("deployed")
    return {name: toy_model().bundle(folder / name, seed).path for seed, name in enumerate(("one", "two"))}


@pytest.fixture(scope="module")
def service(ray_cluster, bundles, tmp_path_factory):
    """The shipped deploy file with these bundles, deployed as Ray Serve does it for `serve deploy`."""
    from ray import serve
    from ray.serve.context import _get_global_client
    from ray.serve.schema import ServeDeploySchema

    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    written = yaml.safe_load(DEPLOY.read_text())
    (application,) = written["applications"]
    args = application["args"]
    args |= {"bundles": {name: str(path) for name, path in bundles.items()}, "token_file": str(token)}
    args |= {"gateways": 2, "limits": {"piece_rows": 8}}
    args["workers"] = {"replicas": 1, "cpus": 0.3}
    port = written["http_options"]["port"] = free_port()
    serve.start(proxy_location="HeadOnly", http_options=written["http_options"])
    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(written), _blocking=True)
    found = SimpleNamespace(port=port, url=f"http://127.0.0.1:{port}", args=args)
    wait(found, 200, 240)
    yield found
    serve.shutdown()


def get(service, path, method="GET", body=None, token=TOKEN):
    """Status and body of a reply."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=240)
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def wait(service, status, seconds):
    """Seconds until /readyz says so."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        try:
            if get(service, "/readyz")[0] == status:
                return time.monotonic() - began
        except OSError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"/readyz is not {status}")


def victims(deployment):
    """Process ids of the replicas of a deployment, told by themselves."""
    import ray

    names = [entry["name"] for entry in ray.util.list_named_actors(all_namespaces=True)]
    actors = [ray.get_actor(name, namespace="serve") for name in names if f"#{deployment}#" in name]
    return ray.get([actor.__ray_call__.remote(lambda _: os.getpid()) for actor in actors], timeout=240)


def test_several_bundles(service, bundles):
    from caloray.bundle import Bundle

    energies = np.geomspace(1500, 4e4, 20)
    with Client(service.url, token=TOKEN) as client:
        assert {model.name for model in client.models()} == {"one", "two"}
        for name, path in bundles.items():
            found = client.sample(energies, seed=3, model=name)
            assert np.array_equal(found.voxels, Bundle.load(path).sample(energies, seed=3).voxels)
    assert get(service, "/v1/showers", "POST", {"energies": [2000.0]})[0] == 422
    assert get(service, "/v1/showers", "POST", {"energies": [2000.0], "model": "three"})[0] == 404


def test_the_token_of_the_file(service):
    assert get(service, "/v1/models", token=None)[0] == 401
    assert b"another token" in get(service, "/v1/models", token="another-token-of-this-length")[1]


def test_metrics_of_two_gateways_are_one_sum(service):
    from ray import serve

    gateways = serve.get_deployment_handle("gateway", "caloray")
    line = b'caloray_requests_total{method="GET",path="/docs",status="200"} 20.0'
    for _ in range(20):
        assert get(service, "/docs")[0] == 200
    assert line in get(service, "/metrics")[1]
    counted = [
        sum(value for f in snapshot for name, _, value in f.samples if name == "caloray_requests_total")
        for snapshot in gateways.broadcast("snapshot").results(timeout_s=60)
    ]
    assert len(counted) == 2
    assert min(counted) > 0  # both had some of them


def test_open_where_other_machines_listen_is_refused(service, monkeypatch):
    """The builder asks Ray Serve where it listens."""
    from caloray.distributed import serve as module

    assert module._http_host() == "127.0.0.1"
    open_to_all = {**service.args, "access": "open"}
    assert module.build(open_to_all)
    monkeypatch.setattr(module, "_http_host", lambda: "0.0.0.0")
    with pytest.raises(AuthError, match=r"serving on 0\.0\.0\.0 without a token"):
        module.build(open_to_all)
    assert module.build({**open_to_all, "open_to_network": True})
    assert module.build(service.args)


def test_more_replicas_under_load_are_asked_for(service):
    """What Ray Serve is told; it starts and stops them."""
    from caloray.distributed.serve import _generator
    from caloray.serving.settings import read_settings

    args = {**service.args, "workers": {"replicas": 1, "max_replicas": 3, "target_pieces": 4}}
    config = _generator("one", read_settings(args))._deployment_config.autoscaling_config
    assert (config.min_replicas, config.max_replicas, config.target_ongoing_requests) == (1, 3, 4)


def test_readiness_after_a_replica_was_killed(service):
    """It goes, and is back within half a minute, and the same request has the same bytes."""
    body = {"energies": [2000.0, 3000.0], "model": "one"}
    _, before = get(service, "/v1/showers", "POST", body)
    (victim,) = victims("model-one")
    os.kill(victim, signal.SIGKILL)
    wait(service, 503, half_a_minute())
    assert wait(service, 200, 240) < half_a_minute()
    assert get(service, "/v1/showers", "POST", body) == (200, before)


def test_a_gateway_is_killed_and_clients_go_on(service, bundles):
    """What is under way there breaks off behind the proxy; clients notice, and ask for the rest."""
    from caloray.bundle import Bundle

    energies = np.geomspace(1500, 4e4, 400)
    whole = Bundle.load(bundles["two"]).sample(energies, seed=1).voxels
    found, errors = {}, []

    def ask(number):
        try:
            with Client(service.url, token=TOKEN, patience=Patience(limit=300)) as client:
                found[number] = client.sample(energies, seed=1, model="two").voxels
        except Exception as error:  # noqa: BLE001  (told below)
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    os.kill(victims("gateway")[0], signal.SIGKILL)
    for thread in threads:
        thread.join(300)
    assert not errors
    assert len(found) == 4
    assert all(np.array_equal(voxels, whole) for voxels in found.values())


def test_a_reply_that_breaks_off_lacks_its_end(service):
    """Whoever reads it without our client can tell it from a whole one."""
    wait(service, 200, 240)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=240)
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    body = {"energies": [2000.0] * 5000, "model": "one"}
    connection.request("POST", "/v1/showers", json.dumps(body), headers)
    reply = connection.getresponse()
    assert reply.status == 200
    received = reply.read(1000)
    for victim in victims("gateway"):
        os.kill(victim, signal.SIGKILL)
    try:
        received += reply.read()
    except (http.client.IncompleteRead, ConnectionError) as error:
        received += getattr(error, "partial", b"")
    decoder = StreamDecoder()
    batches = decoder.feed(received)
    assert sum(len(batch.showers) for batch in batches) < 5000
    with pytest.raises(IntegrityError, match="broken off"):
        decoder.finish()
    assert wait(service, 200, 240) < 240


def test_all_gateways_are_told_to_drain(service):
    """Last: afterwards nothing is taken any more."""
    from ray import serve

    from caloray.distributed.serve import _under_way

    gateways, deadline = serve.get_deployment_handle("gateway", "caloray"), time.monotonic() + 240
    while len(gateways.broadcast("snapshot").results(timeout_s=60, return_exceptions=True)) < 2:
        assert time.monotonic() < deadline  # those that were killed are back
        time.sleep(0.5)
    assert _under_way(gateways) == 0
    assert {get(service, "/readyz")[0] for _ in range(20)} == {503}
    assert get(service, "/healthz")[0] == 200
