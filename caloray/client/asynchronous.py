"""The client for programs that do other things while showers come: asyncio or trio."""

from __future__ import annotations

__all__ = ["AsyncClient", "AsyncShowerStream"]

from collections.abc import AsyncGenerator, AsyncIterator
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack, cast, overload

import httpx2

from caloray.client.collecting import Collection
from caloray.client.models import ServedModel, choose
from caloray.client.receipt import Delivery
from caloray.client.request import Asked, Numbers
from caloray.client.shared import ClientBase, StreamBase, build, head_of
from caloray.client.steps import Give, Head, Lost, Pause, Read, Send, Talk
from caloray.client.wire import HttpOptions, lost
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

D = TypeVar("D")


class AsyncClient(ClientBase[httpx2.AsyncClient]):
    """:class:`caloray.client.blocking.Client` for asynchronous code: the same words, awaited.

    Arguments are those of :class:`caloray.client.shared.ClientBase`.
    """

    @staticmethod
    def _open(options: HttpOptions) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(**options)

    async def models(self) -> list[ServedModel]:
        """What is served; raises as the blocking one."""
        self._require_open()
        given = [item async for item in self._carry_out(self._talks.listed())]
        return cast("list[ServedModel]", given[0])

    async def choose(self, model: str | None = None) -> ServedModel:
        """The model of this name, or the only one that is served; raises as the blocking one."""
        return choose(await self.models(), model, self._talks.settings.address.url)

    @overload
    async def sample(self, energies: Numbers, *, arrow: Literal[True], **asked: Unpack[Asked]) -> Any: ...

    @overload
    async def sample(
        self, energies: Numbers, *, arrow: Literal[False] = False, **asked: Unpack[Asked]
    ) -> Showers: ...

    async def sample(self, energies: Numbers, *, arrow: bool = False, **asked: Unpack[Asked]) -> Any:
        """Showers for the given particles, all at once.

        Arguments, result and errors are those of :meth:`caloray.client.blocking.Client.sample`.
        """
        request = self._request(energies, asked)
        collection = Collection(request, arrow=arrow)
        async for delivery in self._carry_out(self._talks.showers(request)):
            collection.add(delivery)
        return collection.result()

    @overload
    def stream(
        self, energies: Numbers, *, arrow: Literal[True], **asked: Unpack[Asked]
    ) -> AsyncShowerStream[Any]: ...

    @overload
    def stream(
        self, energies: Numbers, *, arrow: Literal[False] = False, **asked: Unpack[Asked]
    ) -> AsyncShowerStream[SparseShowers]: ...

    def stream(
        self, energies: Numbers, *, arrow: bool = False, **asked: Unpack[Asked]
    ) -> AsyncShowerStream[Any]:
        """The showers of :meth:`sample` in batches as they come; any number in constant memory.

        Arguments and errors are those of :meth:`caloray.client.blocking.Client.stream`. Several streams may
        run at the same time, for example of different parts (``first``) of one sample.
        """
        request = self._request(energies, asked)
        return AsyncShowerStream(self._carry_out(self._talks.showers(request)), request.first, arrow=arrow)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _carry_out(self, talk: Talk[None]) -> AsyncGenerator[Any, None]:
        """Do what a talk asks for, step by step, and yield what it gives."""
        reply: httpx2.Response | None = None
        pieces: AsyncIterator[bytes] | None = None
        answer: Head | bytes | Lost | None = None
        try:
            while True:
                try:
                    step = talk.send(answer)
                except StopIteration:
                    return
                answer = None
                match step:
                    case Send():
                        await _drop(reply)
                        reply, answer = await self._send(step)
                        pieces = None if reply is None else reply.aiter_bytes()
                    case Read():
                        answer = await _read(pieces)
                    case Pause(seconds=seconds):
                        await _drop(reply)
                        await self._talks.settings.clock.sleep_async(seconds)
                    case Give(item=item):
                        yield item
        finally:
            talk.close()
            await _drop(reply)

    async def _send(self, step: Send) -> tuple[httpx2.Response | None, Head | Lost]:
        try:
            reply = await self._http.send(build(self._http, step), stream=True)
        except httpx2.HTTPError as error:
            return None, lost(error)
        return reply, head_of(reply)


class AsyncShowerStream(StreamBase[D]):
    """Batches of showers as they come in; a context manager, so that an early end closes the connection."""

    def __init__(self, deliveries: AsyncGenerator[Delivery, None], first: int, *, arrow: bool) -> None:
        super().__init__(first, arrow=arrow)
        self._deliveries = deliveries

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> D:
        return self._taken(await anext(self._deliveries))

    async def close(self) -> None:
        """Break the stream off."""
        await self._deliveries.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _read(pieces: AsyncIterator[bytes] | None) -> bytes | Lost:
    if pieces is None:
        return b""
    try:
        return await anext(pieces, b"")
    except httpx2.HTTPError as error:
        return lost(error)


async def _drop(reply: httpx2.Response | None) -> None:
    """Break a reply off; one that was read to its end leaves its connection to the next."""
    if reply is not None:
        await reply.aclose()
