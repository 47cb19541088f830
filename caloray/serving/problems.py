"""What the service answers when it cannot do what was asked: a status, a code, one sentence and a hint.

Nothing that came in with a request is ever repeated in an answer: neither values nor names of fields.
Sentences are made of our own words and of the limits that were exceeded.
"""

from __future__ import annotations

__all__ = [
    "MAX_BYTES",
    "Problem",
    "busy",
    "draining",
    "hopeless",
    "internal",
    "invalid",
    "not_acceptable",
    "not_ready",
    "of_status",
    "too_large",
    "too_slow",
    "unauthorised",
    "unknown_model",
    "unsupported",
]

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from caloray.errors import AuthError, CaloRayError, ConfigError, NumericalError, ServiceError

MAX_BYTES = 2000
"""Longest body of an answer that reports a problem."""
_LONGEST = 800
_CLOSE = {"connection": "close"}


class Problem(Exception):
    """An answer other than showers.

    Args:
        status: HTTP status.
        kind: The error class whose code the answer carries.
        message: One sentence.
        hint: What the client can do about it.
        headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        kind: type[CaloRayError],
        message: str,
        hint: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = kind.code
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The answer's JSON, at most :data:`MAX_BYTES` long."""
        text = self._text(_LONGEST)
        return text if len(text) <= MAX_BYTES else self._text(_LONGEST // 6)  # letters beyond ASCII take six

    def _text(self, longest: int) -> bytes:
        texts = {"message": self.message[:longest], "hint": self.hint[:longest]}
        return json.dumps({"error": {"code": self.code, **texts}}).encode()


def invalid(message: str, hint: str = "") -> Problem:
    """422: a body that is no request, or a request that the model cannot carry out."""
    return Problem(422, ConfigError, message, hint or "see /docs for the fields and their limits")


def hopeless(redraws: int) -> Problem:
    """422: the model gives no valid shower for this particle and seed."""
    return Problem(
        422,
        NumericalError,
        f"the model gave no valid shower after {redraws} redraws",
        "the same request will fail again: use another seed, and tell the model's authors",
    )


def unauthorised(*, presented: bool = False) -> Problem:
    """401: no token, or another one than expected (``presented``)."""
    challenge = {"www-authenticate": 'Bearer realm="caloray"'}
    hint = "send the header `Authorization: Bearer TOKEN`"
    message = "another token is expected" if presented else "this service asks for a token"
    return Problem(401, AuthError, message, hint, challenge)


def unknown_model(names: Sequence[str]) -> Problem:
    """404: a model that is not served here."""
    hint = f"served are: {', '.join(names[:20])}; GET /v1/models tells more"
    return Problem(404, ConfigError, "no such model here", hint)


def too_large(limit: int) -> Problem:
    """413: a body of more than ``limit`` bytes."""
    message = f"the body has more than {limit} bytes"
    return Problem(413, ConfigError, message, "ask for fewer showers at a time", _CLOSE)


def too_slow(seconds: float) -> Problem:
    """408: the body did not come."""
    message = f"the body was not complete after {seconds:g} s"
    return Problem(408, ConfigError, message, "send it in one go", _CLOSE)


def unsupported() -> Problem:
    """415: a body that is not plain JSON."""
    hint = "send `Content-Type: application/json`, not compressed"
    return Problem(415, ConfigError, "the body must be JSON", hint)


def not_acceptable(offered: Sequence[str]) -> Problem:
    """406: the client takes none of the forms that there are."""
    return Problem(406, ConfigError, "no such form of reply", f"accept one of: {', '.join(offered)}")


def busy(retry_after: int) -> Problem:
    """503: the queue is full."""
    return _later(retry_after, "too many requests are waiting", "with a random delay on top")


def not_ready(retry_after: int) -> Problem:
    """503: nobody makes showers at the moment (starting, or restarting after a failure)."""
    return _later(retry_after, "the model is not ready", "it is being started")


def draining(retry_after: int) -> Problem:
    """503: the service is about to stop."""
    problem = _later(retry_after, "the service is shutting down", "or ask another instance")
    problem.headers |= _CLOSE
    return problem


def internal(reference: str) -> Problem:
    """500: a fault of the service itself."""
    hint = f"please report it with the request id {reference}"
    return Problem(500, CaloRayError, "a fault of the service", hint)


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """What the web framework answers by itself: 404 for paths, 405 for methods, 400 for the rest."""
    hint = {404: "see /docs for the paths", 405: "see /docs for the methods"}.get(status, "see /docs")
    return Problem(status, ConfigError, HTTPStatus(status).phrase.lower(), hint, headers)


def _later(retry_after: int, message: str, hint: str) -> Problem:
    headers = {"retry-after": str(retry_after)}
    return Problem(503, ServiceError, message, f"try again in {retry_after} s, {hint}", headers)
