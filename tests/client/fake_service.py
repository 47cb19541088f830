"""A service on loopback that makes simple showers and misbehaves when it is told to.

Each ``POST /v1/showers`` takes the next scene of ``service.scenes``; when there is none left, it is answered
as it should be. The same holds for ``GET /v1/models`` and ``service.model_scenes``.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from caloray.geometry import Geometry, Layer
from caloray.io.shower_stream import END, MEDIA_TYPE, StreamHeader, encode_head, encode_part
from caloray.io.sparse import SparseShowers

ALPHA = tuple(2 * math.pi * i / 4 for i in range(5))
TOY = Geometry("toy", "cylindrical", tuple(Layer(i, ALPHA, (0.0, 1.0, 2.0, 3.0)) for i in range(3)))
BLOCK = 8
Scene = Callable[["Handler", dict[str, Any]], None]


def facts(name: str = "toy", **changes: Any) -> dict[str, Any]:
    """What the service says about a model; ``later`` is a field of a newer version."""
    outline = {"name": "toy", "kind": "cylindrical", "n_layers": 3, "n_voxels": TOY.n_voxels, "later": 1}
    return {
        "name": name,
        "digest": "d" * 64,
        "geometry": outline,
        "energy_range": [1e3, 5e4],
        "conditions": [],
        "block_size": BLOCK,
        "max_showers": 20,
        **changes,
    }


def showers(first: int, energies: Any, conditions: Any = None, seed: int = 0) -> SparseShowers:
    """Showers that depend on nothing but id, energy, conditions and seed of each; some are empty."""
    energies = np.asarray(energies, dtype=np.float64)
    ids = first + np.arange(len(energies))
    voxels = [sorted({int(i * 5 + seed + k) % TOY.n_voxels for k in range(i % 4)}) for i in ids]
    counts = [len(hit) for hit in voxels]
    return SparseShowers(
        incident_energies=energies,
        ids=ids,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        voxels=np.array([v for hit in voxels for v in hit], dtype=np.int32),
        energies=(np.repeat(energies, counts) / 7).astype(np.float32),
        conditions={
            name: np.broadcast_to(np.asarray(values, np.float64), len(ids))
            for name, values in (conditions or {}).items()
        },
        extras={"attempts": (ids % 3).astype(np.uint8)},
    )


def parts(asked: dict[str, Any], make: Any = None, **changes: Any) -> list[bytes]:
    """The right reply in pieces: head, one message per block, end; ``changes`` falsify what it says."""
    said = {"first": 0, "seed": 0, "conditions": {}, **asked, **changes}
    whole = (make or showers)(said["first"], said["energies"], said["conditions"], said["seed"])
    names = tuple(said["conditions"])
    head = StreamHeader(said.get("bundle", "d" * 64), TOY, said["seed"], len(whole), said["first"], names)
    cuts = [slice(i, i + BLOCK) for i in range(0, len(whole), BLOCK)]
    return [encode_head(head), *(encode_part(whole.select(cut), names) for cut in cuts), END]


@dataclass
class FakeService:
    """What was asked so far, and what is to go wrong."""

    scenes: deque[Scene] = field(default_factory=deque)
    model_scenes: deque[Scene] = field(default_factory=deque)
    models: list[dict[str, Any]] = field(default_factory=lambda: [facts()])
    seen: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    make: Any = None
    url: str = ""

    def asked(self) -> list[dict[str, Any]]:
        """The bodies of all requests for showers."""
        return [body for path, _, body in self.seen if path == "/v1/showers"]

    def play(self, *scenes: Scene) -> None:
        """Let the next requests for showers be answered so."""
        self.scenes.extend(scenes)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    service: FakeService

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._note({})
        if self.path != "/v1/models":
            send(404, b"{}")(self, {})
        elif self.service.model_scenes:
            self.service.model_scenes.popleft()(self, {})
        else:
            send(200, json.dumps(self.service.models).encode())(self, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._note(body)
        (self.service.scenes.popleft() if self.service.scenes else whole)(self, body)

    def _note(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.service.seen.append((self.path, headers, body))

    def open_stream(self, kind: str = MEDIA_TYPE) -> None:
        """Begin a reply of unknown length."""
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        """Send some of it; nothing at all ends it."""
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def cut(self, *, reset: bool = False) -> None:
        """End the connection, politely or not."""
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.wfile.flush()
        if reset:
            self.connection.close()
        else:
            self.connection.shutdown(socket.SHUT_RDWR)


def whole(handler: Handler, asked: dict[str, Any]) -> None:
    """The right reply."""
    stream(parts(asked, handler.service.make))(handler, asked)


def send(status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> Scene:
    """A short reply; ``retry_after`` and the like become headers."""

    def scene(handler: Handler, asked: dict[str, Any]) -> None:
        handler.send_response(status)
        for name, value in {"content_type": kind, "content_length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return scene


def problem(status: int, message: str, code: str = "CR-100", **headers: str) -> Scene:
    """An error as the service reports it."""
    error = {"code": code, "message": message, "hint": "the server's hint"}
    return send(status, json.dumps({"error": error}).encode(), **headers)


def stream(chunks: list[bytes]) -> Scene:
    """These bytes, whatever they are."""

    def scene(handler: Handler, asked: dict[str, Any]) -> None:
        handler.open_stream()
        for data in chunks:
            handler.chunk(data)
        handler.chunk(b"")

    return scene


def falsified(**changes: Any) -> Scene:
    """A reply that is whole, but not what was asked for."""
    return lambda handler, asked: stream(parts(asked, **changes))(handler, asked)


def first_parts(count: int, how: str, extra: int = 0) -> Scene:
    """The head and ``count`` batches and some bytes of the next, then the end comes too early."""

    def scene(handler: Handler, asked: dict[str, Any]) -> None:
        sent = parts(asked)
        handler.open_stream()
        handler.chunk(b"".join(sent[: 1 + count]) + sent[1 + count][:extra])
        if how == "end":
            handler.chunk(b"")
        else:
            handler.cut(reset=how == "reset")

    return scene


def drip(size: int) -> Scene:
    """The right reply, a few bytes at a time."""

    def scene(handler: Handler, asked: dict[str, Any]) -> None:
        data = b"".join(parts(asked))
        stream([data[i : i + size] for i in range(0, len(data), size)])(handler, asked)

    return scene


def hang_up(handler: Handler, asked: dict[str, Any]) -> None:
    """No reply at all: the connection is reset."""
    handler.cut(reset=True)


def start() -> tuple[FakeService, ThreadingHTTPServer]:
    """Open a service on a free port of loopback."""
    service = FakeService()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"service": service}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave when they like
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return service, server
