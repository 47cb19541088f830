"""Write-then-rename: a reader never sees half a file.

Everything that caloray leaves on disk goes through here: the content is written to a temporary name in
the target's folder, fsynced, renamed, and the folder is fsynced. Temporary names end in ``.tmp`` and are
ignored by every reader; :func:`sweep` removes those that a killed process left behind.
"""

from __future__ import annotations

__all__ = [
    "digest_json",
    "free_bytes",
    "is_staged",
    "nearest",
    "require_space",
    "sha256_bytes",
    "sha256_file",
    "staging",
    "staging_directory",
    "storage_error",
    "sweep",
    "sweep_staged",
    "write_bytes",
    "write_json",
]

import errno
import hashlib
import json
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caloray.errors import StorageError

TEMPORARY = ".tmp"
_STAGED = re.compile(r".+\.\d+-[0-9a-f]{8}\.tmp")
"""Names that :func:`staging` gives."""
_writing: dict[str, int] = {}
"""Those of them that a thread of this process is writing at this moment, with the thread's number."""


def sha256_bytes(data: bytes) -> str:
    """Hexadecimal sha256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hexadecimal sha256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_json(value: object) -> str:
    """Hexadecimal sha256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256_bytes(text.encode())


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends well.

    Works for a file that any library writes. On an exception nothing is left behind.

    Raises:
        StorageError: The disk is full, read-only or not writable.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY}")
    _writing[temporary.name] = threading.get_ident()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        _remove(temporary)
        raise storage_error(error, path) from error
    except BaseException:
        _remove(temporary)
        raise
    finally:
        _writing.pop(temporary.name, None)


def write_bytes(path: Path, data: bytes) -> str:
    """Write ``data`` to ``path`` atomically and return its sha256."""
    with staging(path) as temporary:
        temporary.write_bytes(data)
    return sha256_bytes(data)


def write_json(path: Path, value: object) -> str:
    """Write ``value`` as indented JSON with a final newline; return the file's sha256."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    return write_bytes(path, text.encode())


@contextmanager
def staging_directory(final: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``final`` and rename it when the block ends well.

    ``final`` must not exist by then. On an exception nothing is left behind.

    Raises:
        StorageError: The disk is full, read-only or not writable.
    """
    temporary = final.with_name(final.name + TEMPORARY)
    try:
        _remove(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        _commit(temporary, final)
    except OSError as error:
        raise storage_error(error, final) from error
    finally:
        _remove(temporary)


def _commit(temporary: Path, final: Path) -> None:
    """Rename a completely written folder; every file is fsynced first, so the final name implies content."""
    for file in sorted(temporary.rglob("*")):
        if file.is_file():
            _fsync(file)
    _fsync(temporary)
    os.replace(temporary, final)
    _fsync(final.parent)


def sweep(directory: Path) -> list[Path]:
    """Remove temporary files and folders directly inside ``directory``; return what was removed."""
    stale = sorted(directory.glob(f"*{TEMPORARY}")) if directory.is_dir() else []
    for path in stale:
        _remove(path)
    return stale


def is_staged(path: Path) -> bool:
    """Whether a name is one that :func:`staging` gives, so that the file is still being written, or was."""
    return _STAGED.fullmatch(path.name) is not None


def sweep_staged(directory: Path, name: str | None = None) -> list[Path]:
    """Remove what :func:`staging` left directly inside ``directory``; return what was removed.

    Folders, links and files of any other name stay: in an output directory they may be somebody's. So does
    what another thread of this process is writing.

    Args:
        directory: Where to look.
        name: Only what would have become this file, where other processes may be writing others.
    """
    there = sorted(directory.glob(f"*{TEMPORARY}")) if directory.is_dir() else []
    stale = [path for path in there if is_staged(path) and path.is_file() and not path.is_symlink()]
    here = threading.get_ident()  # what this thread began is over: an interruption may leave it unfinished
    stale = [path for path in stale if _writing.get(path.name, here) == here]
    if name is not None:
        stale = [path for path in stale if path.name.rsplit(".", 2)[0] == name]
    for path in stale:
        _remove(path)
    return stale


def nearest(path: Path) -> Path:
    """``path``, or the nearest thing above it that exists."""
    place = path.absolute()
    while not os.path.exists(place):  # noqa: PTH110  (a name that no file can have does not exist)
        place = place.parent
    return place


def free_bytes(directory: Path) -> int:
    """Bytes that are free where ``directory`` is, or would be.

    Raises:
        StorageError: Nobody can tell.
    """
    try:
        return shutil.disk_usage(nearest(directory)).free
    except OSError as error:
        raise storage_error(error, directory) from error


def require_space(directory: Path, needed: int) -> None:
    """Refuse to start a write of ``needed`` bytes that cannot fit.

    Raises:
        StorageError: With both figures, before anything is written.
    """
    free = free_bytes(directory)
    if free < needed:
        raise StorageError(
            f"{directory}: need {_sized(needed)}, have {_sized(free)} free",
            hint="free some space or choose another output directory",
            needed=needed,
            free=free,
        )


def _sized(count: int) -> str:
    """A number of bytes, as people say it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count} bytes"


def storage_error(error: OSError | ValueError, path: Path) -> StorageError:
    """Translate an error of a write to ``path`` into one line that says what to do.

    A ValueError is what Python raises of names that no file can have, those with a null byte.
    """
    if isinstance(error, ValueError):
        return StorageError(f"{str(path)!r}: cannot be written ({error})", hint="check the path")
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StorageError(
            f"{path}: no space left on the device while writing",
            hint="free some space and run the same command again; finished files are kept",
        )
    reason = error.strerror or str(error)
    return StorageError(f"{path}: cannot be written ({reason})", hint="check the path and its permissions")


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114  (names that are too long)
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
