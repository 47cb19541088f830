"""The trials of a campaign in MLflow: one parent run, one child for each trial."""

from __future__ import annotations

__all__ = ["TrialTracker", "child_name"]

from pathlib import Path
from typing import Any

from caloray.tracking import NullTracker, Status, Tracker, open_tracker
from caloray.tracking.background import BackgroundTracker
from caloray.tuning.ledger import Ledger, Trial, TrialResult
from caloray.tuning.settings import TuneConfig
from caloray.tuning.space import Parameter

STATUS: dict[str, Status] = {
    "complete": "FINISHED",
    "pruned": "FAILED",
    "failed": "FAILED",
    "stopped": "KILLED",
}


def child_name(number: int) -> str:
    """Name of a trial's run."""
    return f"trial-{number:04d}"


PARAMETERS = ("config", "seed", "components", "space", "search", "fidelity", "objective")
"""What makes the campaign; the rest may change between two sessions, and is in ``settings.json``."""


def _described(settings: TuneConfig) -> dict[str, Any]:
    """Ranges as they are written, one parameter each; of the other sections what is set."""
    value = settings.model_dump(mode="json", include=set(PARAMETERS), exclude_none=True)
    value["config"] = settings.config.name
    value["space"] = {name: _range(axis) for name, axis in settings.space.items()}
    value["components"] = ", ".join(settings.components)
    return value


def _range(axis: Parameter) -> str:
    if axis.choices:
        return f"{axis.kind} {list(axis.choices)}"
    low, high = axis.ends
    return f"{axis.kind} [{low:g}, {high:g}]"


class TrialTracker:
    """Mirrors the ledger into MLflow; nothing that the server does or does not do reaches the campaign.

    Args:
        settings: The campaign.
        ledger: Its trials.
    """

    def __init__(self, settings: TuneConfig, ledger: Ledger) -> None:
        self._settings, self._ledger = settings, ledger
        self._tracker: Tracker = NullTracker()
        if settings.tracking.enabled:
            self._tracker = BackgroundTracker(open_tracker(settings.output.absolute(), settings.tracking))

    def start(self) -> None:
        """Open or reopen the campaign's run, and bring the children to what the ledger says."""
        self._tracker.start(self._settings.name, [], _described(self._settings))
        results = self._ledger.results()
        for trial in self._ledger.trials():
            self._child(trial)
            if trial.number in results:
                self.ended(trial, results[trial.number])
            else:
                self.interrupted(trial)

    def begun(self, trial: Trial) -> None:
        """Open a trial's run, or reopen it."""
        self._child(trial)

    def ended(self, trial: Trial, result: TrialResult) -> None:
        """Close a trial's run with its objectives."""
        numbers = dict(result.objectives)
        numbers |= {"seconds": result.seconds, "cpu_seconds": result.cpu_seconds}
        self._tracker.child_ended(child_name(trial.number), STATUS[result.status], numbers)

    def interrupted(self, trial: Trial) -> None:
        """A trial that stays unfinished; its run is closed, and reopened when it goes on."""
        self._tracker.child_ended(child_name(trial.number), "KILLED", {})

    def poll(self) -> None:
        """Send what is new."""
        self._tracker.poll()

    def artifact(self, name: str, path: Path) -> None:
        """Attach a file or directory to the campaign's run."""
        self._tracker.artifact(name, path)

    def summary(self, values: dict[str, float]) -> None:
        """Final numbers of the campaign."""
        self._tracker.summary(values)

    def close(self, status: Status) -> None:
        """Close the campaign's run and every child that is still open."""
        self._tracker.close(status)

    def _child(self, trial: Trial) -> None:
        params: dict[str, Any] = {**trial.assignment, "seed": trial.seed}
        params |= {f"epochs.{name}": count for name, count in trial.epochs.items()}
        tags = {"caloray.kind": trial.kind, "caloray.rung": str(trial.rung)}
        if trial.parent is not None:
            tags["caloray.parent_trial"] = child_name(trial.parent)
        several = len(trial.epochs) > 1
        folder = self._ledger.folder(trial.number).relative_to(self._ledger.output)
        histories = {
            f"{name}/" if several else "": (folder / "components" / name).as_posix() for name in trial.epochs
        }
        self._tracker.child(child_name(trial.number), params, tags, histories)
