"""The little of MLflow's client that the mirror of a run and a single upload share."""

from __future__ import annotations

__all__ = ["connect", "log_artifact", "now"]

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def connect(uri: str) -> MlflowClient:
    """A client that gives up soon on a server that does not answer, and keeps its libraries quiet."""
    for key, value in _PATIENCE.items():
        os.environ.setdefault(key, value)
    for noisy in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def log_artifact(client: MlflowClient, run_id: str, path: Path, name: str) -> None:
    """Attach a file, or a directory under ``name``, to a run."""
    send: Callable[..., None] = client.log_artifacts if path.is_dir() else client.log_artifact
    send(run_id, str(path), artifact_path=name if path.is_dir() else None)


def now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(1000 * time.time())
