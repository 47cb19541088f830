"""Experiment tracking in MLflow that can never stop or slow a training.

The truth of a run is on disk: every component appends one JSON line per epoch to its ``history.jsonl``.
``<run>/tracking.json`` records what MLflow should hold and how much of it has arrived there; one function
brings the two together. It is called while training runs, when it ends, and by ``caloray track sync``
after a server was away, so nothing is lost and nothing is logged twice.
"""

from __future__ import annotations

__all__ = [
    "STATE",
    "MlflowTracker",
    "NullTracker",
    "Status",
    "Tracker",
    "TrackingConfig",
    "attach",
    "attach_to_directory",
    "flatten",
    "open_tracker",
    "redact",
    "sync_run",
]

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from caloray.errors import ConfigError
from caloray.tracking.attach import attach, attach_to_directory
from caloray.tracking.mirror import MlflowTracker, TrackingConfig
from caloray.tracking.state import STATE, Status, TrackingState
from caloray.tracking.text import flatten, redact


class Tracker(Protocol):
    """What a driver tells its tracker; every method returns soon and raises nothing about the server."""

    def start(self, name: str, components: Sequence[str], params: Mapping[str, object]) -> None:
        """Open (or reopen) the run: one parent, one child per component."""

    def poll(self) -> None:
        """Send the epochs that the components have written since the last call."""

    def artifact(self, name: str, path: Path) -> None:
        """Attach a file or directory to the parent run."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Record final numbers of the whole run."""

    def component_ended(self, component: str, status: Status) -> None:
        """Close one component's child run."""

    def child(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        histories: Mapping[str, str],
    ) -> None:
        """Open (or reopen) a further child run, with parameters and history folders of its own."""

    def child_ended(self, name: str, status: Status, values: Mapping[str, float]) -> None:
        """Close such a child run with its final numbers."""

    def close(self, status: Status) -> None:
        """Close the parent run and every child that is still open."""


class NullTracker:
    """Tracking switched off."""

    def start(self, name: str, components: Sequence[str], params: Mapping[str, object]) -> None:
        """Do nothing."""

    def poll(self) -> None:
        """Do nothing."""

    def artifact(self, name: str, path: Path) -> None:
        """Do nothing."""

    def summary(self, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def component_ended(self, component: str, status: Status) -> None:
        """Do nothing."""

    def child(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        histories: Mapping[str, str],
    ) -> None:
        """Do nothing."""

    def child_ended(self, name: str, status: Status, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def close(self, status: Status) -> None:
        """Do nothing."""


def open_tracker(run: Path, config: TrackingConfig) -> Tracker:
    """The tracker that ``config`` asks for."""
    return MlflowTracker(run, config) if config.enabled else NullTracker()


def sync_run(run: Path, uri: str | None = None) -> bool:
    """Send to MLflow whatever a finished or running training could not send; True when all has arrived.

    Args:
        run: A run directory that was tracked.
        uri: Another tracking URI; default: the run's own (credentials are not stored and must be given anew).

    Raises:
        ConfigError: The directory holds no tracked run.
    """
    state = TrackingState.load(run / STATE)
    if state is None:
        raise ConfigError(
            f"{run}: no {STATE} here", hint="give the directory of a run that was trained with tracking on"
        )
    stored = uri or os.environ.get("MLFLOW_TRACKING_URI") or state.uri
    tracker = MlflowTracker(run, TrackingConfig(uri=stored, experiment=state.experiment))
    tracker.poll()
    return not tracker.pending
