"""What both clients ask of the HTTP library, and what its failures mean."""

from __future__ import annotations

__all__ = ["HttpOptions", "http_options", "lost"]

import ssl
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
    return Lost(f"{what} ({detail})" if detail else what, final=_advice(error))


def _advice(error: httpx2.HTTPError) -> str:
    """What to do where no patience helps: the other side speaks no TLS, or its certificate is no good."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    match cause:
        case ssl.SSLCertVerificationError():
            return "its certificate is not to be trusted: check the address, or install the authority's own"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER" | "HTTP_REQUEST" | "UNKNOWN_PROTOCOL"):
            return "this port does not speak TLS: http or https?"
    return ""
