"""Whether a path that somebody gave is a file that can be opened, said in one line where it is not."""

from __future__ import annotations

__all__ = ["require_file"]

import stat
from pathlib import Path

from caloray.errors import DataError


def require_file(path: Path, what: str) -> None:
    """Refuse what is no regular file.

    Args:
        path: The file.
        what: What it should be, for the message: "file of particles".

    Raises:
        DataError: Missing, a directory, no regular file, or a name that no file can have.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(f"{path}: no such {what}", hint="check the path") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: {what} cannot be read ({reason})", hint="check the path") from error
    except ValueError as error:
        raise DataError(f"{str(path)!r}: no such {what} ({error})", hint="check the path") from error
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a directory, expected a {what}", hint="name the file inside it")
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is not a regular file, expected a {what}", hint="copy it into a file first")
