"""Orderly stops: SIGTERM and SIGINT become a flag that a loop reads between two pieces of work.

    with watch_signals() as stop:
        for block in blocks:
            stop.check("generation")
            ...

Schedulers send SIGTERM some seconds before SIGKILL (``ray job stop``: 3 s), so long work looks at the flag
at every safe point. A piece of work that may last longer than that is bounded by ``grace``.
"""

from __future__ import annotations

__all__ = ["FileStop", "StopRequest", "watch_signals"]

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from caloray.errors import InterruptedRunError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
REPEAT = 0.5
SETTLE = 0.9 * REPEAT
"""Seconds that the cleaning up behind a stop's error has before it is interrupted, too."""
_LOOK_EVERY = 0.2


class StopRequest:
    """Whether a stop was asked for, and by which signal."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.told = -math.inf
        """When an error was made of it last, on the monotonic clock."""

    @property
    def requested(self) -> bool:
        """True from the first signal on."""
        return self.signal is not None

    def request(self, number: int = signal.SIGTERM) -> None:
        """Ask for a stop, as the signal ``number`` would."""
        self.signal = int(number)

    def error(self, what: str) -> InterruptedRunError:
        """The error with which ``what`` leaves; its ``signal`` makes the exit status 143 or 130."""
        self.told = time.monotonic()
        number = self.signal if self.signal is not None else int(signal.SIGTERM)
        return InterruptedRunError(
            f"{what} stopped by {signal.Signals(number).name}",
            hint="run the same command again: it continues where this one ended",
            signal=number,
        )

    def check(self, what: str) -> None:
        """Raise if a stop was asked for.

        Raises:
            InterruptedRunError: After SIGTERM or SIGINT.
        """
        if self.requested:
            raise self.error(what)


class FileStop(StopRequest):
    """A stop that arrives as a file, because signals reach the driver only.

    Args:
        path: The file; it holds the number of the signal.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._looked = -_LOOK_EVERY

    @property
    def requested(self) -> bool:
        """Looks for the file at most five times a second."""
        now = time.monotonic()
        if self.signal is None and now - self._looked >= _LOOK_EVERY:
            self._looked = now
            if self._path.is_file():
                text = self._path.read_text().strip()
                self.request(int(text) if text.isdigit() else int(signal.SIGTERM))
            self.looked()
        return self.signal is not None

    def looked(self) -> None:
        """Called whenever the file was looked for; a place for further reasons to stop."""


@contextmanager
def watch_signals(grace: float | None = None, what: str = "the run") -> Iterator[StopRequest]:
    """Turn SIGTERM and SIGINT into a :class:`StopRequest` while the block runs.

    A second signal of the same kind has its usual effect. Outside the main thread, where Python allows no
    handlers, the block runs with a request that no signal reaches.

    Args:
        grace: Seconds after the signal when the main thread is interrupted by the request's error wherever
            it is; None leaves the stop to the loop alone. For work that may be broken off at any point. It
            is interrupted again where it does not end, but not in what it cleans up at once.
        what: The work's name in that error.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def expire(number: int, frame: FrameType | None) -> None:
        del number, frame
        if time.monotonic() - stop.told > SETTLE:
            raise stop.error(what)

    def receive(number: int, frame: FrameType | None) -> None:
        del frame
        stop.request(number)
        signal.signal(number, previous[number])
        if grace is not None:
            signal.setitimer(signal.ITIMER_REAL, max(grace, 1e-3), REPEAT)

    previous = {int(number): signal.signal(number, receive) or signal.SIG_DFL for number in SIGNALS}
    alarm = signal.signal(signal.SIGALRM, expire) if grace is not None else None
    try:
        yield stop
    finally:
        if grace is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
        for number, handler in previous.items():
            signal.signal(number, handler)
