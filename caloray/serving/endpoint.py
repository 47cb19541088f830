"""Where a service listens, looked at before anything expensive is started."""

from __future__ import annotations

__all__ = ["Endpoint"]

import socket
from dataclasses import dataclass

from caloray.errors import ClusterError

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
