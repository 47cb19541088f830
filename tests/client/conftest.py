"""A misbehaving service, a clock that does not wait, and both clients behind one face."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from caloray.client import AsyncClient, Client
from caloray.client.patience import Clock


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake() -> Any:
    """The module ``fake_service``."""
    return _load("fake_service")


@pytest.fixture
def service(fake: Any) -> Iterator[Any]:
    """A service on loopback."""
    running, server = fake.start()
    yield running
    server.shutdown()
    server.server_close()


class FakeClock(Clock):
    """Time that passes only while somebody sleeps, and ``tick`` seconds at every look."""

    def __init__(self) -> None:
        self.time = 100.0
        self.tick = 0.0
        self.luck = 0.5
        self.slept: list[float] = []

    def now(self) -> float:
        self.time += self.tick
        return self.time

    def chance(self) -> float:
        return self.luck

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock() -> FakeClock:
    """The clock of the clients under test."""
    return FakeClock()


class Blocking:
    """The blocking client."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options

    def models(self) -> Any:
        with Client(self.url, **self.options) as client:
            return client.models()

    def sample(self, energies: Any, **asked: Any) -> Any:
        with Client(self.url, **self.options) as client:
            return client.sample(energies, **asked)

    def stream(self, energies: Any, into: list[Any], **asked: Any) -> Any:
        """Put all batches into a list; the stream that is left."""
        with Client(self.url, **self.options) as client, client.stream(energies, **asked) as stream:
            into.extend(stream)
            return stream


class Asynchronous(Blocking):
    """The asynchronous one."""

    def models(self) -> Any:
        async def work() -> Any:
            async with AsyncClient(self.url, **self.options) as client:
                return await client.models()

        return anyio.run(work)

    def sample(self, energies: Any, **asked: Any) -> Any:
        async def work() -> Any:
            async with AsyncClient(self.url, **self.options) as client:
                return await client.sample(energies, **asked)

        return anyio.run(work)

    def stream(self, energies: Any, into: list[Any], **asked: Any) -> Any:
        async def work() -> Any:
            async with (
                AsyncClient(self.url, **self.options) as client,
                client.stream(energies, **asked) as stream,
            ):
                async for batch in stream:
                    into.append(batch)  # noqa: PERF401  (what came before an error is wanted too)
                return stream

        return anyio.run(work)


@pytest.fixture(params=[Blocking, Asynchronous], ids=["blocking", "asynchronous"])
def caller(request: pytest.FixtureRequest, service: Any, clock: FakeClock, monkeypatch: Any) -> Any:
    """A client of the service."""
    monkeypatch.delenv("CALORAY_SERVE_TOKEN", raising=False)
    return request.param(service.url, clock=clock)
