"""What client and service say to each other, and what is said again when it was not heard.

A reply is a pure function of its request, so a request that failed may be made again. Showers that have come
are given once: what is asked for after a cut starts behind the last complete batch.
"""

from __future__ import annotations

__all__ = ["Settings", "Talks"]

import logging
from dataclasses import dataclass, field

from caloray import __version__
from caloray.client.address import Address
from caloray.client.models import STRANGER, ServedModel, choose, read_models
from caloray.client.patience import Clock, Patience, retry_after
from caloray.client.receipt import Receipt
from caloray.client.replies import AGAIN, is_json, is_stream, reason_of, refusal
from caloray.client.request import Piece, ShowerRequest
from caloray.client.steps import Give, Head, Lost, Pause, Send, Talk, read, send
from caloray.errors import ConfigError, ServiceError
from caloray.io.shower_stream import MEDIA_TYPE
from caloray.io.stream_decoder import StreamDecoder

logger = logging.getLogger(__name__)
MAX_REFUSAL = 64_000
MAX_MODELS = 16_000_000


@dataclass(frozen=True)
class Settings:
    """How a client talks.

    Args:
        address: Of the service.
        token: Sent as bearer token, if there is one; not shown.
        timeout: Longest wait for the next batch of showers, or for any other reply [s].
        patience: What happens after failures.
        clock: Time and chance.
    """

    address: Address
    token: str | None = field(default=None, repr=False)
    timeout: float = 300.0
    patience: Patience = field(default_factory=Patience)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        """Refuse a time-out that is none."""
        if not 0 < self.timeout < float("inf"):
            raise ConfigError(f"timeout of {self.timeout:g} s", hint="give seconds, above 0")


@dataclass
class _Trouble:
    """Failures since the last showers."""

    settings: Settings
    failures: int = 0
    since: float = 0.0

    def clear(self) -> None:
        """Forget them."""
        self.failures = 0

    def pause(self, lost: Lost, url: str, done: int | None) -> Pause:
        """The wait before the next try.

        Raises:
            ConfigError: No patience would help.
            ServiceError: Patience is at its end.
        """
        clock, patience = self.settings.clock, self.settings.patience
        if lost.final:
            raise ConfigError(f"{url}: {lost.reason}", hint=lost.final, next_shower=done)
        if not self.failures:
            self.since = clock.now()
        seconds = patience.pause(self.failures, clock.chance(), lost.asked)
        self.failures += 1
        passed = clock.now() - self.since
        if passed + seconds > patience.limit:
            asked = f", asked to wait {lost.asked:.0f} s" if lost.asked else ""
            hint = f"{self.settings.address.url}/readyz tells whether it runs; more patience waits longer"
            raise ServiceError(
                f"{url}: {lost.reason} ({self.failures} tries in {passed:.0f} s{asked})",
                hint=f"{hint}; the showers before {done} have come, go on from there" if done else hint,
                next_shower=done,
            )
        logger.warning("%s: %s; trying again in %.1f s", url, lost.reason, seconds)
        return Pause(seconds)


