"""Text that may leave the process: no credentials, nothing secret, no endless values."""

from __future__ import annotations

__all__ = ["flatten", "redact", "without_credentials"]

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

_SECRET = re.compile(r"token|secret|password|passwd|credential|api_?key", re.IGNORECASE)
_VALUE_LIMIT = 499


def redact(uri: str) -> str:
    """``uri`` without user, password and query."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc and not parts.query:
        return uri
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def flatten(value: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """A nested config as MLflow parameters: dotted keys, short values, nothing secret."""
    flat: dict[str, str] = {}
    for key, item in value.items():
        name = re.sub(r"[^\w\-./ ]", "_", f"{prefix}{key}")
        if _SECRET.search(str(key)):
            continue
        if isinstance(item, Mapping):
            flat.update(flatten(item, f"{name}."))
        else:
            text = without_credentials(item if isinstance(item, str) else json.dumps(item, default=str))
            flat[name] = text[:_VALUE_LIMIT]
    return flat


def without_credentials(text: str) -> str:
    """``text`` with user and password taken out of every URI in it."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1", text)
