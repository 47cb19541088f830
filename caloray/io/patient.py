"""A file that lets the HDF5 library finish in peace when the disk is full.

A failed write inside the library leaves it with data that it can neither keep nor drop; at exit it crashes
the process. Here a failed write is remembered, everything after it is accepted and thrown away, and the error
is raised from :meth:`PatientFile.check`, where Python can handle it.
"""

from __future__ import annotations

__all__ = ["PatientFile"]

import io
from pathlib import Path


class PatientFile(io.FileIO):
    """A new file for reading and writing whose writes never raise; :meth:`check` does."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self._failure: OSError | None = None

    def check(self) -> None:
        """Raise the first error of a write, if there was one.

        Raises:
            OSError: The disk was full or the write failed otherwise.
        """
        if self._failure is not None:
            raise OSError(self._failure.errno, self._failure.strerror) from self._failure

    def write(self, data: object) -> int:
        """Write all of ``data``, or remember why not."""
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        done = 0
        while done < len(view) and self._failure is None:
            try:
                done += self._store(view[done:])
            except OSError as error:
                self._failure = error
        if self._failure is not None:
            self.seek(len(view) - done, io.SEEK_CUR)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Change the length, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._failure = self._failure or error
            return size or 0

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer``; bytes that could not be stored read as zero."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        count = super().readinto(view) or 0
        if self._failure is not None and count < len(view):
            view[count:] = bytes(len(view) - count)
            return len(view)
        return count

    def _store(self, view: memoryview) -> int:
        return super().write(view) or 0
