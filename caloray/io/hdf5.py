"""New HDF5 files that a full disk does not crash, and columns of numbers in them."""

from __future__ import annotations

__all__ = ["ColumnWriter", "new_file"]

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloray.atomic import storage_error
from caloray.errors import DataError
from caloray.io.patient import PatientFile

CHUNK_ROWS = 1024


@contextmanager
def new_file(temporary: Path, path: Path) -> Iterator[tuple[Any, PatientFile]]:
    """Open ``temporary`` for writing; ``path``, its later name, is the one that errors tell.

    Yields:
        The h5py file, and the file under it, whose ``check`` raises what h5py was spared.

    Raises:
        StorageError: The disk is full or not writable.
    """
    with PatientFile(temporary) as patient:
        try:
            with h5py.File(patient, "w") as file:
                yield file, patient
        except (OSError, RuntimeError) as error:
            patient.check()
            raise storage_error(OSError(str(error)), path) from error
        patient.check()


class ColumnWriter:
    """Appends columns of numbers to an open HDF5 file: one growing, compressed dataset each.

    Args:
        group: The open file, or a group in it.
    """

    def __init__(self, group: Any) -> None:
        self._group = group
        self._sets: dict[str, Any] = {}

    def append(self, columns: Mapping[str, np.ndarray]) -> None:
        """Add the values (n, ...) of every column by dataset name; the first call makes the datasets.

        Raises:
            DataError: Other columns than those of the first call.
        """
        if not self._sets:
            self._sets = {name: self._new(name, values) for name, values in columns.items()}
        if set(columns) != set(self._sets):
            found, expected = ", ".join(columns) or "none", ", ".join(self._sets) or "none"
            raise DataError(f"showers with columns {found}, the first ones had {expected}")
        for name, dataset in self._sets.items():
            before = len(dataset)
            dataset.resize(before + len(columns[name]), axis=0)
            dataset[before:] = columns[name]

    def _new(self, name: str, values: np.ndarray) -> Any:
        return self._group.create_dataset(
            name,
            shape=(0, *values.shape[1:]),
            maxshape=(None, *values.shape[1:]),
            chunks=(CHUNK_ROWS, *values.shape[1:]),
            dtype=values.dtype.newbyteorder("<"),
            compression="gzip",
            compression_opts=1,
        )
