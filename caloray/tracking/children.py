"""Further child runs of a mirrored run: the trials of a campaign, each with its own few parameters."""

from __future__ import annotations

__all__ = ["ChildRun", "push_child"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from caloray.tracking.client import now
from caloray.tracking.state import TrackingState, epochs_in

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EPOCH_METRICS = ("val_loss", "lr")
"""What of each epoch is worth a curve; the rest is in the history file."""
_BATCH = 1000


@dataclass
class ChildRun:
    """What MLflow should hold of one child.

    Args:
        params: Its parameters.
        tags: Its tags.
        histories: Folders with a history file, relative to the run directory, by the prefix of their metrics.
        started_ms: When it was begun.
        summary: Its final numbers.
        status: Its status.
    """

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    histories: dict[str, str] = field(default_factory=dict)
    started_ms: int = 0
    summary: dict[str, float] = field(default_factory=dict)
    status: str = "RUNNING"


class EnsureRun(Protocol):
    """Gives the id of a run, which is created if need be."""

    def __call__(
        self, client: MlflowClient, key: str, name: str, tags: Mapping[str, str], started_ms: int
    ) -> str:
        """Id of the run ``key``."""


def push_child(
    client: MlflowClient, run: Path, state: TrackingState, name: str, parent: str, ensure: EnsureRun
) -> None:
    """Bring one child's run in MLflow to what it should hold.

    Args:
        client: Talks to the server.
        run: The run directory.
        state: What is known to have arrived.
        name: The child's name.
        parent: Id of the parent run.
        ensure: Gives the id of the child's run.
    """
    if name in state.settled:
        return
    child = ChildRun(**state.children[name])
    tags = {"mlflow.parentRunId": parent, **child.tags}
    run_id = ensure(client, name, name, tags, child.started_ms)
    _push_params(client, run_id, child, state, name)
    _push_epochs(client, run_id, child, run, state, name)
    _push_numbers(client, run_id, child, state, name)
    if state.sent_status.get(name) != child.status:
        if child.status == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, child.status)
        state.sent_status[name] = child.status
    if child.status != "RUNNING":
        state.settled.append(name)


def _push_params(client: MlflowClient, run_id: str, child: ChildRun, state: TrackingState, name: str) -> None:
    from mlflow.entities import Param

    if all(f"{name}:{key}" in state.sent_params for key in child.params):
        return
    there = client.get_run(run_id).data.params
    todo = [Param(key, value) for key, value in child.params.items() if key not in there]
    if todo:
        client.log_batch(run_id, params=todo)
    state.sent_params.extend(f"{name}:{key}" for key in child.params)


def _push_epochs(
    client: MlflowClient, run_id: str, child: ChildRun, run: Path, state: TrackingState, name: str
) -> None:
    from mlflow.entities import Metric

    metrics: list[Metric] = []
    reached: dict[str, int] = {}
    for prefix, folder in child.histories.items():
        key = f"{name}:{folder}"
        reached[key] = state.sent_epochs.get(key, -1)
        for epoch, stamp, values in epochs_in(run / folder):
            if epoch > reached[key]:
                at = child.started_ms + int(1000 * stamp)
                metrics += [Metric(prefix + k, values[k], at, epoch) for k in EPOCH_METRICS if k in values]
                reached[key] = epoch
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _BATCH])
    state.sent_epochs |= reached


def _push_numbers(
    client: MlflowClient, run_id: str, child: ChildRun, state: TrackingState, name: str
) -> None:
    from mlflow.entities import Metric

    todo = {
        key: value for key, value in child.summary.items() if state.sent_summary.get(f"{name}:{key}") != value
    }
    if todo:
        at = now()
        client.log_batch(run_id, metrics=[Metric(key, value, at, 0) for key, value in todo.items()])
        state.sent_summary.update({f"{name}:{key}": value for key, value in todo.items()})
