"""The diary of a campaign: a line now and then, which is also what MLflow shows."""

from __future__ import annotations

__all__ = ["Journal"]

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from caloray.atomic import write_bytes
from caloray.generation.receipts import Receipt
from caloray.generation.totals import Totals
from caloray.tracking import Tracker
from caloray.tracking.state import HISTORY, epochs_of

_FIRST_PAUSE = 10.0
_GROWTH = 0.01
"""Pauses grow with the age of the campaign, by this share, so that its diary stays short."""


class Journal:
    """Writes ``history.jsonl`` and lets the tracker know.

    Args:
        directory: The campaign's.
        tracker: Sends the lines on.
        quality: Tells how far the observables are from their reference, by name.
    """

    def __init__(self, directory: Path, tracker: Tracker, quality: Callable[[], Mapping[str, float]]) -> None:
        self._path = directory / HISTORY
        self._tracker, self._quality = tracker, quality
        self._lines = self._path.read_bytes().splitlines(keepends=True) if self._path.is_file() else []
        earlier = list(epochs_of(directory, ""))
        self._age = earlier[-1][1] if earlier else 0.0
        self._lines = self._lines[: len(earlier)]
        self._totals = Totals()
        self._told = time.monotonic()
        self._fresh = 0

    def add(self, receipt: Receipt, /, *, new: bool) -> None:
        """Count one more shard, and write a line if the last one is old enough."""
        self._totals.add(receipt)
        self._fresh += receipt.planned if new else 0
        if new and time.monotonic() - self._told > _FIRST_PAUSE + _GROWTH * self._age:
            self._write()

    def caught_up(self) -> None:
        """Nothing to write: lines are about new shards."""

    def facts(self) -> dict[str, Any]:
        """Write the last line; the manifest hears nothing of it."""
        if self._fresh:
            self._write()
        return {}

    def summary(self) -> dict[str, float]:
        """Final numbers of the campaign."""
        totals = self._totals
        counts = {name: float(value) for name, value in totals.counts().items()}
        per_shower = totals.bytes / totals.rows if totals.rows else 0.0
        return counts | {"showers": float(totals.rows), "bytes_per_shower": per_shower} | self._drifts()

    def _write(self) -> None:
        seconds = time.monotonic() - self._told
        line = {
            "epoch": len(self._lines),
            "seconds": round(seconds, 3),
            "showers_per_second": round(self._fresh / max(seconds, 1e-3), 3),
            "shards": self._totals.shards,
            "gigabytes": round(self._totals.bytes / 1e9, 6),
            **self.summary(),
        }
        self._lines.append(json.dumps(line).encode() + b"\n")
        write_bytes(self._path, b"".join(self._lines))
        self._age += seconds
        self._told, self._fresh = time.monotonic(), 0
        self._tracker.poll()

    def _drifts(self) -> dict[str, float]:
        return {f"drift_{name}": value for name, value in self._quality().items()}
