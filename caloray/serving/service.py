"""What happens to a request for showers, from its body to the bytes of the reply."""

from __future__ import annotations

__all__ = ["Answer", "Limits", "ShowerService", "Workshop"]

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from caloray.io.shower_stream import END, encode_head
from caloray.serving.access import admits
from caloray.serving.admission import Admission, Ticket
from caloray.serving.metrics import ServiceMetrics
from caloray.serving.models import Order, Served, check_order
from caloray.serving.pieces import Made, PieceOrder, cut, in_order
from caloray.serving.problems import draining, invalid, unauthorised
from caloray.serving.replies import ARROW, MAX_JSON_SHOWERS, json_reply, stream_header
from caloray.serving.request import read_request

Workshop = Callable[[Served, PieceOrder, str], Awaitable[Made]]
"""Makes one piece: model, piece, name of the request that it belongs to. Raises a Problem where it cannot."""


class Limits(BaseModel):
    """What a service takes on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_showers: int = Field(default=10_000, ge=1, le=1_000_000, description="Most showers of one request.")
    max_body_bytes: int = Field(default=1_000_000, ge=1_000, le=100_000_000, description="Longest body.")
    body_timeout_s: float = Field(default=30.0, gt=0, description="Time that a body may take to arrive [s].")
    max_requests: int = Field(
        default=64, ge=1, description="Requests for showers at the same time, per gateway; more get 503."
    )
    max_pending_showers: int = Field(
        default=50_000,
        ge=1,
        description="Showers in them, per gateway, until the clients have taken them; large requests "
        "beyond get 503.",
    )
    piece_rows: int = Field(
        default=64,
        ge=1,
        description="Showers of a piece: large requests are made and sent in these portions.",
    )
    window: int = Field(
        default=8, ge=1, le=64, description="Pieces of one request under way at the same time."
    )


class Answer:
    """The reply to a request for showers; an iterator over the chunks of its body, to be closed in any case.

    The last chunk is empty. Who iterates asks for the next one behind it when the reply has been taken: until
    then it is under way.

    Args:
        form: Its media type.
        headers: Further headers.
        first: The first chunk.
        rest: The others.
    """

    def __init__(
        self, form: str, headers: Mapping[str, str], first: bytes, rest: AsyncGenerator[bytes, None]
    ) -> None:
        self.form = form
        self.headers = headers
        self._first: bytes | None = first
        self._rest = rest

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        first, self._first = self._first, None
        return await anext(self._rest) if first is None else first

    async def aclose(self) -> None:
        """Stop what is still being made."""
        await self._rest.aclose()


class ShowerService:
    """Several models behind one endpoint.

    Args:
        models: What is served, by name.
        workshop: Makes pieces.
        limits: What is taken on.
        token_digest: Hash of the token that opens the service; None: it is open.
        metrics: Where work is counted.
    """

    def __init__(
        self,
        models: Mapping[str, Served],
        workshop: Workshop,
        limits: Limits,
        token_digest: str | None = None,
        metrics: ServiceMetrics | None = None,
    ) -> None:
        self.models = dict(models)
        self.limits = limits
        self.metrics = metrics or ServiceMetrics()
        self.draining = False
        self._workshop = workshop
        self._token_digest = token_digest
        self._admission = Admission(limits.max_requests, limits.max_pending_showers)
        self.metrics.pending_requests.set_function(lambda: self._admission.requests)
        self.metrics.pending_showers.set_function(lambda: self._admission.showers)

    @property
    def under_way(self) -> int:
        """Requests for showers whose replies were not taken to the end yet."""
        return self._admission.requests

    def authorise(self, authorization: str | None) -> None:
        """Check the ``Authorization`` header.

        Raises:
            Problem: 401.
        """
        if not admits(authorization, self._token_digest):
            raise unauthorised(presented=bool(authorization))

    def require_open(self) -> None:
        """Take no more requests once the service is to stop.

        Raises:
            Problem: 503.
        """
        if self.draining:
            raise draining(5)

    def read(self, body: bytes, form: str) -> Order:
        """The request in a body, checked against its model and the limits.

        Raises:
            Problem: 404 or 422.
        """
        order = check_order(self.models, read_request(body), self.limits.max_showers)
        if form != ARROW and len(order) > MAX_JSON_SHOWERS:
            raise invalid(
                f"as JSON, energies must have at most {MAX_JSON_SHOWERS} entries",
                f"accept {ARROW} for more",
            )
        return order

    async def answer(self, order: Order, form: str, owner: str) -> Answer:
        """The reply to a checked request; when this returns, its first piece is made.

        Args:
            order: The request.
            form: Media type of the reply.
            owner: Name of the request.

        Raises:
            Problem: 503: too much is waiting, or nobody can make showers; 422: they stay invalid.
        """
        ticket = self._admission.enter(len(order))
        chunks = self._chunks(order, form, ticket, owner)
        first = await anext(chunks)
        headers = {"x-caloray-bundle": order.model.digest, "x-caloray-rows": str(len(order))}
        if form != ARROW:
            headers["content-length"] = str(len(first))
        return Answer(form, headers, first, chunks)

    async def _chunks(
        self, order: Order, form: str, ticket: Ticket, owner: str
    ) -> AsyncGenerator[bytes, None]:
        """The body, portion by portion, then b""; the ticket is given back when it ends, however it ends."""
        limits = self.limits
        pieces = cut(order, max(limits.piece_rows, order.model.smallest))

        async def make(piece: PieceOrder) -> Made:
            made = await self._workshop(order.model, piece, owner)
            self._count(order.model.name, made)
            return made

        try:
            async with aclosing(in_order(pieces, make, limits.window)) as finished:
                if form != ARROW:
                    yield json_reply(order, [made.payload async for made in finished])
                else:
                    head = encode_head(stream_header(order))
                    async for made in finished:
                        yield head + made.payload
                        head = b""
                    yield END
                yield b""
        finally:
            ticket.release()

    def _count(self, model: str, made: Made) -> None:
        metrics = self.metrics
        self._admission.finished(made.rows)
        metrics.showers.labels(model).inc(made.rows)
        metrics.redrawn.labels(model).inc(made.redrawn)
        metrics.batch_rows.labels(model).observe(made.batch_rows)
        metrics.piece_seconds.labels(model).observe(made.seconds)
