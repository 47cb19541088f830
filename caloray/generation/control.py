"""Quality control while showers are made: what the shards counted, against the bundle's frozen reference."""

from __future__ import annotations

__all__ = ["QUALITY", "QualityControl", "QualitySettings"]

import json
import logging
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from caloray.atomic import digest_json, write_json
from caloray.errors import DataError, NumericalError
from caloray.generation.receipts import Receipt
from caloray.io.manifest import MANIFEST
from caloray.quality.counts import QualityCounts
from caloray.quality.drift import DriftReport, drift
from caloray.quality.reference import QualityReference

logger = logging.getLogger(__name__)
QUALITY = "quality.json"
WRITE_EVERY = 15.0
_LOOK_SHARE = 0.05
"""Share of the time that looking may take."""


class QualitySettings(BaseModel):
    """How a campaign is watched.

    Args:
        enabled: Compare the showers with the bundle's reference while they are made.
        on_drift: "warn" says so and goes on, "stop" ends the campaign; the finished shards are kept.
        tolerance: Shift of an observable that is still accepted, in widths of the reference.
        min_showers: Showers before anything is judged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: bool = True
    on_drift: Literal["warn", "stop"] = "warn"
    tolerance: float = Field(default=0.25, gt=0)
    min_showers: int = Field(default=2000, ge=1)


class QualityControl:
    """Adds up what the shards counted and compares it with the reference, for all to see in ``quality.json``.

    Args:
        reference: The bundle's.
        settings: When to complain, and how.
        directory: Where ``quality.json`` goes.
    """

    def __init__(self, reference: QualityReference, settings: QualitySettings, directory: Path) -> None:
        self._reference = reference
        self._settings = settings
        self._path = directory / QUALITY
        self._counts = QualityCounts.merged([], reference)
        self._uncounted = 0
        self._told: frozenset[str] = frozenset()
        self._next_look = self._next_write = 0.0
        self.report: DriftReport | None = None

    def add(self, receipt: Receipt, /, *, new: bool) -> None:
        """Count one more shard, made now or earlier.

        Raises:
            NumericalError: The showers drift and shall not.
        """
        del new
        try:
            if receipt.quality is None:
                raise DataError(f"shard {receipt.index} was made without being counted")
            self._counts += QualityCounts.from_json(dict(receipt.quality), self._reference)
        except DataError as error:
            if not self._uncounted:
                logger.warning("quality: %s; such shards are left out of the comparison", error.message)
            self._uncounted += receipt.rows
            return
        if time.monotonic() >= self._next_look:
            self._look()

    def caught_up(self) -> None:
        """Judge what earlier runs left before more is made.

        Raises:
            NumericalError: The showers drift and shall not.
        """
        if self._counts.showers:
            self._look()

    def metrics(self) -> dict[str, float]:
        """How far each observable was from its reference when somebody last looked."""
        return {} if self.report is None else self.report.metrics()

    def facts(self) -> dict[str, Any]:
        """The last word, for the manifest.

        Raises:
            NumericalError: The showers drift and shall not.
        """
        report = self._look(last=True)
        unjudged = {"uncounted": self._uncounted, "left_out": report.left_out}
        return {
            "quality": {
                "verdict": report.verdict,
                "drifted": [row.observable for row in report.drifted],
                "showers": self._counts.showers,
                "reference": self._reference.digest,
                **{name: rows for name, rows in unjudged.items() if rows},
            }
        }

    def _look(self, *, last: bool = False) -> DriftReport:
        began = time.monotonic()
        settings = self._settings
        report = drift(
            self._counts,
            self._reference,
            tolerance=settings.tolerance,
            min_showers=settings.min_showers,
        )
        self.report = report
        now = time.monotonic()
        self._next_look = now + (now - began) / _LOOK_SHARE
        drifted = frozenset(row.observable for row in report.drifted)
        finished = (self._path.parent / MANIFEST).exists()  # then its last word stays until the next one
        if last or (not finished and (drifted != self._told or now >= self._next_write)):
            self._next_write = now + WRITE_EVERY
            self._write(report)
        if drifted - self._told or (last and drifted):
            self._complain(report)
        self._told = drifted
        return report

    def _write(self, report: DriftReport) -> None:
        facts = {
            "reference": self._reference.digest,
            "counted": self._counts.showers,
            "uncounted": self._uncounted,
            "settings": self._settings.model_dump(mode="json"),
        }
        body = json.loads(json.dumps(facts | {"report": report.to_json()}))
        write_json(self._path, body | {"digest": digest_json(body)})

    def _complain(self, report: DriftReport) -> None:
        if self._settings.on_drift == "stop":
            names = [row.observable for row in report.drifted]
            raise NumericalError(
                f"quality: after {self._counts.showers} showers the production drifts from the bundle's "
                f"reference in {', '.join(names)}",
                hint=f"see {self._path}; `--set quality.on_drift=warn` continues all the same",
                drifted=names,
            )
        for line in report.lines():
            logger.warning("%s", line)
