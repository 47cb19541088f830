"""Who may ask: a bearer token, of which the service itself keeps only the hash."""

from __future__ import annotations

__all__ = [
    "TOKEN_VARIABLE",
    "admits",
    "digest_of",
    "is_loopback",
    "is_token",
    "read_token",
    "require_protection",
    "warn_of_open_line",
]

import hashlib
import hmac
import ipaddress
import logging
import os
import re
from pathlib import Path

from caloray.errors import AuthError

_LOG = logging.getLogger(__name__)
TOKEN_VARIABLE = "CALORAY_SERVE_TOKEN"  # noqa: S105  (the name of a variable)
SHORTEST = 16
_TOKEN = re.compile(r"[\x21-\x7e]+")
_MAKE = "make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"


def read_token(file: Path | None = None) -> str | None:
    """The token in a file, else that of the environment, else None; a file that others may read is warned of.

    Raises:
        AuthError: The file cannot be read, or the token is too short or has characters that no header
            carries. The message does not repeat it.
    """
    source = TOKEN_VARIABLE if file is None else str(file)
    found = os.environ.get(TOKEN_VARIABLE) if file is None else _content(file)
    if found is None:
        return None
    token = found.strip()
    if len(token) < SHORTEST or not is_token(token):
        raise AuthError(
            f"the token in {source} is no use: {SHORTEST} or more printable ASCII characters without blanks "
            "are expected",
            hint=_MAKE,
        )
    return token


def is_token(text: str) -> bool:
    """Whether a header can carry it: printable ASCII without blanks."""
    return _TOKEN.fullmatch(text) is not None


def digest_of(token: str) -> str:
    """What the service keeps of a token: its sha256."""
    return hashlib.sha256(token.encode()).hexdigest()


def admits(authorization: str | None, digest: str | None) -> bool:
    """Whether an ``Authorization`` header opens a service; the time tells nothing about the token.

    Args:
        authorization: The header's value, if there is one.
        digest: Hash of the service's token; None for a service that is open.
    """
    if digest is None:
        return True
    scheme, _, token = (authorization or "").partition(" ")
    presented = hashlib.sha256(token.strip().encode(errors="replace")).hexdigest()
    return hmac.compare_digest(presented, digest) and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Whether a host name or address stays on this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_protection(host: str, token: str | None) -> None:
    """Refuse a service that other machines can reach and that asks nobody for a token.

    Raises:
        AuthError: ``host`` is not a loopback address and there is no token.
    """
    if token is None and not is_loopback(host):
        raise AuthError(
            f"serving on {host} without a token: whoever reaches the port could use the service",
            hint=f"set {TOKEN_VARIABLE} or pass a token file ({_MAKE}), or serve on 127.0.0.1",
        )


def warn_of_open_line(host: str, token: str | None) -> None:
    """Warn of a token that will come in readably from other machines."""
    if token is not None and not is_loopback(host):
        _LOG.warning("%s: tokens travel unencrypted; put something that speaks TLS in front", host)


def _content(file: Path) -> str:
    try:
        if file.stat().st_mode & 0o077:
            _LOG.warning("%s: other users can read or change this token: chmod 600 %s", file, file)
        return file.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise AuthError(
            f"{file}: no token can be read ({error.strerror})", hint=f"check the path, or {_MAKE}"
        ) from error
