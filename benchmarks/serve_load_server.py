"""A service started for a measurement: its processes, their memory, and its end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import psutil

STARTING = 600.0
ENDING = 120.0
REPLICA = re.compile(r"ServeReplica:caloray:model-")
ROLES = {
    "generator": REPLICA,
    "gateway": re.compile(r"ServeReplica:caloray:gateway"),
    "proxy": re.compile(r"ProxyActor|haproxy"),
    "controller": re.compile(r"ServeController"),
    "raylet": re.compile(r"raylet"),
    "gcs": re.compile(r"gcs_server"),
}


class Server:
    """``caloray serve`` as a child of this process.

    Args:
        process: The child.
        url: Where it answers.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def family(self) -> list[psutil.Process]:
        """The child and all processes that it started."""
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        return []

    def replicas(self) -> list[int]:
        """Process ids of what samples showers."""
        return [process.pid for process in self.family() if REPLICA.search(title(process))]

    def memory(self) -> dict[str, int]:
        """Resident bytes by role, all processes of a role together; Ray's helpers are "other"."""
        found: dict[str, int] = {}
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                size = process.memory_info().rss
                role = "driver" if process.pid == self.process.pid else role_of(title(process))
                found[role] = found.get(role, 0) + size
        return found

    def kill_replica(self) -> int:
        """Kill -9 one of the replicas of this service; its process id."""
        if not (found := self.replicas()):
            raise SystemExit("the service has no replica that could be killed: did it end?")
        pid = found[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def ready(self) -> bool:
        """Whether ``/readyz`` says so."""
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False


@contextlib.contextmanager
def serving(bundle: Path, options: Sequence[str], log: Path) -> Iterator[Server]:
    """Start a service on a free port of loopback, wait until it is ready, stop it in the end."""
    port = free_port()
    command = [sys.executable, "-m", "caloray", "serve", str(bundle), "--port", str(port), *options]
    environment = {name: value for name, value in os.environ.items() if name != "CALORAY_SERVE_TOKEN"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    server = Server(process, f"http://127.0.0.1:{port}")
    try:
        wait_until_ready(server, log)
        yield server
    finally:
        if process.poll() is not None:
            print(f"the service had ended before, with status {process.returncode}", flush=True)
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(ENDING)
            print(f"the service ended with status {status} after SIGTERM", flush=True)
        except subprocess.TimeoutExpired:
            process.kill()
            print(f"the service did not end within {ENDING:.0f} s of SIGTERM and was killed", flush=True)


def wait_until_ready(server: Server, log: Path) -> None:
    start = time.monotonic()
    while not server.ready():
        if server.process.poll() is not None or time.monotonic() - start > STARTING:
            raise SystemExit(f"the service did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.5)
    print(f"ready after {time.monotonic() - start:.0f} s", flush=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline()[:3])
    return ""


def role_of(name: str) -> str:
    return next((role for role, pattern in ROLES.items() if pattern.search(name)), "other")
