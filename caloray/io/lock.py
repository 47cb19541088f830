"""One writer per directory."""

from __future__ import annotations

__all__ = ["LOCK", "exclusive"]

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from caloray.atomic import storage_error
from caloray.errors import StorageError

LOCK = ".lock"


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Make ``directory`` if need be and keep other caloray processes from writing there meanwhile.

    Raises:
        StorageError: Another process writes there, or the directory cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(directory / LOCK)
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        raise StorageError(
            f"{directory}: another caloray process is writing here",
            hint="wait for it to end, or choose another output directory",
        ) from error
    except (OSError, ValueError) as error:
        raise storage_error(error, directory) from error
    try:
        yield
    finally:
        lock.release()
