"""Clients that ask a service for showers as fast as it answers, and what they saw. Loopback only."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2
import numpy as np

MOST_REQUESTS = 50_000
"""Of one phase: every loop here is bounded in number and in time."""


@dataclass
class Seen:
    """What the clients of one phase saw.

    Args:
        statuses: Replies by HTTP status; "broken" and "refused" for connections that failed.
        latencies: Seconds of the replies with status 200.
        moments: When they came, seconds since the start of the phase.
        retry_after: Values of that header with 503.
        digests: Hashes of the replies with status 200, by the number of the request's body.
        showers: In these replies.
        seconds: Length of the phase.
        cpu: CPU seconds of the clients themselves.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    retry_after: Counter[str] = field(default_factory=Counter)
    digests: dict[int, set[str]] = field(default_factory=dict)
    showers: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    def summary(self) -> dict[str, object]:
        """The figures of a report."""
        times = np.array(self.latencies or [np.nan])
        good = self.statuses["200"]
        return {
            "requests per second": round(good / self.seconds, 2),
            "showers per second": round(self.showers / self.seconds, 1),
            "p50 ms": round(1e3 * float(np.percentile(times, 50)), 1),
            "p99 ms": round(1e3 * float(np.percentile(times, 99)), 1),
            "max ms": round(1e3 * float(times.max()), 1),
            "statuses": dict(self.statuses),
            "share of 503": round(self.statuses["503"] / max(1, self.statuses.total()), 3),
            "retry-after": dict(self.retry_after),
            "bodies with different replies": sum(len(found) > 1 for found in self.digests.values()),
            "longest time without a reply s": round(self.longest_gap(), 2),
            "seconds": round(self.seconds, 1),
            "clients' CPU seconds": round(self.cpu, 2),
        }

    def longest_gap(self) -> float:
        """Longest time in which no reply with status 200 came."""
        return float(np.diff([0.0, *sorted(self.moments), self.seconds]).max())


def bodies(count: int, showers: int, energy_range: tuple[float, float], seed: int = 1) -> list[bytes]:
    """Different requests for as many showers each, energies log-uniform over the trained range."""
    draws = np.random.default_rng(seed)
    low, high = np.log(energy_range[0] * 1.001), np.log(energy_range[1] * 0.999)
    made = []
    for index in range(count):
        energies = np.exp(draws.uniform(low, high, showers)).tolist()
        made.append(json.dumps({"energies": energies, "seed": seed, "first": 7 * index}).encode())
    return made


def require_loopback(url: str) -> None:
    """Leave unless ``url`` is on this machine: this program is not for other people's services."""
    host = urlsplit(url).hostname or ""
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        inside = host == "localhost"
    if not inside:
        raise SystemExit(f"{url}: not on this machine; load is sent to loopback only")


async def load(
    url: str,
    requests: Sequence[bytes],
    showers: int,
    clients: int,
    seconds: float,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> Seen:
    """Let ``clients`` ask at the same time, each again as soon as it has its reply; nothing is asked twice.

    Args:
        url: Of the service.
        requests: Bodies, taken in turn.
        showers: In each.
        clients: How many.
        seconds: How long; requests under way are finished.
        meanwhile: Carried out beside them.
    """
    require_loopback(url)
    seen, start, spent = Seen(), time.monotonic(), time.process_time()
    turn = iter(range(MOST_REQUESTS))
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(
        base_url=url, limits=limits, timeout=httpx2.Timeout(300.0), trust_env=False
    ) as http:

        async def client() -> None:
            while time.monotonic() - start < seconds and (index := next(turn, None)) is not None:
                await ask(http, index % len(requests), requests, showers, seen, start)

        jobs = [client() for _ in range(clients)]
        await asyncio.gather(*jobs, *([meanwhile()] if meanwhile is not None else []))
    seen.seconds, seen.cpu = time.monotonic() - start, time.process_time() - spent
    return seen


async def ask(
    http: httpx2.AsyncClient, body: int, requests: Sequence[bytes], showers: int, seen: Seen, start: float
) -> None:
    """One request; whatever happens is noted."""
    began = time.monotonic()
    try:
        headers = {"content-type": "application/json"}
        reply = await http.post("/v1/showers", content=requests[body], headers=headers)
    except httpx2.ConnectError:
        seen.statuses["refused"] += 1
        await asyncio.sleep(0.1)
        return
    except httpx2.HTTPError:
        seen.statuses["broken"] += 1
        return
    seen.statuses[str(reply.status_code)] += 1
    if reply.status_code == 200:
        now = time.monotonic()
        seen.latencies.append(now - began)
        seen.moments.append(now - start)
        seen.digests.setdefault(body, set()).add(hashlib.sha256(reply.content).hexdigest())
        seen.showers += showers
    elif reply.status_code == 503:
        seen.retry_after[reply.headers.get("retry-after", "missing")] += 1
        await asyncio.sleep(0.05)
