"""What a run's history files hold, and how much of it MLflow has: ``tracking.json``."""

from __future__ import annotations

__all__ = ["HISTORY", "STATE", "Status", "TrackingState", "epochs_in", "epochs_of", "last_epoch"]

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from caloray.atomic import write_json

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
STATE = "tracking.json"
HISTORY = "history.jsonl"
_LOG = logging.getLogger("caloray.tracking")


@dataclass
class TrackingState:
    """What MLflow should hold, and what is known to have arrived (run ids, ``sent_*``, ``settled``).

    Children are further runs below the parent, each with parameters and histories of its own; those in
    ``settled`` have ended, and all of them has arrived. The tag ``uid`` finds runs whose ids were not written
    down any more when the driver was killed.
    """

    name: str = ""
    experiment: str = "caloray"
    uri: str = ""
    started_ms: int = 0
    components: list[str] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    summary: dict[str, float] = field(default_factory=dict)
    status: str = "RUNNING"
    component_status: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    sent_epochs: dict[str, int] = field(default_factory=dict)
    sent_params: list[str] = field(default_factory=list)
    sent_artifacts: list[str] = field(default_factory=list)
    artifact_digests: dict[str, str] = field(default_factory=dict)
    sent_summary: dict[str, float] = field(default_factory=dict)
    sent_status: dict[str, str] = field(default_factory=dict)
    uid: str = ""
    children: dict[str, dict[str, Any]] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)

    @staticmethod
    def load(path: Path) -> TrackingState | None:
        """The state of an earlier driver; None if there is none that can be read."""
        if not path.is_file():
            return None
        try:
            value = json.loads(path.read_text())
            known = {f.name for f in fields(TrackingState)}
            return TrackingState(**{key: item for key, item in value.items() if key in known})
        except (ValueError, TypeError, AttributeError) as error:
            _LOG.warning("%s is not readable and starts anew (%s)", path, error)
            return None

    def save(self, path: Path) -> None:
        """Write the state atomically."""
        write_json(path, asdict(self))


def epochs_of(run: Path, component: str) -> Iterator[tuple[int, float, dict[str, float]]]:
    """(epoch, seconds since the component began, finite metrics) of each complete history line.

    The run's own history, which a campaign has, is that of the component "".
    """
    return epochs_in(run / "components" / component if component else run)


def epochs_in(folder: Path) -> Iterator[tuple[int, float, dict[str, float]]]:
    """The same of any folder with a history file."""
    path = folder / HISTORY
    elapsed = 0.0
    for line in path.read_text().splitlines(keepends=True) if path.is_file() else []:
        if not line.endswith("\n"):
            return
        entry = _numbers(line)
        if "epoch" in entry:
            elapsed += entry.get("seconds", 0.0)
            yield int(entry.pop("epoch")), elapsed, entry


def _numbers(line: str) -> dict[str, float]:
    try:
        value: Any = json.loads(line)
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    return {k: float(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def last_epoch(run: Path, component: str) -> int:
    """The newest epoch in a component's history, -1 before the first."""
    return max((epoch for epoch, _, _ in epochs_of(run, component)), default=-1)