class Talks:
    """The talks of one client; each call gives a new one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._models: list[ServedModel] | None = None
        if settings.token and not (settings.address.encrypted or settings.address.loopback):
            logger.warning("%s: the token travels unencrypted; use https", settings.address.url)

    def listed(self) -> Talk[None]:
        """Ask what is served and give the list."""
        yield Give((yield from self.models()))

    def models(self) -> Talk[list[ServedModel]]:
        """Ask what is served and return the list."""
        url = self._url("/v1/models")
        trouble = _Trouble(self.settings)
        while True:
            found = yield from self._ask_models(url)
            if not isinstance(found, Lost):
                self._models = found
                return found
            yield trouble.pause(found, url, None)

    def showers(self, request: ShowerRequest) -> Talk[None]:
        """Ask for showers and give them as :class:`caloray.client.receipt.Delivery`, in order, each once.

        A service may have been started again with other limits since its models were asked for: what it
        refuses is asked for once more if they have changed.
        """
        listed, fresh = self._models or [], False
        if not listed or request.model not in {None, *(model.name for model in listed)}:
            listed, fresh = (yield from self.models()), True
        model = choose(listed, request.model, self.settings.address.url)
        receipt = Receipt(request, self._url("/v1/showers"))
        while receipt.next < request.stop:
            try:
                yield from self._piece(next(request.pieces(model, receipt.next)), receipt)
            except ConfigError:
                if fresh:
                    raise
                known, listed, fresh = model, (yield from self.models()), True
                model = choose(listed, request.model, self.settings.address.url)
                if model == known:
                    raise

    def _piece(self, piece: Piece, receipt: Receipt) -> Talk[None]:
        trouble = _Trouble(self.settings)
        while receipt.next < piece.stop:
            lost = yield from self._attempt(piece.since(receipt.next), receipt, trouble)
            if lost is not None and receipt.next < piece.stop:
                yield trouble.pause(lost, receipt.url, receipt.next)

    def _attempt(self, piece: Piece, receipt: Receipt, trouble: _Trouble) -> Talk[Lost | None]:
        """One request; None if all of its showers came."""
        answer = yield from self._send("POST", "/v1/showers", MEDIA_TYPE, piece.body())
        if isinstance(answer, Lost):
            return answer
        if not is_stream(answer.headers):
            raise ConfigError(f"{receipt.url}: the answer is no stream of showers", hint=STRANGER)
        decoder, waiting_since = StreamDecoder(receipt.url), self.settings.clock.now()
        while True:
            data = yield from read()
            if isinstance(data, Lost):
                return data
            if not data:
                return receipt.end(decoder, piece)
            for delivery in receipt.take(data, decoder, piece):
                trouble.clear()
                yield Give(delivery)
                waiting_since = self.settings.clock.now()
            if self.settings.clock.now() - waiting_since > self.settings.timeout:
                return Lost(f"no showers for {self.settings.timeout:.0f} s")

    def _ask_models(self, url: str) -> Talk[list[ServedModel] | Lost]:
        answer = yield from self._send("GET", "/v1/models", "application/json")
        if isinstance(answer, Lost):
            return answer
        if not is_json(answer.headers):
            raise ConfigError(f"{url}: the answer is no JSON", hint=STRANGER)
        body = yield from self._body(MAX_MODELS)
        return body if isinstance(body, Lost) else read_models(body, url)

    def _send(self, method: str, path: str, accept: str, body: bytes = b"") -> Talk[Head | Lost]:
        """The head of a reply with status 200; a failure that may pass is lost, any other one is raised."""
        # Nothing may be compressed on the way: showers are already, and Accept-Encoding has a default.
        headers = {"accept": accept, "accept-encoding": "identity", "user-agent": f"caloray/{__version__}"}
        headers |= {"content-type": "application/json"} if body else {}
        headers |= {"authorization": f"Bearer {self.settings.token}"} if self.settings.token else {}
        answer = yield from send(Send(method, path, headers, body))
        if isinstance(answer, Lost) or answer.status == 200:
            return answer
        said = yield from self._body(MAX_REFUSAL)
        text = b"" if isinstance(said, Lost) else said
        if answer.status in AGAIN:
            return Lost(reason_of(answer.status, text), retry_after(answer.headers.get("retry-after")))
        raise refusal(answer.status, text, self._url(path))

    def _body(self, limit: int) -> Talk[bytes | Lost]:
        """The rest of a short reply, cut at ``limit`` bytes."""
        start, parts, size = self.settings.clock.now(), list[bytes](), 0
        while size <= limit:
            data = yield from read()
            if isinstance(data, Lost):
                return data
            if not data:
                break
            if self.settings.clock.now() - start > self.settings.timeout:
                return Lost(f"no complete answer for {self.settings.timeout:.0f} s")
            parts.append(data)
            size += len(data)
        return b"".join(parts)[:limit]

    def _url(self, path: str) -> str:
        return self.settings.address.url + path
