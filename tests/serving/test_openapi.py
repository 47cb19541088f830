"""Requests made up from the OpenAPI document, right ones and wrong ones: never 500, always what it says."""

from __future__ import annotations

import json
import math
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

TOKEN = "a-token-for-these-tests"
CALM = hypothesis.settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
GUARDED = {"/v1/showers", "/v1/models", "/metrics"}
CHECKS = (content_type_conformance, response_schema_conformance, status_code_conformance)


@pytest.fixture(scope="module")
def guarded(local: Any, bundle: Any) -> Any:
    """A service with a token and small limits."""
    return local({"toy": bundle}, token=TOKEN, max_showers=50, max_body_bytes=20_000)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("token", [TOKEN, "another-token-entirely"], ids=["right", "wrong"])
def test_replies_are_those_of_the_document(guarded: Any, token: str, mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_asgi("/openapi.json", guarded.client.app)
    operations = [found.ok() for found in document.get_all_operations()]
    assert {operation.path for operation in operations} >= {*GUARDED, "/healthz", "/readyz"}
    for operation in operations:
        try:
            strategy = operation.as_strategy(generation_mode=mode)
            CALM(given(case=strategy)(one_reply))(token=token)
        except hypothesis.errors.Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing can be wrong where nothing is sent
            assert operation.method == "get"


def one_reply(case: Any, token: str) -> None:
    """Carry out a request and hold its reply to the document."""
    response = case.call(headers={"authorization": f"Bearer {token}"})
    assert response.status_code < 500
    if token != TOKEN and case.path in GUARDED:
        assert response.status_code == 401
    case.validate_response(response, checks=CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["application/json", "application/vnd.apache.arrow.stream"])
def test_showers_are_those_of_the_document(guarded: Any, form: str) -> None:
    """Requests of the document, with energies that the model was trained on."""

    def one(case: Any) -> None:
        energies = [2e3 + math.fmod(energy, 4.7e4) for energy in case.body["energies"]][:50]
        numbers = {name: int(case.body.get(name, 0)) >> 1 for name in ("seed", "first")}
        case.body = {"energies": energies, "model": "toy", **numbers}
        response = case.call(headers={"authorization": f"Bearer {TOKEN}", "Accept": form})
        assert response.status_code == 200
        assert response.headers["content-type"] == [form]
        case.validate_response(response, checks=CHECKS)

    document = schemathesis.openapi.from_asgi("/openapi.json", guarded.client.app)
    strategy = document["/v1/showers"]["POST"].as_strategy(generation_mode=GenerationMode.POSITIVE)
    CALM(given(case=strategy)(one))()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=20,
)
_FIELDS = ("model", "energies", "conditions", "seed", "first", "unknown")
_ALMOST = st.dictionaries(st.sampled_from(_FIELDS), _JSON | st.lists(st.floats(1e3, 5e4), max_size=60))
MARK = "remember-this-text"


def is_problem(reply: Any) -> bool:
    """An error in the service's own form and size."""
    error = reply.json()["error"]
    return (
        len(reply.body) <= 2000
        and set(error) == {"code", "message", "hint"}
        and MARK not in reply.body.decode()
    )


@hypothesis.settings(max_examples=150, suppress_health_check=list(hypothesis.HealthCheck))
@given(body=_JSON | _ALMOST | _ALMOST.map(lambda held: {"energies": [2e3], **held}))
def test_any_json_is_answered_with_showers_or_a_reason(guarded: Any, body: Any) -> None:
    reply = guarded.client.post(json.dumps(body).encode(), authorization=f"Bearer {TOKEN}")
    assert reply.status in {200, 404, 413, 422}
    assert reply.status == 200 or is_problem(reply)


_BYTES = st.binary(max_size=200) | st.text().map(lambda text: text.encode("utf-16"))


@hypothesis.settings(max_examples=80, suppress_health_check=list(hypothesis.HealthCheck))
@given(body=_BYTES, name=st.sampled_from(_FIELDS))
def test_any_bytes_are_answered_with_a_reason(guarded: Any, body: bytes, name: str) -> None:
    for sent in (body, b'{"' + name.encode() + b'":' + body, b"[" * 5000 + body):
        reply = guarded.client.post(sent, authorization=f"Bearer {TOKEN}")
        assert reply.status in {413, 422}
        assert is_problem(reply)


@pytest.mark.parametrize(
    "body",
    [
        {"energies": [MARK]},
        {"energies": [2e3], MARK: 1},
        {"energies": [2e3], "model": MARK},
        {"energies": [2e3], "conditions": {MARK: 1.0}},
        {"energies": [2e3], "seed": MARK},
        MARK,
    ],
)
def test_nothing_that_was_sent_comes_back(guarded: Any, body: Any) -> None:
    reply = guarded.client.post(body, authorization=f"Bearer {TOKEN}")
    assert reply.status in {404, 422}
    assert is_problem(reply)
