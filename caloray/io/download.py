"""Download of the published CaloChallenge files: resumed where it stopped, verified by md5.

A file grows as ``<name>.part`` and takes its final name only when its md5 is the published one. A broken
connection is tried again from where it broke; so is a download that was killed, by the same command.
"""

from __future__ import annotations

__all__ = ["Progress", "pull"]

import fcntl
import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from caloray import __version__
from caloray.atomic import require_space, staging, storage_error
from caloray.errors import ConfigError, DataError, IntegrityError, StorageError
from caloray.io.known import ZENODO, KnownFile, files_of

Progress = Callable[[str, int, int | None], None]

PIECE = 2**20
TIMEOUT = 60.0
ATTEMPTS = 5
PAUSE = 2.0
CHECK_AGAIN = "check the network and run the same command again; it continues where it stopped"
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def pull(
    dataset: str,
    directory: Path,
    base_url: str = ZENODO,
    progress: Progress | None = None,
    *,
    pause: float = PAUSE,
) -> list[Path]:
    """Download all files of a data set that are not there yet.

    Args:
        dataset: ``ds1_photons``, ``ds1_pions``, ``ds2`` or ``ds3``.
        directory: Where the files go.
        base_url: Zenodo, or a mirror with the same paths (http or https).
        progress: Called with (file name, bytes so far, bytes in all or None).
        pause: Seconds before the first new attempt after a broken connection; doubled each time.

    Returns:
        The files' paths, all verified.

    Raises:
        ConfigError: Unknown data set, or not an http(s) address.
        DataError: The server cannot be reached, refuses, or sends a web page.
        IntegrityError: A file's md5 is not the published one; names both.
        StorageError: The disk is full, or another process downloads the same file.
    """
    if not base_url.startswith(("http://", "https://")):
        raise ConfigError(f"{base_url}: expected an http or https address")
    files = files_of(dataset)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, directory) from error
    return [
        _pull_file(known, directory / known.name, known.url(base_url), progress or _silent, pause)
        for known in files
    ]


@dataclass(frozen=True)
class _Target:
    """One file on its way: what it is, where from, where to."""

    known: KnownFile
    url: str
    part: Path
    progress: Progress


def _pull_file(known: KnownFile, path: Path, url: str, progress: Progress, pause: float) -> Path:
    if path.exists():
        found = _md5(path)
        if found != known.md5:
            raise _mismatch(path, found, known.md5, hint="move it away or delete it, then pull again")
        progress(known.name, path.stat().st_size, path.stat().st_size)
        return path
    part = path.with_name(f"{path.name}.part")
    with _exclusive(part) as file:
        _fill(_Target(known, url, part, progress), file, pause)
        file.flush()
        found = _md5(part)
        if found != known.md5:
            part.unlink()
            raise _mismatch(path, found, known.md5, hint="the part file was removed; pull again")
        with staging(path) as temporary:
            os.replace(part, temporary)
    return path


def _fill(target: _Target, file: BinaryIO, pause: float) -> None:
    """Continue ``file`` until it is complete; give up after several attempts in a row without a new byte."""
    failures = 0
    while True:
        before = file.seek(0, os.SEEK_END)
        try:
            if _attempt(target, file):
                return
            reason = "connection closed early"
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"HTTP {error.code} {error.reason}"
            if error.code not in _TRY_AGAIN:
                raise _unreachable(target.url, reason) from error
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures = 0 if file.seek(0, os.SEEK_END) > before else failures + 1
        if failures >= ATTEMPTS:
            raise _unreachable(target.url, reason)
        time.sleep(pause * 2 ** max(failures - 1, 0))


def _attempt(target: _Target, file: BinaryIO) -> bool:
    """One request from the present end of the file; whether the file is complete afterwards."""
    have = file.seek(0, os.SEEK_END)
    headers = {"User-Agent": f"caloray/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(target.url, headers=headers)  # noqa: S310 - scheme checked in pull
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310 - scheme checked in pull
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not have:
            raise
        error.close()
        return _complete_or_empty(target, file)
    with response:
        if "html" in response.headers.get("Content-Type", ""):
            raise DataError(
                f"{target.url}: the server sent a web page, expected the file {target.known.name}",
                hint="check the address; behind a proxy or login page, download the file with a browser",
            )
        start, total = _extent(response, have)
        if start != have:
            file.truncate(0)
            file.seek(0)
        return _copy(target, response, file, total)


def _copy(target: _Target, response: http.client.HTTPResponse, file: BinaryIO, total: int | None) -> bool:
    done = file.tell()
    if total is not None:
        require_space(target.part.parent, total - done)
    while piece := response.read(PIECE):
        try:
            file.write(piece)
            file.flush()
        except OSError as error:
            raise storage_error(error, target.part) from error
        done += len(piece)
        target.progress(target.known.name, done, total)
    return total is None or done >= total


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """(offset of the answer's first byte, size of the whole file if told)."""
    if response.status == http.HTTPStatus.PARTIAL_CONTENT:
        found = _RANGE.match(response.headers.get("Content-Range", ""))
        if found is None or int(found[1]) != have:
            raise http.client.HTTPException("the server answered another range than asked")
        return have, None if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length")
    return 0, int(length) if length and length.isdigit() else None


def _complete_or_empty(target: _Target, file: BinaryIO) -> bool:
    """Nothing left to send: the file is whole, or it is too long and starts anew."""
    file.flush()
    if _md5(target.part) == target.known.md5:
        return True
    file.truncate(0)
    return False


@contextmanager
def _exclusive(part: Path) -> Iterator[BinaryIO]:
    """Open the part file for appending; only one process may at a time."""
    busy = StorageError(f"{part}: another process is downloading this file", hint="wait for it to end")
    try:
        with part.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise busy from error
            # Between open and lock the other process may have given this very file its final name.
            if not part.exists() or not os.path.samestat(os.fstat(file.fileno()), part.stat()):
                raise busy
            yield file
    except OSError as error:
        raise storage_error(error, part) from error


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _mismatch(path: Path, found: str, expected: str, hint: str) -> IntegrityError:
    return IntegrityError(f"{path}: md5 {found}, the published file has {expected}", hint=hint)


def _unreachable(url: str, reason: str) -> DataError:
    return DataError(f"{url}: download failed ({reason})", hint=CHECK_AGAIN)


def _silent(_name: str, _done: int, _total: int | None) -> None:
    """Report nothing."""
