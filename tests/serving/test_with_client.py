"""The service on a socket of loopback, asked by `caloray.client`: the showers of the bundle itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import uvicorn

from caloray.client import Client, Patience
from caloray.errors import AuthError, ConfigError
from caloray.io.sparse import SparseShowers

TOKEN = "a-token-for-these-tests"


@pytest.fixture(scope="module")
def url(local: Any, bundle: Any) -> Iterator[str]:
    """Where the service answers; it takes few requests at a time."""
    app = local({"toy": bundle}, token=TOKEN, max_showers=40, max_requests=2).client.app
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client with the token."""
    with Client(url, token=TOKEN) as opened:
        yield opened


@pytest.fixture(scope="module")
def energies(bundle: Any) -> np.ndarray:
    """More than fit into one request."""
    low, high = bundle.energy_range
    return np.geomspace(low, high, 100)


def test_what_is_served(client: Client, bundle: Any) -> None:
    model = client.choose()
    assert (model.name, model.digest, model.block_size) == ("toy", bundle.digest, bundle.block_size)
    assert model.energy_range == bundle.energy_range
    assert (model.max_showers, model.geometry.n_voxels) == (40, bundle.geometry.n_voxels)


def test_the_showers_are_those_of_the_bundle(client: Client, bundle: Any, energies: np.ndarray) -> None:
    found, made = client.sample(energies, seed=3), bundle.sample(energies, seed=3)
    np.testing.assert_array_equal(found.voxels, made.voxels)
    np.testing.assert_array_equal(found.incident_energies, made.incident_energies)
    np.testing.assert_array_equal(found.ids, made.ids)


def test_any_part_of_them(client: Client, bundle: Any, energies: np.ndarray) -> None:
    made = bundle.sample(energies, seed=1)
    with client.stream(energies[13:], seed=1, first=13) as stream:
        parts = list(stream)
    assert len(parts) > 3
    np.testing.assert_array_equal(
        SparseShowers.concatenate(parts).dense(made.voxels.shape[1]).voxels, made.voxels[13:]
    )
    assert (stream.header.bundle, stream.header.geometry.digest) == (bundle.digest, bundle.geometry.digest)


def test_more_clients_than_are_let_in_all_get_their_showers(
    url: str, bundle: Any, energies: np.ndarray
) -> None:
    patience = Patience(limit=300, first=0.05, longest=0.2)

    def ask(seed: int) -> np.ndarray:
        with Client(url, token=TOKEN, patience=patience) as own:
            return own.sample(energies[:40], seed=seed).voxels

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(ask, range(6)))
    for seed, voxels in enumerate(found):
        np.testing.assert_array_equal(voxels, bundle.sample(energies[:40], seed=seed).voxels)


def test_a_stream_that_is_left_early_does_no_harm(client: Client, energies: np.ndarray) -> None:
    for _ in range(5):
        with client.stream(energies) as stream:
            assert len(next(stream)) > 0
    assert len(client.sample(energies[:3])) == 3


@pytest.mark.parametrize(
    ("token", "words"), [("another-token-entirely", "another token is expected"), (None, "asks for a token")]
)
def test_without_the_token(url: str, token: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    with Client(url, token=token) as own, pytest.raises(AuthError, match=words):
        own.models()


@pytest.mark.parametrize(
    ("energies", "asked", "message"),
    [
        ([1.0], {}, "HTTP 422 .*outside the trained range"),
        ([2e3], {"conditions": {"tilt": 1.0}}, "HTTP 422 .*conditions must be: none"),
        ([2e3], {"model": "other"}, "no model other"),
    ],
)
def test_what_is_refused(client: Client, energies: Any, asked: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        client.sample(energies, **asked)
