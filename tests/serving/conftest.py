"""The web application over the toy model in this process, and a client that speaks ASGI to it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from caloray.bundle import Bundle
from caloray.distributed.serve_app import Backstage, make_app
from caloray.errors import NumericalError
from caloray.io.sparse import SparseShowers
from caloray.io.stream_decoder import decode
from caloray.serving.access import digest_of
from caloray.serving.batching import JointSampler
from caloray.serving.models import Served
from caloray.serving.pieces import Made, PieceOrder
from caloray.serving.problems import hopeless
from caloray.serving.service import Limits, ShowerService

JSON = {"content-type": "application/json"}


@dataclass
class Reply:
    """What came back; ``whole`` is False where the body was broken off."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    whole: bool = False

    def json(self) -> Any:
        return json.loads(self.body)

    def showers(self) -> SparseShowers:
        return decode(self.body)[1]


class Client:
    """Sends requests to an ASGI application; replies are taken while ``reading`` is set."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.reading = threading.Event()
        self.reading.set()

    def get(self, path: str, **headers: str) -> Reply:
        return asyncio.run(self.send("GET", path, headers))

    def post(self, body: Any, path: str = "/v1/showers", **headers: str) -> Reply:
        return asyncio.run(self.ask(body, path, **headers))

    async def ask(self, body: Any, path: str = "/v1/showers", **headers: str) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.send("POST", path, {**JSON, **headers}, [data])

    async def send(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: Iterable[bytes] = ()
    ) -> Reply:
        """One request; the body goes in the given chunks."""
        named = {key.replace("_", "-").lower(): value for key, value in (headers or {}).items()}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.encode("utf-8", "surrogatepass"),
            "root_path": "",
            "query_string": path.partition("?")[2].encode(),
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in named.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        reply = Reply()
        whole = asyncio.Event()
        incoming = self._messages(list(body), whole)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {k.decode().lower(): v.decode("latin-1") for k, v in message["headers"]}
            else:
                reply.body += message.get("body", b"")
                reply.whole = not message.get("more_body", False)
                if reply.whole:
                    whole.set()

        await self.app(scope, incoming.__anext__, send)
        return reply

    async def _messages(self, chunks: list[bytes], whole: asyncio.Event) -> AsyncIterator[dict[str, object]]:
        """The body, and a disconnect once the reply went out to its end, as servers have it."""
        chunks = chunks or [b""]
        for i, chunk in enumerate(chunks):
            yield {"type": "http.request", "body": chunk, "more_body": i + 1 < len(chunks)}
        await whole.wait()
        while not self.reading.is_set():
            await asyncio.sleep(0.01)
        while True:
            yield {"type": "http.disconnect"}


class Local:
    """The service over bundles in this process."""

    def __init__(
        self,
        bundles: Mapping[str, Any],
        *,
        token: str | None = None,
        ready: bool = True,
        batch_rows: int | None = None,
        max_attempts: int = 10,
        **limits: Any,
    ) -> None:
        self.samplers = {
            name: JointSampler(bundle, batch_rows=batch_rows or bundle.block_size, max_attempts=max_attempts)
            for name, bundle in bundles.items()
        }
        served = {name: Served.of(name, bundle) for name, bundle in bundles.items()}
        digest = None if token is None else digest_of(token)
        self.service = ShowerService(served, self.make, Limits(**limits), digest)
        self.ready = ready
        self.client = Client(make_app(self.service, Backstage(self._ready, self._snapshots)))

    async def make(self, model: Served, order: PieceOrder, owner: str) -> Made:
        try:
            return await self.samplers[model.name].make(order, owner)
        except NumericalError as error:
            raise hopeless(int(error.context["redraws"])) from error

    async def _ready(self) -> bool:
        return self.ready

    async def _snapshots(self) -> Any:
        return [self.service.metrics.snapshot()]


@pytest.fixture(scope="session")
def bundle(bundle_path: Path) -> Bundle:
    """The toy model."""
    return Bundle.load(bundle_path)


@pytest.fixture(scope="session")
def local() -> type[Local]:
    """Makes services."""
    return Local


@pytest.fixture(scope="session")
def service(bundle: Bundle) -> Local:
    """A service of the toy model without a token."""
    return Local({"toy": bundle})


@pytest.fixture(scope="session")
def client(service: Local) -> Client:
    """Its client."""
    return service.client
