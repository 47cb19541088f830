"""The client for programs that wait for their showers."""

from __future__ import annotations

__all__ = ["Client", "ShowerStream"]

from collections.abc import Generator, Iterator
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


class Client(ClientBase[httpx2.Client]):
    """Asks a caloray service for showers.

    Requests that fail because of the network or of the server are made again (:class:`Patience`); those that
    the server refuses are not. May be used by several threads. Arguments are those of
    :class:`caloray.client.shared.ClientBase`.
    """

    @staticmethod
    def _open(options: HttpOptions) -> httpx2.Client:
        return httpx2.Client(**options)

    def models(self) -> list[ServedModel]:
        """What is served.

        Raises:
            ConfigError: There is no caloray service at the address.
            AuthError: The token is missing or wrong.
            ServiceError: The service cannot be reached or is busy.
        """
        self._require_open()
        given = list(self._carry_out(self._talks.listed()))
        return cast("list[ServedModel]", given[0])

    def choose(self, model: str | None = None) -> ServedModel:
        """The model of this name, or the only one that is served.

        Raises:
            ConfigError: There is none, or there are several; also what :meth:`models` raises.
        """
        return choose(self.models(), model, self._talks.settings.address.url)

    @overload
    def sample(self, energies: Numbers, *, arrow: Literal[True], **asked: Unpack[Asked]) -> Any: ...

    @overload
    def sample(
        self, energies: Numbers, *, arrow: Literal[False] = False, **asked: Unpack[Asked]
    ) -> Showers: ...

    def sample(self, energies: Numbers, *, arrow: bool = False, **asked: Unpack[Asked]) -> Any:
        """Showers for the given particles, all at once.

        They are those that ``Bundle.sample`` and ``caloray generate`` make of the same bundle, energies and
        seed.

        Args:
            energies: (n,) incident energies [MeV].
            arrow: Return a ``pyarrow.Table`` with sparse showers.
            asked: ``conditions``: number or (n,) values of each condition of the model, by name; ``seed``:
                from 0 to 2**64 - 1, 0 if omitted; ``model``: its name, may be left out where one is served;
                ``first``: id of the first shower, 0 if omitted: the showers are number ``first`` to
                ``first + n - 1`` of the sample that the seed names.

        Returns:
            The showers, voxels (n, n_voxels) float32 [MeV]; or a table with the columns ``event_id``,
            ``incident_energy``, ``condition_<name>``, ``attempts``, ``voxel`` (list), ``energy`` (list).

        Raises:
            ConfigError: A request that cannot be answered, or a client that was closed.
            AuthError: The token is missing or wrong.
            IntegrityError: A damaged reply.
            ServiceError: The service cannot be reached or is busy; ``context["next_shower"]`` says how far
                it came.
        """
        request = self._request(energies, asked)
        collection = Collection(request, arrow=arrow)
        for delivery in self._carry_out(self._talks.showers(request)):
            collection.add(delivery)
        return collection.result()

    @overload
    def stream(
        self, energies: Numbers, *, arrow: Literal[True], **asked: Unpack[Asked]
    ) -> ShowerStream[Any]: ...

    @overload
    def stream(
        self, energies: Numbers, *, arrow: Literal[False] = False, **asked: Unpack[Asked]
    ) -> ShowerStream[SparseShowers]: ...

    def stream(self, energies: Numbers, *, arrow: bool = False, **asked: Unpack[Asked]) -> ShowerStream[Any]:
        """The showers of :meth:`sample` in batches as they come; any number in constant memory.

        A production that was stopped goes on with ``energies[k:]`` and ``first=k``, k being the number of
        showers that came (:attr:`ShowerStream.next_shower`).

        Args:
            energies: (n,) incident energies [MeV].
            arrow: Give ``pyarrow.RecordBatch`` instead of :class:`caloray.io.sparse.SparseShowers`.
            asked: As in :meth:`sample`.

        Raises:
            ConfigError: The request cannot be one. What else :meth:`sample` raises comes while iterating.
        """
        request = self._request(energies, asked)
        return ShowerStream(self._carry_out(self._talks.showers(request)), request.first, arrow=arrow)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _carry_out(self, talk: Talk[None]) -> Generator[Any, None, None]:
        """Do what a talk asks for, step by step, and yield what it gives."""
        reply: httpx2.Response | None = None
        pieces: Iterator[bytes] = iter(())
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
                        _drop(reply)
                        reply, answer = self._send(step)
                        pieces = iter(()) if reply is None else reply.iter_bytes()
                    case Read():
                        answer = _read(pieces)
                    case Pause(seconds=seconds):
                        _drop(reply)
                        self._talks.settings.clock.sleep(seconds)
                    case Give(item=item):
                        yield item
        finally:
            talk.close()
            _drop(reply)

    def _send(self, step: Send) -> tuple[httpx2.Response | None, Head | Lost]:
        try:
            reply = self._http.send(build(self._http, step), stream=True)
        except httpx2.HTTPError as error:
            return None, lost(error)
        return reply, head_of(reply)


class ShowerStream(StreamBase[D]):
    """Batches of showers as they come in; a context manager, so that an early end closes the connection."""

    def __init__(self, deliveries: Generator[Delivery, None, None], first: int, *, arrow: bool) -> None:
        super().__init__(first, arrow=arrow)
        self._deliveries = deliveries

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> D:
        return self._taken(next(self._deliveries))

    def close(self) -> None:
        """Break the stream off."""
        self._deliveries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read(pieces: Iterator[bytes]) -> bytes | Lost:
    try:
        return next(pieces, b"")
    except httpx2.HTTPError as error:
        return lost(error)


def _drop(reply: httpx2.Response | None) -> None:
    """Break a reply off; one that was read to its end leaves its connection to the next."""
    if reply is not None:
        reply.close()
