"""Whatever comes in, the answer is short, of our own words, and never a 500."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

GOOD = {"energies": [2000.0, 3000.0], "seed": 1}
SECRET = "vq7Zx-secret"
EVERY = "every condition must be a finite number or a list of finite numbers"


def refused(reply, status):
    """The reply is a problem of this status, short, and says nothing that came in."""
    assert reply.status == status, reply.body
    assert len(reply.body) <= 2000
    assert set(reply.json()["error"]) == {"code", "message", "hint"}
    assert SECRET not in reply.body.decode()
    assert reply.headers["content-type"] == "application/json"
    return reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"energies": ' + b"[" * 900, "not JSON"),
        (b"null", "a JSON object"),
        (b"[1]", "a JSON object"),
        (b'"text"', "a JSON object"),
        (b"{}", "energies is missing"),
        (b'{"energies": [NaN]}', "energies[0] must be a finite number"),
        (b'{"energies": [2000, Infinity]}', "energies[1] must be a finite number"),
        (b'{"energies": [1e400]}', "energies[0] must be a finite number"),
        (b'{"energies": [-1]}', "greater than 0"),
        (b'{"energies": [0]}', "greater than 0"),
        (b'{"energies": []}', "must not be empty"),
        (b'{"energies": ["2000"]}', "energies[0] must be a number"),
        (b'{"energies": [true]}', "energies[0] must be a number"),
        (b'{"energies": 2000}', "energies must be a list"),
        (b'{"energies": {"a": 1}}', "energies must be a list"),
        (b'{"energies": [999]}', "outside the trained range"),
        (b'{"energies": [2000, 1e9]}', "energies[1] is outside the trained range"),
        (b'{"energies": [2000], "seed": -1}', "seed must be at least 0"),
        (b'{"energies": [2000], "seed": 18446744073709551616}', "seed must be at most"),
        (b'{"energies": [2000], "seed": 1' + b"0" * 4000 + b"}", "seed must be at most"),
        (b'{"energies": [2000], "seed": 1' + b"0" * 5000 + b"}", "a number has too many digits"),
        (b'{"energies": [2000], "seed": 9007199254740993.0}', "seed must be a whole number"),
        (b'{"energies": [2000], "first": -1.0}', "first must be at least 0"),
        (b'{"energies": [2000], "seed": true}', "seed must be a whole number"),
        (b'{"energies": [2000], "seed": 1.5}', "seed must be a whole number"),
        (b'{"energies": [2000], "seed": "1"}', "seed must be a whole number"),
        (b'{"energies": [2000], "first": -1}', "first must be at least 0"),
        (b'{"energies": [2000, 2000], "first": 9007199254740991}', "last id must be at most"),
        (b'{"energies": [2000], "vq7Zx-secret": 1}', "unknown field"),
        (b'{"energies": [2000], "conditions": {"vq7Zx-secret": 1}}', "conditions must be: none"),
        (b'{"energies": [2000], "conditions": {"vq7Zx-secret": "x"}}', EVERY),
        (b'{"energies": [2000], "conditions": {"vq7Zx-secret": true}}', EVERY),
        (b'{"energies": [2000], "conditions": {"vq7Zx-secret": null}}', EVERY),
        (b'{"energies": [2000], "conditions": {"vq7Zx-secret": []}}', EVERY),
        (b'{"energies": [2000], "conditions": {"vq7Zx-secret": [1, NaN]}}', EVERY),
        (b'{"energies": [2000], "conditions": [1]}', "conditions must be an object"),
        (b'{"energies": [2000], "model": "' + b"x" * 101 + b'"}', "at most 100 characters"),
        (b'{"energies": [2000], "model": 7}', "model must be a string"),
        (json.dumps({"energies": [2000.0] * 501}).encode(), "at most 500 entries"),
    ],
)
def test_bodies_that_are_no_request(bundle, local, body, words):
    small = local({"toy": bundle}, max_showers=500)
    assert words in refused(small.client.post(body), 422)


def test_a_model_that_is_not_served(client):
    message = refused(client.post({**GOOD, "model": SECRET}), 404)
    assert message == "no such model here"


def test_several_models_have_to_be_told_apart(bundle, local):
    both = local({"a": bundle, "b": bundle}).client
    assert "model is missing" in refused(both.post(GOOD), 422)
    assert both.post({**GOOD, "model": "b"}).status == 200


def test_body_too_long(client):
    limit = 1_000_000
    body = json.dumps({"energies": [2000.0] * 200_000}).encode()
    assert len(body) > limit
    for headers in ({"content-length": str(len(body))}, {"content-length": "9" * 5000}, {}):
        chunks = [body[i : i + 65536] for i in range(0, len(body), 65536)]
        reply = asyncio.run(
            client.send("POST", "/v1/showers", {"content-type": "application/json", **headers}, chunks)
        )
        refused(reply, 413)


def test_body_that_does_not_come(bundle, local):
    slow = local({"toy": bundle}, body_timeout_s=0.05).client

    async def ask():
        async def wait():
            await asyncio.sleep(10)

        scope_reply = {}

        async def send(message):
            scope_reply.setdefault("status", message.get("status"))

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/showers",
            "raw_path": b"/v1/showers",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        await slow.app(scope, wait, send)
        return scope_reply["status"]

    assert asyncio.run(ask()) == 408


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-encoding": "gzip"},
    ],
)
def test_other_kinds_of_body(client, headers):
    refused(client.post(GOOD, **headers), 415)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "Application/JSON;"])
def test_kinds_that_are_json(client, kind):
    assert client.post(GOOD, **{"content-type": kind}).status == 200


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "a/b;q=nan, */*;q=x"])
def test_forms_that_there_are_not(client, accept):
    refused(client.post(GOOD, accept=accept), 406)


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "XYZ"])
def test_other_methods(client, method):
    reply = asyncio.run(client.send(method, "/v1/showers"))
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/", "/docs"])
def test_probes(client, path):
    """Load balancers ask with HEAD."""
    got, probed = client.get(path), asyncio.run(client.send("HEAD", path))
    assert probed.status == got.status == 200
    assert probed.headers["content-type"] == got.headers["content-type"]


def test_lengths_with_zeros_before_them(client):
    body = json.dumps(GOOD).encode()
    assert client.post(body, **{"content-length": f"{len(body):020}"}).status == 200
    refused(client.post(body, **{"content-length": "0" * 20 + "2000000"}), 413)


def test_whole_numbers_may_have_a_point(client):
    """As JSON Schema has it, and as the OpenAPI document therefore promises."""
    whole = client.post({**GOOD, "seed": 3, "first": 2})
    assert client.post(b'{"energies": [2000, 3000], "seed": 3.0, "first": 2e0}').body == whole.body


@pytest.mark.parametrize("path", [f"/{SECRET}", "/v1/showers/", "/page/../secret", "/docs/x", "/%00", "//"])
def test_other_paths(client, path):
    refused(client.get(path), 404)


def test_token(bundle, local):
    token = "a-token-of-20-letters"
    guarded = local({"toy": bundle}, token=token).client
    for wrong in (None, "Bearer ", "Bearer x", f"Basic {token}", f"bearer {token}x", f"Bearer {SECRET}", "ü"):
        headers = {} if wrong is None else {"authorization": wrong}
        reply = guarded.post(GOOD, **headers)
        asked_for = "this service asks for a token" if wrong is None else "another token is expected"
        assert refused(reply, 401) == asked_for
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert guarded.get("/v1/models", **headers).status == 401
        assert guarded.get("/metrics", **headers).status == 401
    assert guarded.post(GOOD, authorization=f"Bearer {token}").status == 200
    assert guarded.get("/v1/models", authorization=f"bearer  {token}").status == 200
    for path in ("/", "/docs", "/healthz", "/readyz", "/openapi.json"):
        assert guarded.get(path).status == 200


def test_the_token_comes_before_the_body(bundle, local):
    guarded = local({"toy": bundle}, token="a-token-of-20-letters").client
    refused(guarded.post(b"{"), 401)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["model", "energies", "conditions", "seed", "first", "other"])
BODIES = (
    st.dictionaries(FIELDS, JSONS, max_size=5)
    | JSONS
    | st.builds(lambda extra: {**GOOD, **extra}, st.dictionaries(FIELDS, JSONS, max_size=2))
)


@settings(max_examples=80)
@given(value=BODIES)
def test_any_json_is_answered(client, value):
    reply = client.post(json.dumps(value).encode())
    assert reply.status in {200, 404, 422}, reply.body
    if reply.status != 200:
        refused(reply, reply.status)


@settings(max_examples=50)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_answered(client, data):
    refused(client.post(data), 422)


@settings(max_examples=40)
@given(
    word=st.text(alphabet="QZXJ7", min_size=8, max_size=12), where=st.sampled_from(["key", "value", "name"])
)
def test_nothing_is_echoed(client, word, where):
    value = {
        "key": {**GOOD, word: 1},
        "value": {**GOOD, "seed": word},
        "name": {**GOOD, "conditions": {word: [word]}},
    }[where]
    reply = client.post(value)
    refused(reply, 422)
    assert word not in reply.body.decode()


@settings(max_examples=40)
@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["accept", "content-type", "authorization", "content-length", "if-none-match", "host"]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
    )
)
def test_any_header_is_answered(client, headers):
    assert client.post(GOOD, **headers).status < 500
    assert client.get("/", **headers).status < 500
