"""What came of a request, and whether it is what was asked for."""

from __future__ import annotations

__all__ = ["Delivery", "Receipt"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caloray.client.request import Piece, ShowerRequest
from caloray.client.steps import Lost
from caloray.errors import IntegrityError
from caloray.io.shower_stream import StreamHeader
from caloray.io.stream_decoder import StreamBatch, StreamDecoder


@dataclass(frozen=True)
class Delivery:
    """Some showers of a request, with what the reply said about itself."""

    header: StreamHeader
    batch: StreamBatch


class Receipt:
    """What has come of a request so far, and the check that it is what was asked for."""

    def __init__(self, request: ShowerRequest, url: str) -> None:
        self.url = url
        self.next = request.first
        self._bundle: str | None = None

    def take(self, data: bytes, decoder: StreamDecoder, piece: Piece) -> Iterator[Delivery]:
        """Decode some bytes of the reply to ``piece``.

        Raises:
            IntegrityError: They are damaged, or show other showers than those that were asked for.
        """
        for batch in decoder.feed(data):
            header = decoder.header
            if header is None:
                raise IntegrityError(f"{self.url}: showers without a header")
            self._compare(header, batch, piece)
            self.next += len(batch.showers)
            yield Delivery(header, batch)

    def end(self, decoder: StreamDecoder, piece: Piece) -> Lost | None:
        """The reply to ``piece`` has ended: None if it was whole.

        Raises:
            IntegrityError: It was, and brought fewer showers than were asked for.
        """
        try:
            decoder.finish()
        except IntegrityError as error:
            return Lost(f"the answer was cut ({error.message})")
        if self.next < piece.stop:
            self._refuse("fewer showers than were asked for")
        return None

    def _compare(self, header: StreamHeader, batch: StreamBatch, piece: Piece) -> None:
        showers = batch.showers
        part = Piece(piece.request, self.next, min(self.next + len(showers), piece.stop))
        asked = part.conditions()
        if self._bundle is None:
            self._bundle = header.bundle
        if header.bundle != self._bundle:
            self._refuse("showers of another bundle than before: it was exchanged meanwhile")
        if (header.seed, header.rows) != (piece.request.seed, len(piece)) or len(part) != len(showers):
            self._refuse("another number of showers, or another seed, than was asked for")
        if not np.array_equal(showers.ids, np.arange(part.start, part.stop)):
            self._refuse("showers with other ids than were asked for")
        if not np.array_equal(showers.incident_energies, part.energies):
            self._refuse("showers of other incident energies than were asked for")
        if any(not np.array_equal(showers.conditions.get(name, ()), asked[name]) for name in asked):
            self._refuse("showers under other conditions than were asked for")

    def _refuse(self, what: str) -> None:
        raise IntegrityError(
            f"{self.url}: {what} (from shower {self.next} on)",
            hint="the showers before are good; ask the operator of the service, then go on from there",
            next_shower=self.next,
        )
