"""The little of MLflow's client that the mirror of a run and a single upload share."""

from __future__ import annotations

__all__ = ["connect", "digest_of", "log_artifact", "now", "prepare"]

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from caloray.atomic import digest_json, sha256_file, staging, sweep_staged
from caloray.errors import StorageError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "5", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def prepare(path: Path) -> None:
    """Make a new sqlite database whole before it gets its name.

    MLflow builds one by many migrations; a process that is killed in between leaves a file that no other can
    go on with.

    Args:
        path: The database; the directory must be in one process's hands.

    Raises:
        OSError: It cannot be written.
    """
    if path.exists():
        return
    _quiet()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    sweep_staged(path.parent, path.name)
    try:
        with staging(path) as temporary:
            store = SqlAlchemyStore(f"sqlite:///{temporary}", str(path.parent / "mlartifacts"))
            store.engine.dispose()
    except StorageError as error:
        raise OSError(error.message) from error


def digest_of(path: Path) -> str:
    """Hash of a file, or of all files of a directory with their names; "" where there is nothing."""
    if path.is_file():
        return sha256_file(path)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    named = [[file.relative_to(path).as_posix(), sha256_file(file)] for file in files]
    return digest_json(named) if named else ""


def connect(uri: str) -> MlflowClient:
    """A client that gives up soon on a server that does not answer, and keeps its libraries quiet."""
    _quiet()
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _quiet() -> None:
    for key, value in _PATIENCE.items():
        os.environ.setdefault(key, value)
    for noisy in ("alembic", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # it logs with a traceback what it raises as well


def log_artifact(client: MlflowClient, run_id: str, path: Path, name: str) -> None:
    """Attach a file, or a directory under ``name``, to a run."""
    send: Callable[..., None] = client.log_artifacts if path.is_dir() else client.log_artifact
    send(run_id, str(path), artifact_path=name if path.is_dir() else None)


def now() -> int:
    """Milliseconds since 1970, as MLflow counts."""
    return int(1000 * time.time())
