"""Incident energies alone, from a CaloChallenge HDF5, ``.npy`` or text file."""

from __future__ import annotations

__all__ = ["HDF5", "open_array", "read_energies"]

import zipfile
from pathlib import Path
from tokenize import TokenError

import h5py
import numpy as np

from caloray.errors import DataError
from caloray.io.challenge_checks import open_hdf5
from caloray.io.given_file import require_file
from caloray.io.text_columns import ENCODING, number

MAX_ROWS = 1_000_000_000
HDF5 = {".h5", ".hdf5", ".hdf"}


def read_energies(path: Path, dataset: str = "incident_energies") -> np.ndarray:
    """Read one energy [MeV] per event, (rows,) float64.

    The ending decides: ``.h5``/``.hdf5`` (its ``dataset``, shape (rows,) or (rows, 1)), ``.npy`` (the same
    shapes), anything else is text with one number per line, empty lines and ``#`` comments ignored.

    Raises:
        DataError: No such file, another format, another shape, no rows, or a line that is not a number.
    """
    require_file(path, "file of incident energies")
    suffix = path.suffix.lower()
    try:
        if suffix in HDF5:
            values = _from_hdf5(path, dataset)
        elif suffix == ".npy":
            values = open_array(path)
        else:
            values = _from_text(path)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"{path}: incident energies cannot be read ({error})",
            hint="expected CaloChallenge HDF5 (.hdf5), .npy, or text with one number [MeV] per line",
        ) from error
    return _column(path, values)


def open_array(path: Path) -> np.ndarray:
    """The numbers of an ``.npy`` file, (rows,) or (rows, 1), mapped rather than read.

    Raises:
        DataError: Not such a file, or of another shape.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (
        OSError,
        ValueError,
        EOFError,
        SyntaxError,
        OverflowError,
        TokenError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:120]
        raise DataError(f"{path}: cannot be read ({reason})", hint="write it with numpy.save") from error
    if not isinstance(values, np.ndarray):
        held = ", ".join(values.files[:20]) or "none"
        values.close()
        raise DataError(
            f"{path}: an .npz archive of arrays ({held}), expected one array", hint="write it with numpy.save"
        )
    return _checked(path, values)


def _from_hdf5(path: Path, dataset: str) -> np.ndarray:
    with open_hdf5(path) as file:
        node = file[dataset] if isinstance(file.get(dataset, getlink=True), h5py.HardLink) else None
        if not isinstance(node, h5py.Dataset) or node.external or node.is_virtual:
            raise DataError(
                f"{path}: no dataset {dataset!r}, it has {', '.join(sorted(file)) or 'none'}",
                hint="incident energies of a CaloChallenge file are in 'incident_energies'",
            )
        if node.size > MAX_ROWS:
            raise DataError(f"{path}: {dataset!r} has {node.size} numbers, at most {MAX_ROWS} are read")
        return np.asarray(node[()])


def _from_text(path: Path) -> np.ndarray:
    values = []
    with path.open(encoding=ENCODING) as lines:
        for at, line in enumerate(lines, start=1):
            word = line.partition("#")[0].strip().rstrip(",")
            if not word:
                continue
            try:
                values.append(number(word))
            except ValueError as error:
                raise DataError(
                    f"{path}: line {at} is not one number: {word[:60]!r}",
                    hint="write one energy [MeV] per line; comments start with #",
                ) from error
    return np.array(values)


def _column(path: Path, values: np.ndarray) -> np.ndarray:
    if not values.size:
        raise DataError(
            f"{path}: no numbers, expected one energy per row", hint="give one energy [MeV] per shower"
        )
    return _checked(path, values).reshape(-1).astype(np.float64)


def _checked(path: Path, values: np.ndarray) -> np.ndarray:
    flat = values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    if not flat or values.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: found {values.dtype} of shape {values.shape}, expected one energy per row",
            hint="give an array of shape (rows,) or (rows, 1) in MeV",
        )
    return values
