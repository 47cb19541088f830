"""The words between what is said (:mod:`caloray.client.talk`) and how it is carried.

A talk is a generator that yields steps and is answered with what came of them. It reads no socket, waits for
no clock and does not know whether it is carried out by blocking or by asynchronous code.
"""

from __future__ import annotations

__all__ = ["Give", "Head", "Lost", "Pause", "Read", "Send", "Step", "Talk", "read", "send"]

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

T = TypeVar("T")


@dataclass(frozen=True)
class Send:
    """Make a request; answered by :class:`Head` or :class:`Lost`. The reply before it is dropped."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Read:
    """Go on reading the reply; answered by some bytes, by b"" at its end, or by :class:`Lost`."""


@dataclass(frozen=True)
class Pause:
    """Wait for some seconds; answered by None."""

    seconds: float


@dataclass(frozen=True)
class Give:
    """Hand something to the caller; answered by None when the caller wants more."""

    item: Any


@dataclass(frozen=True)
class Head:
    """Status and headers of a reply; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Lost:
    """The connection failed, was cut or stayed silent.

    Args:
        reason: In a few words.
        asked: Seconds that the server asked to wait for before the next try.
        final: What to do instead where another try would fail in the same way; "" where it might not.
    """

    reason: str
    asked: float | None = None
    final: str = ""


Step = Send | Read | Pause | Give
Talk = Generator[Step, "Head | bytes | Lost | None", T]


def send(step: Send) -> Talk[Head | Lost]:
    """Make a request and return the answer."""
    return cast("Head | Lost", (yield step))


def read() -> Talk[bytes | Lost]:
    """Read on and return the answer."""
    return cast("bytes | Lost", (yield Read()))
