"""Where the service is and what opens it."""

from __future__ import annotations

__all__ = ["Address", "parse_address", "resolve_token"]

import os
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import httpx2

from caloray.errors import AuthError, ConfigError
from caloray.serving.access import TOKEN_VARIABLE, is_loopback, is_token

_EXAMPLE = "write for example http://127.0.0.1:8000"


@dataclass(frozen=True)
class Address:
    """A service.

    Args:
        url: Its root, without a slash at the end.
        loopback: Whether it is on this machine.
        encrypted: Whether the connection is.
    """

    url: str
    loopback: bool
    encrypted: bool


def parse_address(url: str) -> Address:
    """Read the address of a service.

    Raises:
        ConfigError: It is no http or https URL, or carries a user name, password, query or fragment.
    """
    parts = _split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"service address {url!r}: not an http or https URL", hint=_EXAMPLE)
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"service address with a user name or password in it (host {parts.hostname})",
            hint=f"pass the token, or set {TOKEN_VARIABLE}: addresses end up in logs",
        )
    if parts.query or parts.fragment:
        raise ConfigError(f"service address {url!r}: has a query or fragment", hint=_EXAMPLE)
    root = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
    return Address(root, is_loopback(parts.hostname), parts.scheme == "https")


def resolve_token(token: str | None) -> str | None:
    """The token that was passed, or that of the environment, or None.

    Raises:
        AuthError: It is empty or has characters that no header can carry. It is not repeated in the message.
    """
    found = token if token is not None else os.environ.get(TOKEN_VARIABLE)
    if found is None:
        return None
    if not is_token(found.strip()):
        source = "the token" if token is not None else f"the token in {TOKEN_VARIABLE}"
        raise AuthError(
            f"{source} is empty or has blanks, control or non-ASCII characters",
            hint="use the token with which the service was started",
        )
    return found.strip()


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # reading it checks it
        httpx2.URL(url)
        (parts.hostname or "").encode("idna")  # what is done when its address is looked up
    except (ValueError, httpx2.InvalidURL) as error:  # UnicodeError is a ValueError
        what = "no host can be called so" if isinstance(error, UnicodeError) else str(error)
        raise ConfigError(f"service address: {what:.200}", hint=_EXAMPLE) from error
    return parts
