"""How long and how often a failed request is made again."""

from __future__ import annotations

__all__ = ["Clock", "Patience", "retry_after"]

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio

from caloray.errors import ConfigError

MAX_DOUBLINGS = 30


@dataclass(frozen=True)
class Patience:
    """Pauses between tries, and when to give up.

    Pauses double from try to try and are shortened by chance, by up to a half, so that clients which were
    turned away together do not come back together. They start anew whenever showers have arrived.

    Args:
        limit: Give up this long after the first failure since the last showers [s]; 0 tries only once.
        first: First pause [s].
        longest: Longest pause [s], unless the server asks for a longer one.

    Raises:
        ConfigError: Negative numbers, or a first pause above the longest.
    """

    limit: float = 60.0
    first: float = 0.25
    longest: float = 15.0

    def __post_init__(self) -> None:
        """Refuse what would never pause or never end."""
        if not (0 <= self.limit < float("inf") and 0 < self.first <= self.longest < float("inf")):
            raise ConfigError(
                f"patience: limit {self.limit:g} s, pauses from {self.first:g} to {self.longest:g} s",
                hint="the limit is 0 or more, pauses are above 0, the first one the shortest",
            )

    def pause(self, failures: int, chance: float, asked: float | None = None) -> float:
        """Seconds to wait after a failure.

        Args:
            failures: Failures in a row before this one.
            chance: Drawn uniformly between 0 and 1.
            asked: What the server asked for (``Retry-After``) [s]; it is never undercut.
        """
        longest = min(self.longest, self.first * 2.0 ** min(failures, MAX_DOUBLINGS))
        return max(longest / 2, asked or 0.0) + chance * longest / 2


def retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Seconds that a ``Retry-After`` header asks for, as a number or by a date; None for anything else."""
    if value is None:
        return None
    if value.strip().isascii() and value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    if date.tzinfo is None:
        return None
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())


class Clock:
    """Time and chance, in one place, so that tests need not wait."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    def chance(self) -> float:
        """A number between 0 and 1, another one in every process: no shower depends on it."""
        return secrets.randbelow(1 << 30) / (1 << 30)

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def sleep_async(self, seconds: float) -> None:
        """Wait and let others work."""
        await anyio.sleep(seconds)
