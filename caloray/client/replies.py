"""What a reply that brings no showers means."""

from __future__ import annotations

__all__ = ["AGAIN", "is_json", "is_stream", "reason_of", "refusal"]

import json
from collections.abc import Mapping
from http import HTTPStatus

from caloray.errors import AuthError, CaloRayError, ConfigError, NumericalError, ServiceError
from caloray.io.shower_stream import MEDIA_TYPE
from caloray.serving.access import TOKEN_VARIABLE

AGAIN = frozenset({500, 502, 503, 504})
"""Statuses after which the same request may be made again: the server, not the request, is at fault."""
MAX_TEXT = 300


def is_stream(headers: Mapping[str, str]) -> bool:
    """Whether a reply says that it is a stream of showers."""
    return _media_type(headers) == MEDIA_TYPE


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether a reply says that it is JSON."""
    return _media_type(headers) == "application/json"


def reason_of(status: int, body: bytes) -> str:
    """Status and, if the server gave one, its message in one line."""
    message = _field(body, "message")
    return f"HTTP {status} {_phrase(status)}".strip() + (f": {message}" if message else "")


def refusal(status: int, body: bytes, url: str) -> CaloRayError:
    """The error for a reply that another try would not change."""
    reason, hint = f"{url}: {reason_of(status, body)}", _field(body, "hint")
    if status in {401, 403}:
        advice = f"pass the token of the service, or set {TOKEN_VARIABLE}"
        return AuthError(reason, hint=advice, status=status)
    if 300 <= status < 400:
        return ConfigError(reason, hint="redirects are not followed: use the final address", status=status)
    if 400 <= status < 500:
        advice = "is this the address of a caloray service?" if status in {404, 405} else ""
        kind = NumericalError if _field(body, "code") == NumericalError.code else ConfigError
        return kind(reason, hint=hint or advice, status=status)
    return ServiceError(reason, hint=hint or "the log of the service says more", status=status)


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _field(body: bytes, name: str) -> str:
    """A text of ``{"error": {...}}``, made fit for one line of a terminal; "" if there is none."""
    try:
        text = json.loads(body)["error"][name]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MAX_TEXT]).split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 3] + "..."
