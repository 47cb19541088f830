"""The files that browsers get: the page that shows showers and the page that shows the interface."""

from __future__ import annotations

__all__ = ["POLICY", "PageFile", "page_files"]

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content security policy: nothing from elsewhere, nothing inline."""
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True)
class PageFile:
    """One file as it is sent.

    Args:
        content: Its bytes.
        media_type: What it is.
        tag: Changes with its content.
    """

    content: bytes
    media_type: str
    tag: str


@cache
def page_files() -> dict[str, PageFile]:
    """All files by name ("shower.html", "shower.js" ...)."""
    folder = resources.files("caloray.serving").joinpath("page")
    found = {}
    for entry in folder.iterdir():
        suffix = entry.name.rpartition(".")[2]
        if suffix in _TYPES:
            content = entry.read_bytes()
            tag = hashlib.sha256(content).hexdigest()[:16]
            found[entry.name] = PageFile(content, _TYPES[suffix], f'"{tag}"')
    return found
