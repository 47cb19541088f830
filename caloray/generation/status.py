"""How far a production is, read from its directory by anyone at any time, without its lock."""

from __future__ import annotations

__all__ = ["ProductionStatus", "read_status"]

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from caloray.errors import IntegrityError
from caloray.generation.control import QUALITY
from caloray.generation.plan import GenerationPlan, read_plan
from caloray.generation.receipts import read_receipt, receipt_path
from caloray.generation.totals import Totals
from caloray.io.manifest import MANIFEST, Manifest
from caloray.io.worker_notes import WorkerNote, notes_of

DRIVER = "driver"
RECENT = 100
"""Shards from whose ages the present rate is told."""
SHORT, PAUSE = 60.0, 3600.0
"""Between two shards of one run less time passes [s], or less than three shards take; a rate that is older
than the second, and than ten shards, says nothing of the present."""

State = Literal["finished", "running", "stopped", "damaged"]


@dataclass(frozen=True)
class ProductionStatus:
    """How far a production is.

    Args:
        directory: Where.
        plan: What was asked for.
        state: "finished", "running" (a driver is at work, or may be on another machine), "stopped", or
            "damaged": there is a manifest, but it or a receipt cannot be trusted, or is missing.
        totals: Sums over the finished shards.
        rate: Showers per second of late; None when unknown.
        workers: Processes that make a shard now; of those on other machines nobody knows whether they live.
        driver: The process that hands out the shards.
        damaged: What cannot be trusted, in words.
        quality: Content of ``quality.json``, if it is there.
    """

    directory: Path
    plan: GenerationPlan
    state: State
    totals: Totals
    rate: float | None
    workers: tuple[WorkerNote, ...]
    driver: WorkerNote | None
    damaged: tuple[str, ...]
    quality: dict[str, Any] | None

    @property
    def seconds_left(self) -> float | None:
        """Until the last shower at the present rate; None when that is not known."""
        if self.state != "running" or not self.rate:
            return None
        return (self.plan.rows - self.totals.planned) / self.rate


def read_status(directory: Path) -> ProductionStatus:
    """Look at a production. Shards are believed to be what their receipts say; `verify` hashes them.

    Raises:
        StorageError: The directory holds no plan.
        IntegrityError: Its plan is damaged.
    """
    plan = read_plan(directory)
    totals, damaged = Totals(), []
    ends: list[_End] = []
    for index in range(plan.n_shards):
        try:
            receipt = read_receipt(directory, plan, index)
        except IntegrityError as error:
            damaged.append(error.message)
            continue
        if receipt is not None:
            totals.add(receipt)
            with suppress(OSError):
                at = receipt_path(directory, index).stat().st_mtime
                ends.append(_End(at, receipt.planned, receipt.seconds))
    notes = notes_of(directory)
    drivers = [note for note in notes if note.name == DRIVER and note.alive is not False]
    state: State = "running" if drivers else "stopped"
    if (directory / MANIFEST).exists() and not drivers:
        damaged += _faults(directory, plan, totals)
        state = "damaged" if damaged else "finished"
    return ProductionStatus(
        directory=directory,
        plan=plan,
        state=state,
        totals=totals,
        rate=_rate(ends) if state == "running" else None,
        workers=tuple(note for note in notes if note.name != DRIVER and note.alive is not False),
        driver=drivers[0] if drivers else None,
        damaged=tuple(damaged),
        quality=_quality(directory),
    )


def _faults(directory: Path, plan: GenerationPlan, totals: Totals) -> list[str]:
    """What speaks against a production that has a manifest."""
    try:
        manifest = Manifest.load(directory)
    except IntegrityError as error:
        return [error.message]
    if manifest.created.get("plan_digest") != plan.digest:
        return [f"{directory / MANIFEST}: belongs to another plan"]
    if totals.shards != plan.n_shards:
        return [f"{directory}: {totals.shards} of {plan.n_shards} shards have a receipt that can be trusted"]
    return []


@dataclass(frozen=True)
class _End:
    """When a shard was finished [s since 1970], its particles, and how long it took [s]."""

    at: float
    rows: int
    seconds: float


def _rate(ends: list[_End]) -> float | None:
    """Showers per second over the last shards; what was before a pause between two runs is not counted."""
    recent = sorted(ends, key=lambda end: end.at)[-RECENT:]
    if not recent:
        return None
    longest = max(end.seconds for end in recent)
    gaps = [later.at - sooner.at for sooner, later in pairwise(recent)]
    breaks = [place for place, gap in enumerate(gaps, start=1) if gap > max(3 * longest, SHORT)]
    recent = recent[breaks[-1] :] if breaks else recent
    if time.time() - recent[-1].at > max(10 * longest, PAUSE):
        return None
    span = recent[-1].at - recent[0].at + recent[0].seconds
    return sum(end.rows for end in recent) / span if span > 0 else None


def _quality(directory: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        value = json.loads((directory / QUALITY).read_bytes())
        return value if isinstance(value, dict) else None
    return None
