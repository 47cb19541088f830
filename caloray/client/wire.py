"""What both clients ask of the HTTP library, and what its failures mean."""

from __future__ import annotations

__all__ = ["HttpOptions", "http_options", "lost"]

from typing import TypedDict

import httpx2

from caloray.client.steps import Lost
from caloray.client.talk import Settings

CONNECT_SECONDS = 10.0
MAX_REASON = 200


class HttpOptions(TypedDict):
    """Arguments of both of httpx2's clients."""

    base_url: str
    timeout: httpx2.Timeout
    trust_env: bool
    verify: bool
    follow_redirects: bool


def http_options(settings: Settings) -> HttpOptions:
    """How connections are made.

    Redirects are not followed, since the token would go with them; a proxy of the environment is not asked
    for what is on this machine. There, and without encryption, no certificates are loaded: that takes longer
    than many a request.
    """
    return HttpOptions(
        base_url=settings.address.url,
        timeout=httpx2.Timeout(settings.timeout, connect=min(CONNECT_SECONDS, settings.timeout)),
        trust_env=not settings.address.loopback,
        verify=settings.address.encrypted or not settings.address.loopback,
        follow_redirects=False,
    )


def lost(error: httpx2.HTTPError) -> Lost:
    """A failure of the connection, in a few words."""
    match error:
        case httpx2.ConnectTimeout() | httpx2.ConnectError():
            what = "cannot connect"
        case httpx2.TimeoutException():
            what = "no answer in time"
        case _:
            what = "connection broken"
    detail = " ".join(str(error).split())[:MAX_REASON]
    return Lost(f"{what} ({detail})" if detail else what)
