"""A service under load: how fast, how many errors, how much memory, and what a kill does.

    python benchmarks/serve_load.py runs/demo/bundle [--replicas 1] [--clients 1 8 64] [--seconds 30]
        [--showers 1] [--overload 256] [--minutes 10] [--kill] [--json result.json]

Starts ``caloray serve`` on a free port of loopback and ends it afterwards. An address on this machine can be
given instead of a bundle; memory and the kill are then left out. Clients run in this process, on the same
cores as the service, and ask again as soon as they have a reply. Every reply with status 200 is compared with
all others to the same body. Phases: --clients; --overload clients at once; --minutes with 8 clients while
memory is read; --kill: one replica is killed with SIGKILL in the middle, once under plain clients and once
under caloray.client, which has to get every shower all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from serve_load_clients import bodies, load, require_loopback
from serve_load_server import Server, serving

from caloray.atomic import write_json
from caloray.client import AsyncClient, Client
from caloray.errors import CaloRayError
from caloray.io.sparse import SparseShowers

BODIES = 97
STEADY = 8
READ_EVERY = 5.0
BACK_WITHIN = 120.0
STREAMS = 4


def measure(options: argparse.Namespace, url: str, server: Server | None) -> dict[str, Any]:
    """All phases, one after the other."""
    with Client(url) as client:
        model = client.choose(options.model)
    requests = bodies(BODIES, options.showers, model.energy_range)
    result: dict[str, Any] = {"cores": os.cpu_count(), "model": model.name, "showers each": options.showers}
    digests: dict[int, set[str]] = {}

    def phase(name: str, clients: int, seconds: float, **more: Any) -> None:
        seen = asyncio.run(load(url, requests, options.showers, clients, seconds, **more))
        result[name] = tell(name, {"clients": clients, **seen.summary()})
        for body, found in seen.digests.items():
            digests.setdefault(body, set()).update(found)

    phase("warm-up", 2, min(5.0, options.seconds))
    for clients in options.clients:
        phase(f"{clients} clients", clients, options.seconds)
    if options.overload:
        phase("overload", options.overload, options.seconds)
    if options.minutes and server is not None:
        memory = Memory(server, 60 * options.minutes)
        phase("steady", STEADY, 60 * options.minutes, meanwhile=memory.watch)
        result["memory"] = tell("memory", memory.summary())
    if options.kill and server is not None:
        kill = Kill(server, options.seconds / 3)
        phase("replica killed", STEADY, options.seconds, meanwhile=kill.strike)
        result["replica killed"] |= tell("the killed replica", kill.facts)
        result["client"] = tell("caloray.client", asyncio.run(survive(options, server, url)))
    different = sum(len(found) > 1 for found in digests.values())
    result["all phases"] = tell("all phases", {"bodies": len(digests), "with different replies": different})
    return result


class Memory:
    """Resident memory of the service's processes over some time."""

    def __init__(self, server: Server, seconds: float) -> None:
        self._server, self._seconds = server, seconds
        self._times: list[float] = []
        self._sizes: list[dict[str, int]] = []

    async def watch(self) -> None:
        """Read it every few seconds."""
        start = time.monotonic()
        while (passed := time.monotonic() - start) < self._seconds:
            self._times.append(passed)
            self._sizes.append(self._server.memory())
            await asyncio.sleep(READ_EVERY)

    def summary(self) -> dict[str, Any]:
        """By role [MB]: median of the first and of the last fifth of the time, and the largest."""
        roles = sorted({role for sizes in self._sizes for role in sizes})
        fifth = max(1, len(self._sizes) // 5)
        table = {}
        for role in roles:
            sizes = np.array([found.get(role, 0) for found in self._sizes]) / 1e6
            early, late = np.median(sizes[:fifth]), np.median(sizes[-fifth:])
            table[role] = {"first": round(early, 1), "last": round(late, 1), "largest": round(sizes.max(), 1)}
        return {"minutes": round(self._times[-1] / 60, 1), "MB by role": table}


class Kill:
    """Kills one replica after a while and waits until the service is whole again."""

    def __init__(self, server: Server, after: float) -> None:
        self._server, self._after = server, after
        self.facts: dict[str, Any] = {}

    async def strike(self) -> None:
        """Do it."""
        await asyncio.sleep(self._after)
        before = self._server.replicas()
        killed = self._server.kill_replica()
        start = time.monotonic()
        self.facts = {"replicas before": len(before), "back after s": None}
        while time.monotonic() - start < BACK_WITHIN:
            await asyncio.sleep(0.25)
            now = [pid for pid in self._server.replicas() if pid != killed]
            if len(now) >= len(before) and await asyncio.to_thread(self._server.ready):
                self.facts["back after s"] = round(time.monotonic() - start, 1)
                return


async def survive(options: argparse.Namespace, server: Server, url: str) -> dict[str, Any]:
    """Some streams of caloray.client at once, undisturbed and with a replica killed: the same showers?"""
    undisturbed, _, calm = await streams(options, url)
    kill = Kill(server, calm / 3)
    (disturbed, failures, took), _ = await asyncio.gather(streams(options, url), kill.strike())
    return {
        "streams": STREAMS,
        "showers each": options.stream,
        "errors": failures,
        "same showers": disturbed == undisturbed,
        "seconds undisturbed": round(calm, 1),
        "seconds with a kill": round(took, 1),
        "back after s": kill.facts["back after s"],
    }


async def streams(options: argparse.Namespace, url: str) -> tuple[list[str], list[str], float]:
    """Hash of the showers of each stream, errors, and seconds."""
    failures: list[str] = []

    async def one(client: AsyncClient, index: int) -> str:
        parts: list[SparseShowers] = []
        try:
            async with client.stream(energies, seed=index) as stream:
                parts = [batch async for batch in stream]
        except CaloRayError as error:
            failures.append(f"{type(error).__name__}: {error}")
            return ""
        whole = SparseShowers.concatenate(parts)
        return hashlib.sha256(whole.voxels.tobytes() + whole.energies.tobytes()).hexdigest()

    start = time.monotonic()
    async with AsyncClient(url) as client:
        low, high = (await client.choose(options.model)).energy_range
        energies = np.geomspace(1.001 * low, 0.999 * high, options.stream)
        found = await asyncio.gather(*(one(client, index) for index in range(STREAMS)))
    return list(found), failures, time.monotonic() - start


def tell(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    print(f"{name}: {json.dumps(facts)}", flush=True)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("service", help="bundle, or address on this machine")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--max-requests", type=int, default=64, help="of the service")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--showers", type=int, default=1, help="per request")
    parser.add_argument("--seconds", type=float, default=30.0, help="per phase, 600 at most")
    parser.add_argument(
        "--overload", type=int, default=256, help="clients at once, up to 1000; 0 leaves it out"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="to watch memory, 60 at most")
    parser.add_argument("--stream", type=int, default=2000, help="showers of each stream of caloray.client")
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--model")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.seconds > 600 or options.minutes > 60 or max([options.overload, *options.clients]) > 1000:
        parser.error("more than this program does: see --help")
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        server, url = None, options.service
        if not options.service.startswith("http"):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            words = ["--replicas", str(options.replicas), "--max-requests", str(options.max_requests)]
            server = stack.enter_context(serving(Path(options.service), words, folder / "log"))
            url = server.url
        require_loopback(url)
        status = httpx2.get(f"{url}/readyz", timeout=30, trust_env=False).status_code
        if status != 200:
            raise SystemExit(f"{url}: not ready ({status})")
        result = measure(options, url, server)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
