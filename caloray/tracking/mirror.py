"""The mirror of a run directory in MLflow: one parent run, one child per component."""

from __future__ import annotations

__all__ = ["MlflowTracker", "TrackingConfig"]

import logging
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from caloray.tracking.children import ChildRun, push_child
from caloray.tracking.client import connect, digest_of, log_artifact, now, prepare
from caloray.tracking.state import STATE, Status, TrackingState, epochs_of, last_epoch
from caloray.tracking.text import flatten, redact, without_credentials

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_LOG = logging.getLogger("caloray.tracking")
DATABASE = "mlflow.db"
_WISHES = ("name", "components", "params", "artifacts", "summary", "children")
_FIRST_PAUSE, _LONGEST_PAUSE = 15.0, 300.0


class TrackingConfig(BaseModel):
    """Where a run is tracked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    uri: str | None = Field(
        default=None,
        description="MLflow tracking URI; default: MLFLOW_TRACKING_URI, else sqlite in the run directory",
    )
    experiment: str = "caloray"


class MlflowTracker:
    """Mirrors a run directory into MLflow.

    Args:
        run: The run directory; components write below ``run/components/<name>/``, the run as a whole (a
            campaign) into ``run/history.jsonl``.
        config: Where to; credentials in its URI are used but never written anywhere.
    """

    def __init__(self, run: Path, config: TrackingConfig) -> None:
        self._run = run
        self._own_uri = f"sqlite:///{run.resolve() / DATABASE}"
        self._uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI") or self._own_uri
        self._path = run / STATE
        state = TrackingState.load(self._path)
        if state is None or state.uri != redact(self._uri):
            fresh = TrackingState(
                experiment=config.experiment, uri=redact(self._uri), started_ms=now(), uid=uuid.uuid4().hex
            )
            if state is not None:
                _keep_wishes(state, fresh)
            self._resumed = False
            state = fresh
        else:
            self._resumed = True
        self._state = state
        self._client: MlflowClient | None = None
        self._pause = _FIRST_PAUSE
        self._silent_until = 0.0
        self._warned = False

    def start(self, name: str, components: Sequence[str], params: Mapping[str, object]) -> None:
        """Open (or reopen after a restart) the parent run and its children.

        Args:
            name: Name of the parent run.
            components: Names of the components, in order.
            params: The resolved config, nested as it is.
        """
        state = self._state
        state.name, state.components, state.status = name, list(components), "RUNNING"
        state.params = flatten(params)
        for component in components:
            if state.component_status.get(component) != "FINISHED":
                state.component_status[component] = "RUNNING"
        self._sync()

    def poll(self) -> None:
        """Send new epochs unless the server was unreachable a moment ago."""
        if time.monotonic() >= self._silent_until:
            self._sync()

    def artifact(self, name: str, path: Path) -> None:
        """Attach ``path`` (file or directory) under ``name``, again if it has changed since."""
        state = self._state
        state.artifacts[name] = str(path.resolve())
        digest = digest_of(path)
        if state.artifact_digests.get(name) != digest and name in state.sent_artifacts:
            state.sent_artifacts.remove(name)
        state.artifact_digests[name] = digest
        self.poll()

    def summary(self, values: Mapping[str, float]) -> None:
        """Record final numbers of the whole run as metrics of the parent."""
        self._state.summary.update(values)
        self.poll()

    def component_ended(self, component: str, status: Status) -> None:
        """Close the child run of ``component``."""
        self._state.component_status[component] = status
        self.poll()

    def child(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        histories: Mapping[str, str],
    ) -> None:
        """Open (or reopen) a further child run; the next :meth:`poll` sends it.

        Args:
            name: Its name; what was said of it before is kept where it is the same.
            params: Its parameters, nested as they are.
            tags: Its tags.
            histories: Folders with a history file below the run directory, by the prefix of their metrics.
        """
        state, known = self._state, self._state.children.get(name, {})
        child = ChildRun(flatten(params), dict(tags), dict(histories), known.get("started_ms", now()))
        child.summary, child.status = known.get("summary", {}), "RUNNING"
        self._wish(name, child, changed=known.get("status") != "RUNNING" or name not in state.runs)

    def child_ended(self, name: str, status: Status, values: Mapping[str, float]) -> None:
        """Close a child run with its final numbers; the next :meth:`poll` sends them."""
        known = ChildRun(**self._state.children.get(name, {}))
        changed = (known.status, known.summary) != (status, dict(values))
        known.status, known.summary = status, dict(values)
        self._wish(name, known, changed=changed)

    def _wish(self, name: str, child: ChildRun, *, changed: bool) -> None:
        self._state.children[name] = asdict(child)
        if changed and name in self._state.settled:
            self._state.settled.remove(name)

    def close(self, status: Status) -> None:
        """Close everything; tries the server once more even after failures.

        A further child that has not ended is closed as KILLED: that the run is over says nothing about it.
        """
        state = self._state
        state.status = status
        for child in state.children.values():
            if child["status"] == "RUNNING":
                child["status"] = "KILLED"
        for component, of_component in state.component_status.items():
            if of_component == "RUNNING":
                state.component_status[component] = status
        state.save(self._path)  # a process that has no time to wait for the server leaves the wish behind
        self._sync()

    @property
    def pending(self) -> bool:
        """Whether something is recorded on disk that MLflow does not have yet."""
        state = self._state
        histories = ("", *state.components)
        behind = any(last_epoch(self._run, c) > state.sent_epochs.get(c, -1) for c in histories)
        unsettled = any(name not in state.settled for name in state.children)
        return behind or unsettled or state.sent_status.get("") != state.status

    def _sync(self) -> None:
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            self._push()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            self._note_failure(error)
        else:
            self._pause, self._silent_until = _FIRST_PAUSE, 0.0
        self._state.save(self._path)

    def _note_failure(self, error: Exception) -> None:
        self._client = None
        self._silent_until = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        if not self._warned:
            self._warned = True
            lines = [line for line in str(error).splitlines() if "autoflush" not in line] or [repr(error)]
            reason = lines[0].replace(self._uri, redact(self._uri))[:300]
            _LOG.warning(
                "MLflow at %s does not answer (%s); the work goes on, the metrics wait in %s: "
                "send them later with 'caloray track sync %s'",
                redact(self._uri), without_credentials(reason), self._run, self._run,
            )  # fmt: skip

    def _push(self) -> None:
        client = self._connect()
        state = self._state
        parent = self._ensure_run(client, "", state.name, {}, state.started_ms)
        self._push_params(client, parent, "", list(state.params))
        self._push_epochs(client, "", parent)
        for component in state.components:
            tags = {"mlflow.parentRunId": parent}
            child = self._ensure_run(client, component, component, tags, state.started_ms)
            own = [key for key in state.params if component in key.split(".")]
            self._push_params(client, child, f"{component}:", own)
            self._push_epochs(client, component, child)
            self._push_status(client, component, child, state.component_status.get(component, "RUNNING"))
        for name in state.children:
            push_child(client, self._run, state, name, parent, self._ensure_run)
        for name, path in state.artifacts.items():
            if name not in state.sent_artifacts and Path(path).exists():
                log_artifact(client, parent, Path(path), name)
                state.sent_artifacts.append(name)
        self._push_summary(client, parent)
        self._push_status(client, "", parent, state.status)

    def _connect(self) -> MlflowClient:
        if self._client is None:
            if self._uri == self._own_uri:
                prepare(self._run.resolve() / DATABASE)
            self._client = connect(self._uri)
        return self._client

    def _ensure_run(
        self, client: MlflowClient, key: str, name: str, tags: Mapping[str, str], started_ms: int
    ) -> str:
        state = self._state
        if key not in state.runs:
            experiment = self._experiment(client)
            found = self._left_behind(client, experiment, key)
            if found is None:
                own = {
                    "mlflow.runName": name,
                    "caloray.run": self._run.name,
                    "caloray.component": key,
                    **tags,
                }
                if state.uid:
                    own["caloray.uid"] = state.uid
                    state.save(self._path)  # before the run is there: whoever resumes can find it
                run = client.create_run(experiment, tags=own, start_time=started_ms, run_name=name)
                found = run.info.run_id
            state.runs[key] = found
            state.save(self._path)
        return state.runs[key]

    def _left_behind(self, client: MlflowClient, experiment: str, key: str) -> str | None:
        """A run that was created, but whose id a killed driver could not write down any more."""
        uid = self._state.uid
        if not (self._resumed and uid):
            return None
        query = f"tags.`caloray.uid` = '{uid}' and tags.`caloray.component` = '{key}'"
        found = client.search_runs([experiment], query, max_results=1)
        return str(found[0].info.run_id) if found else None

    def _experiment(self, client: MlflowClient) -> str:
        found = client.get_experiment_by_name(self._state.experiment)
        if found is not None:
            return str(found.experiment_id)
        place = (self._run.resolve() / "mlartifacts").as_uri() if self._uri.startswith("sqlite:") else None
        return str(client.create_experiment(self._state.experiment, artifact_location=place))

    def _push_params(self, client: MlflowClient, run_id: str, label: str, keys: Sequence[str]) -> None:
        """Send the parameters ``keys`` to a run; ``label`` tells the runs apart in what is remembered."""
        from mlflow.entities import Param

        sent = self._state.sent_params
        fresh = [key for key in keys if label + key not in sent]
        if not fresh:
            return
        there = client.get_run(run_id).data.params
        todo = [Param(key, self._state.params[key]) for key in fresh if key not in there]
        for start in range(0, len(todo), 100):
            client.log_batch(run_id, params=todo[start : start + 100])
        sent.extend(label + key for key in fresh)

    def _push_summary(self, client: MlflowClient, parent: str) -> None:
        from mlflow.entities import Metric

        state = self._state
        todo = {k: v for k, v in state.summary.items() if state.sent_summary.get(k) != v}
        if todo:
            at = now()
            client.log_batch(parent, metrics=[Metric(key, value, at, 0) for key, value in todo.items()])
            state.sent_summary.update(todo)

    def _push_epochs(self, client: MlflowClient, component: str, child: str) -> None:
        from mlflow.entities import Metric

        last = self._state.sent_epochs.get(component, -1)
        metrics: list[Metric] = []
        for epoch, stamp, values in epochs_of(self._run, component):
            if epoch > last:
                at = self._state.started_ms + int(1000 * stamp)
                metrics.extend(Metric(key, value, at, epoch) for key, value in values.items())
                last = epoch
        for start in range(0, len(metrics), 1000):
            client.log_batch(child, metrics=metrics[start : start + 1000])
        self._state.sent_epochs[component] = last

    def _push_status(self, client: MlflowClient, key: str, run_id: str, status: str) -> None:
        if self._state.sent_status.get(key) == status:
            return
        if status == "RUNNING":
            client.update_run(run_id, status="RUNNING")
        else:
            client.set_terminated(run_id, status)
        self._state.sent_status[key] = status


def _keep_wishes(old: TrackingState, new: TrackingState) -> None:
    """Another server is asked for: what it should hold stays, what the old one received does not count."""
    for name in (*_WISHES, "status", "component_status", "started_ms"):
        setattr(new, name, getattr(old, name))
