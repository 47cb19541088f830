"""Where a service listens, looked at before anything expensive is started."""

from __future__ import annotations

__all__ = ["Endpoint", "unsent"]

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from caloray.errors import ClusterError

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_OPEN = {"01", "08"}  # established; or only the other side has ended
_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  (compared with, not bound to)


@dataclass(frozen=True)
class Endpoint:
    """An interface and a port.

    Args:
        host: Address or name of the interface.
        port: TCP port.
    """

    host: str = "127.0.0.1"
    port: int = 8000

    @property
    def url(self) -> str:
        """The service's address as seen from this machine."""
        host = "127.0.0.1" if self.host in _EVERYWHERE else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def require_free(self) -> None:
        """Refuse a port that somebody else listens on.

        Raises:
            ClusterError: It is taken, or there is no such interface.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise ClusterError(
                    f"cannot listen on {self.host}, port {self.port}: {error.strerror or error}",
                    hint="choose another one with --port, or stop what uses it",
                ) from error


def unsent(port: int) -> int:
    """Connections to a local port whose other side has not confirmed all that was sent to it.

    As long as a process has something left to send, so has the kernel. Where the kernel does not tell
    (Linux does), there are none.
    """
    count = 0
    for table in _TABLES:
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                _, local, _, state, queues, *_ = line.split()
                own = int(local.rpartition(":")[2], 16) == port
                count += own and state in _OPEN and int(queues.partition(":")[0], 16) > 0
    return count
