"""The outermost ring of the web application (plain ASGI): request ids, safe headers, counts and times."""

from __future__ import annotations

__all__ = ["Guard"]

import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from caloray.serving.metrics import ServiceMetrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guard:
    """Wraps an ASGI application.

    Every request gets an id (``scope["caloray.request"]``, header ``x-caloray-request``), every reply headers
    against misuse by browsers; each finished request is counted.

    Args:
        application: What answers.
        metrics: Where requests are counted.
        paths: Paths that are counted under their own name; all others count as "other".
    """

    def __init__(self, application: Application, metrics: ServiceMetrics, paths: frozenset[str]) -> None:
        self._application = application
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        reference = secrets.token_hex(8)
        scope["caloray.request"] = reference
        status, began = "aborted", time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                added = [(b"x-caloray-request", reference.encode()), *_HEADERS]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            await self._application(scope, receive, answer)
        finally:
            self._count(scope, status, time.monotonic() - began)

    def _count(self, scope: MutableMapping[str, Any], status: str, seconds: float) -> None:
        path = scope["path"] if scope["path"] in self._paths else "other"
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(path, method, status).inc()
        self._metrics.latency.labels(path).observe(seconds)
