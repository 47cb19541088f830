"""Captions of figures and definitions of terms, from files of the package."""

from __future__ import annotations

__all__ = ["Entry", "caption_of", "glossary", "packaged"]

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One term: what it means and where it comes from."""

    term: str
    meaning: str
    source: str


def caption_of(name: str) -> tuple[str, str]:
    """Title and caption of a figure by its file name without ending, ``18_diphoton_2`` as ``18_diphoton``."""
    figures = _parsed("figures.toml")
    known = [key for key in figures if name == key or name.startswith(f"{key}_")]
    if not known:
        return name, ""
    found = figures[max(known, key=len)]
    return str(found["title"]), str(found["caption"])


def glossary() -> list[Entry]:
    """The terms of a report in reading order."""
    return [Entry(**entry) for entry in _parsed("glossary.toml")["entry"]]


def packaged(name: str) -> str:
    """A text file of this package."""
    return resources.files("caloray.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _parsed(name: str) -> dict[str, Any]:
    return tomllib.loads(packaged(name))
