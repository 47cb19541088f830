"""Requests, addresses, tokens and pauses, without a service."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.client import AsyncClient, Client, Patience
from caloray.client.address import parse_address, resolve_token
from caloray.client.models import ServedModel
from caloray.client.patience import Clock, retry_after
from caloray.client.request import Piece, ShowerRequest
from caloray.errors import AuthError, ConfigError

OUTLINE = {"name": "g", "kind": "cartesian", "n_layers": 1, "n_voxels": 1}
MODEL = ServedModel(
    name="m", digest="", geometry=OUTLINE, energy_range=(1, 2), block_size=8, max_showers=10**6
)


@pytest.mark.parametrize(
    ("energies", "asked", "message"),
    [
        ([], {}, "shape"),
        (5e3, {}, "shape"),
        ([[1e3]], {}, "shape"),
        ([1e3, math.nan], {}, "NaN"),
        ([math.inf], {}, "NaN or infinity"),
        ([0.0], {}, "above 0"),
        ([-1.0], {}, "above 0"),
        (["a"], {}, "not numbers"),
        ([1e3], {"conditions": {"a": [1.0, 2.0]}}, "condition a"),
        ([1e3], {"conditions": {"a": [[1.0]]}}, "condition a"),
        ([1e3], {"conditions": {"a": math.nan}}, "condition a"),
        ([1e3], {"conditions": {"a": None}}, "condition a"),
        ([1e3], {"seed": -1}, "seed -1"),
        ([1e3], {"seed": 1 << 64}, "seed"),
        ([1e3], {"first": -1}, "first shower -1"),
        ([1e3], {"first": 1 << 53}, "first shower"),
        ([1e3], {"sed": 5}, "no 'sed' can be said of showers, did you mean 'seed'"),
        ([1e3], {"colour": 5}, "no 'colour' can be said of showers$"),
        ([1e3], {"seed": "a"}, "seed: str, expected a whole number"),
        ([1e3], {"seed": None}, "seed: NoneType"),
        ([1e3], {"seed": True}, "seed: bool"),
        ([1e3], {"seed": np.True_}, "seed: "),
        ([1e3], {"seed": 1.0}, "seed: float"),
        ([1e3], {"first": 1.5}, "first: float"),
        ([1e3], {"first": np.array([1, 2])}, "first: ndarray"),
        ([1e3], {"conditions": "theta"}, "conditions: no mapping"),
        ([1e3], {"conditions": [1]}, "conditions: no mapping"),
        ([1e3], {"conditions": {1: 2.0}}, "conditions: a name"),
        ([1e3], {"model": 3}, "model: no name"),
    ],
)
def test_requests_that_cannot_be_one(energies, asked, message):
    with pytest.raises(ConfigError, match=message):
        ShowerRequest.of(energies, asked)


@given(
    count=st.integers(1, 200),
    first=st.integers(0, 100),
    block=st.integers(1, 40),
    most=st.integers(1, 100),
)
def test_pieces_cover_a_request_once_and_end_at_blocks(count, first, block, most):
    request = ShowerRequest(np.arange(1.0, count + 1), {"a": np.arange(count)}, first=first)
    outline = {"name": "g", "kind": "cartesian", "n_layers": 1, "n_voxels": 1}
    model = ServedModel(
        name="m", digest="", geometry=outline, energy_range=(1, 2), block_size=block, max_showers=most
    )
    pieces = list(request.pieces(model))
    assert [i for piece in pieces for i in range(piece.start, piece.stop)] == list(
        range(first, first + count)
    )
    assert max(map(len, pieces)) <= most
    np.testing.assert_array_equal(np.concatenate([p.conditions()["a"] for p in pieces]), np.arange(count))
    if most >= 2 * block:
        assert all(piece.stop % block == 0 for piece in pieces[:-1])


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int8, int])
def test_whole_numbers_of_numpy(kind):
    request = ShowerRequest.of([1e3], {"seed": kind(3), "first": kind(4)})
    body = json.loads(next(request.pieces(MODEL)).body())
    assert (body["seed"], body["first"]) == (3, 4)


@pytest.mark.parametrize("limit", [1_000, 3_000, 50_000])
def test_bodies_stay_below_what_this_service_takes(limit):
    """Also where it takes much less than others, and the model has long names."""
    energies = np.nextafter(np.full(300, 1e4 / 3), np.inf)
    names = {f"{i}-{'n' * 20}": -1 / 3e-300 for i in range(5)}
    request = ShowerRequest(energies, {**names, "each": energies}, seed=2**64 - 1, model="m" * 100)
    pieces = list(request.pieces(MODEL.model_copy(update={"max_body_bytes": limit})))
    assert sum(map(len, pieces)) == 300
    assert max(len(piece.body()) for piece in pieces) <= limit


def test_bodies_stay_below_what_a_service_takes():
    energies = np.nextafter(np.full(1100, 1e4 / 3), np.inf)
    conditions = {f"condition_{i:02}": np.full(1100, -1 / 3e-300) for i in range(60)}
    request = ShowerRequest(energies, conditions, seed=2**64 - 1)
    sizes = [len(piece.body()) for piece in request.pieces(MODEL)]
    assert 700_000 < max(sizes) <= 1_000_000


def test_equal_requests_have_equal_bytes_that_hold_the_numbers_exactly():
    energies = np.array([1e4 / 3, np.nextafter(5e3, 0)])
    bodies = {Piece(ShowerRequest(energies, seed=1), 0, 2).body() for _ in range(2)}
    assert len(bodies) == 1
    np.testing.assert_array_equal(np.array(json.loads(bodies.pop())["energies"]), energies)


@pytest.mark.parametrize(
    ("url", "root", "loopback"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", True),
        ("http://localhost:8000/", "http://localhost:8000", True),
        ("http://[::1]:80/showers/", "http://[::1]:80/showers", True),
        ("https://farm.example", "https://farm.example", False),
    ],
)
def test_addresses(url, root, loopback):
    address = parse_address(url)
    assert (address.url, address.loopback) == (root, loopback)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://a",
        "http://",
        "http://a?b=c",
        "http://a#b",
        "http://a:99999999",
        "http://[::1",
        "http://a..b",
        "http://" + "a" * 300,
        "http://a\0b",
        "http://.",
    ],
)
def test_addresses_that_are_none(url):
    with pytest.raises(ConfigError, match="service address"):
        Client(url)
    with pytest.raises(ConfigError, match="service address"):
        AsyncClient(url)


def test_a_password_in_an_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        Client("http://me:secret@host:1")
    assert "secret" not in str(caught.value) + caught.value.hint


def test_where_the_token_comes_from(monkeypatch):
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    assert resolve_token(None) is None
    monkeypatch.setenv("CALORAY_SERVE_TOKEN", " from-environment\n")
    assert resolve_token(None) == "from-environment"
    assert resolve_token("given") == "given"


@pytest.mark.parametrize("token", ["", "  ", "two words", "line\nbreak", "ü", "nul\x00"])
def test_tokens_that_no_header_carries(token):
    with pytest.raises(AuthError) as caught:
        Client("http://127.0.0.1:1", token=token)
    assert not token.strip() or token not in str(caught.value)


def test_the_token_is_sent_and_never_shown(service, caplog, monkeypatch):
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    with Client(service.url, token="s3cret") as client:
        client.models()
        assert "s3cret" not in repr(client._talks.settings)
    with Client(service.url) as client:
        client.models()
    sent = [headers.get("authorization") for _, headers, _ in service.seen]
    assert sent == ["Bearer s3cret", None]
    assert "unencrypted" not in caplog.text


def test_a_token_on_an_open_line_is_warned_of(caplog):
    Client("http://farm.example", token="s3cret").close()
    assert "unencrypted" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_proxy_is_not_asked_for_what_is_on_this_machine(service, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Client(service.url, patience=Patience(limit=0)) as client:
        assert len(client.models()) == 1


def test_a_stream_has_its_header_from_the_first_batch_on(service):
    with Client(service.url) as client, client.stream([1e3]) as stream:
        with pytest.raises(ConfigError, match="no header yet"):
            _ = stream.header
        next(stream)
        assert stream.header.rows == 1


def test_two_requests_share_a_connection_and_the_list_of_models(service):
    with Client(service.url) as client:
        client.sample([1e3])
        client.sample([2e3])
        assert len(client._http._transport._pool.connections) == 1
    assert [path for path, _, _ in service.seen] == ["/v1/models", "/v1/showers", "/v1/showers"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 0 ", 0.0),
        ("-3", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("٣", None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 22 Nov 2026 12:00:30", None),
        ("9" * 400, math.inf),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value, datetime(2026, 11, 22, 12, tzinfo=UTC)) == seconds


@given(
    failures=st.integers(0, 10_000),
    chance=st.floats(0, 1),
    asked=st.none() | st.floats(0, 1e4),
)
def test_pauses_keep_their_bounds(failures, chance, asked):
    patience = Patience(first=0.5, longest=8)
    pause = patience.pause(failures, chance, asked)
    assert pause >= max(asked or 0, 0.25)
    assert pause <= max(8.0, (asked or 0) + 4.0)


@pytest.mark.parametrize(
    "wrong",
    [{"limit": -1}, {"first": 0}, {"first": 9, "longest": 3}, {"limit": math.inf}, {"longest": math.nan}],
)
def test_patience_that_makes_no_sense(wrong):
    with pytest.raises(ConfigError, match="patience"):
        Patience(**wrong)


@pytest.mark.parametrize("timeout", [0, -1, math.inf, math.nan])
def test_timeouts_that_make_no_sense(timeout):
    with pytest.raises(ConfigError, match="timeout"):
        Client("http://127.0.0.1:1", timeout=timeout)


def test_the_clock_is_a_clock():
    clock = Clock()
    before = clock.now()
    clock.sleep(0.001)
    assert clock.now() >= before + 0.001
    drawn = {clock.chance() for _ in range(20)}
    assert len(drawn) > 10
    assert all(0 <= value < 1 for value in drawn)


def test_the_client_needs_neither_torch_nor_ray():
    heavy = {"torch", "ray", "mlflow", "h5py", "scipy"}
    code = f"import caloray.client, sys; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
