"""The web application of the shower service: FastAPI around :class:`caloray.serving.service.ShowerService`.

It knows nothing of Ray: who makes showers, who is ready and what other processes counted come in as
functions.
"""

from __future__ import annotations

__all__ = ["Backstage", "make_app"]

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from caloray import __version__
from caloray.distributed.serve_schema import SHOWERS, describe, problems
from caloray.errors import ServiceError
from caloray.serving.documents import ModelFacts, State
from caloray.serving.guard import Guard
from caloray.serving.metrics import CONTENT_TYPE, Family, render
from caloray.serving.page_files import POLICY, PageFile, page_files
from caloray.serving.problems import Problem, internal, not_ready, of_status, too_large, too_slow, unsupported
from caloray.serving.replies import choose_form
from caloray.serving.service import Answer, ShowerService

PAGES = {"/": "shower.html", "/docs": "docs.html"}
PROBED = frozenset({"/v1/models", "/healthz", "/readyz", "/metrics"})
PATHS = frozenset({"/v1/showers", "/openapi.json", *PROBED, *PAGES})


@dataclass(frozen=True)
class Backstage:
    """What the application asks of the processes behind it.

    Args:
        ready: Whether a replica of every model answers.
        snapshots: The counts of all processes that answer requests, this one included.
    """

    ready: Callable[[], Awaitable[bool]]
    snapshots: Callable[[], Awaitable[Sequence[Sequence[Family]]]]


def make_app(service: ShowerService, backstage: Backstage) -> Guard:
    """The application, ready to be run by any ASGI server."""
    app = FastAPI(
        title="caloray",
        version=__version__,
        description="Calorimeter showers from trained normalizing flows.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _report_problems(app)
    _offer_showers(app, service)
    _offer_state(app, service, backstage)
    _offer_pages(app)
    _answer_head(app)
    describe(app)
    return Guard(app, service.metrics, PATHS)


class _Stream(Response):
    """A reply sent chunk by chunk; what is still being made is stopped when the client goes.

    What is sent may wait in queues of the server (Ray Serve's have no bound), so the reply keeps its place
    in the admission until the server says that it went out to its end, or that the client has gone.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(headers={"content-length": "", **answer.headers}, media_type=answer.form)
        if not self.headers["content-length"]:  # of a stream, nobody knows it yet
            del self.headers["content-length"]
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        del scope
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for chunk in self._answer:
                await send({"type": "http.response.body", "body": chunk, "more_body": bool(chunk)})
                if not chunk:
                    await _gone(receive)
        except Problem as problem:  # too late for another status: the missing end tells the client
            raise ServiceError(f"reply broken off: {problem.message}", hint=problem.hint) from problem
        finally:
            await self._answer.aclose()


async def _gone(receive: Receive) -> None:
    """Wait until a reply that was sent has been taken, or nobody is there to take it."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _offer_showers(app: FastAPI, service: ShowerService) -> None:
    @app.post("/v1/showers", **SHOWERS)
    async def showers(request: Request) -> Response:
        """Make showers.

        The reply is a pure function of the request: same request, same bytes, whatever else is asked at the
        same time. An Arrow stream without its end-of-stream mark was broken off; ask again.
        """
        headers = request.headers
        service.authorise(headers.get("authorization"))
        service.require_open()
        _require_json(request)
        form = choose_form(headers.get("accept"))
        order = service.read(await _body(request, service), form)
        return _Stream(await service.answer(order, form, request.scope["caloray.request"]))

    @app.get(
        "/v1/models",
        response_model=list[ModelFacts],
        response_description="The models.",
        responses=problems(401),
        tags=["showers"],
    )
    async def models(request: Request) -> Response:
        """What is served: names, readouts, trained ranges, limits."""
        service.authorise(request.headers.get("authorization"))
        limits = service.limits
        facts = [model.facts(limits.max_showers, limits.max_body_bytes) for model in service.models.values()]
        return JSONResponse(facts)


def _offer_state(app: FastAPI, service: ShowerService, backstage: Backstage) -> None:
    @app.get("/healthz", response_model=State, response_description="It does.", tags=["state"])
    async def healthz() -> Response:
        """Whether this process lives."""
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz",
        response_model=State,
        response_description="They would.",
        responses=problems(503),
        tags=["state"],
    )
    async def readyz() -> Response:
        """Whether requests for showers of every model would be answered."""
        service.require_open()
        if not await backstage.ready():
            raise not_ready(2)
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics",
        response_class=PlainTextResponse,
        response_description="The numbers.",
        responses=problems(401),
        tags=["state"],
    )
    async def metrics(request: Request) -> Response:
        """Counts and times in Prometheus' text form."""
        service.authorise(request.headers.get("authorization"))
        return Response(render(await backstage.snapshots()), media_type=CONTENT_TYPE)


def _answer_head(app: FastAPI) -> None:
    """Let load balancers probe without reading the answer."""
    for route in list(app.routes):
        if isinstance(route, APIRoute) and route.path in PROBED:
            app.add_api_route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)


def _offer_pages(app: FastAPI) -> None:
    files = page_files()

    def offer(path: str, file: PageFile) -> None:
        async def page(request: Request) -> Response:
            headers = {"etag": file.tag, "cache-control": "no-cache", "content-security-policy": POLICY}
            if request.headers.get("if-none-match") == file.tag:
                return Response(status_code=304, headers=headers)
            return Response(file.content, media_type=file.media_type, headers=headers)

        app.add_api_route(path, page, methods=["GET", "HEAD"], include_in_schema=False)

    for path, name in PAGES.items():
        offer(path, files[name])
    for name, file in files.items():
        offer(f"/page/{name}", file)


def _report_problems(app: FastAPI) -> None:
    async def explain(request: Request, error: Exception) -> Response:
        match error:
            case Problem():
                problem = error
            case HTTPException():
                problem = of_status(error.status_code, error.headers)
            case ClientDisconnect():
                problem = of_status(400)
            case _:
                problem = internal(str(request.scope.get("caloray.request", "unknown")))
        return _problem(problem)

    for kind in (Problem, HTTPException, ClientDisconnect, Exception):
        app.add_exception_handler(kind, explain)


def _require_json(request: Request) -> None:
    """Take plain JSON only.

    Raises:
        Problem: 415.
    """
    kind, *parameters = (part.strip() for part in request.headers.get("content-type", "").lower().split(";"))
    strange = [p for p in parameters if p and p.replace('"', "") != "charset=utf-8"]
    encoding = request.headers.get("content-encoding", "identity").lower()
    if kind != "application/json" or strange or encoding != "identity":
        raise unsupported()


async def _body(request: Request, service: ShowerService) -> bytes:
    """The body, as long as it is neither too long nor too slow.

    Raises:
        Problem: 413 or 408.
    """
    limits = service.limits
    announced = request.headers.get("content-length", "0").lstrip("0") or "0"
    longest = len(str(limits.max_body_bytes))  # of a number of any length, only so many digits are read
    if not announced.isdecimal() or len(announced) > longest or int(announced) > limits.max_body_bytes:
        raise too_large(limits.max_body_bytes)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.max_body_bytes:
                    raise too_large(limits.max_body_bytes)
    except TimeoutError:
        raise too_slow(limits.body_timeout_s) from None
    return bytes(body)


def _problem(problem: Problem) -> Response:
    return Response(problem.body(), problem.status, problem.headers, "application/json")
