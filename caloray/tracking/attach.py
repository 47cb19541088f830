"""Numbers and files for a run that MLflow already has, whoever started it."""

from __future__ import annotations

__all__ = ["attach", "attach_to_directory"]

import os
from collections.abc import Mapping
from pathlib import Path

from caloray.errors import ConfigError
from caloray.tracking.client import connect, log_artifact, now
from caloray.tracking.state import STATE, TrackingState
from caloray.tracking.text import redact


def attach(
    run_id: str, metrics: Mapping[str, float], artifacts: Mapping[str, Path], uri: str | None = None
) -> None:
    """Log metrics and artifacts to the MLflow run ``run_id``.

    Args:
        run_id: MLflow's id of the run.
        metrics: Name to value.
        artifacts: Name within the run to file or directory.
        uri: Tracking URI; default: MLFLOW_TRACKING_URI.

    Raises:
        ConfigError: No tracking URI, no such run, or a server that does not answer.
    """
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    address = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not address:
        raise ConfigError(
            f"MLflow run {run_id}: no tracking URI", hint="set MLFLOW_TRACKING_URI to the server of that run"
        )
    try:
        client = connect(address)
        at = now()
        values = [Metric(key, value, at, 0) for key, value in metrics.items()]
        for start in range(0, len(values), 1000):
            client.log_batch(run_id, metrics=values[start : start + 1000])
        for name, path in artifacts.items():
            log_artifact(client, run_id, path, name)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0].replace(address, redact(address))[:200]
        raise ConfigError(
            f"MLflow run {run_id} at {redact(address)}: {reason}",
            hint="check the id and MLFLOW_TRACKING_URI; the results themselves are on disk",
        ) from error


def attach_to_directory(run: Path, metrics: Mapping[str, float], artifacts: Mapping[str, Path]) -> None:
    """The same for the MLflow run of a run directory.

    Raises:
        ConfigError: The directory holds no run that MLflow knows, or the server does not answer.
    """
    state = TrackingState.load(run / STATE)
    if state is None or "" not in state.runs:
        raise ConfigError(
            f"{run}: no {STATE} of a run that has reached MLflow",
            hint="give the directory of a tracked run, or --mlflow-run with an id",
        )
    attach(state.runs[""], metrics, artifacts, os.environ.get("MLFLOW_TRACKING_URI") or state.uri)
