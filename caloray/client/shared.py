"""What the blocking and the asynchronous client have in common: all but the waiting."""

from __future__ import annotations

__all__ = ["ClientBase", "StreamBase", "build", "head_of"]

from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar, cast

import httpx2

from caloray.client.address import parse_address, resolve_token
from caloray.client.patience import Clock, Patience
from caloray.client.receipt import Delivery
from caloray.client.request import Asked, Numbers, ShowerRequest
from caloray.client.steps import Head, Send
from caloray.client.talk import Settings, Talks
from caloray.client.wire import HttpOptions, http_options
from caloray.errors import ConfigError
from caloray.io.shower_stream import StreamHeader

Http = TypeVar("Http", httpx2.Client, httpx2.AsyncClient)
D = TypeVar("D")


class ClientBase(ABC, Generic[Http]):
    """Asks a caloray service for showers.

    Args:
        url: Address of the service, for example ``http://127.0.0.1:8000``.
        token: Bearer token; that of the environment variable ``CALORAY_SERVE_TOKEN`` when omitted.
        timeout: Longest wait for the next batch of showers [s].
        patience: Pauses between tries, and when to give up.
        clock: Time and chance; another one for tests.

    Raises:
        ConfigError: The address is none.
        AuthError: The token cannot be one.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 300.0,
        patience: Patience | None = None,
        clock: Clock | None = None,
    ) -> None:
        settings = Settings(
            parse_address(url), resolve_token(token), timeout, patience or Patience(), clock or Clock()
        )
        self._talks = Talks(settings)
        self._http: Http = self._open(http_options(settings))

    @staticmethod
    @abstractmethod
    def _open(options: HttpOptions) -> Http:
        """The client of the HTTP library."""

    def _require_open(self) -> None:
        if self._http.is_closed:
            raise ConfigError("the client was closed", hint="make a new one, or close it later")

    def _request(self, energies: Numbers, asked: Asked) -> ShowerRequest:
        self._require_open()
        return ShowerRequest.of(energies, asked)


class StreamBase(Generic[D]):
    """How far a stream of showers has come."""

    def __init__(self, first: int, *, arrow: bool) -> None:
        self.next_shower = first
        """Id of the first shower that has not been given: where to go on."""
        self._arrow = arrow
        self._header: StreamHeader | None = None

    @property
    def header(self) -> StreamHeader:
        """Bundle, geometry and seed, from the first batch on.

        Raises:
            ConfigError: No batch has come yet.
        """
        if self._header is None:
            raise ConfigError("the stream has no header yet", hint="take a batch first")
        return self._header

    def _taken(self, delivery: Delivery) -> D:
        self._header = delivery.header
        self.next_shower += len(delivery.batch.showers)
        return cast("D", delivery.batch.record if self._arrow else delivery.batch.showers)


def build(http: httpx2.Client | httpx2.AsyncClient, step: Send) -> httpx2.Request:
    """The request of a step, ready to be sent."""
    headers: Any = dict(step.headers)
    return http.build_request(step.method, step.path, headers=headers, content=step.body or None)


def head_of(reply: httpx2.Response) -> Head:
    """What a talk is told of a reply that begins."""
    return Head(reply.status_code, reply.headers)
