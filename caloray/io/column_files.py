"""Files that hold one particle per row, as named columns of numbers that are read piece by piece.

Parquet (every column of numbers), HDF5 (the CaloChallenge's ``incident_energies`` as ``energy`` with
``incident_<name>`` as ``<name>``, or a dataset ``energy`` with further (N,) datasets by their names),
``.npy`` (energies alone) and text: a header line that names the columns, among them ``energy``, separated by
commas or blanks, or one energy per line.
"""

from __future__ import annotations

__all__ = ["CHUNK", "TABLES", "ColumnFile", "open_columns", "text_header"]

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.errors import DataError
from caloray.io.challenge_checks import HDF5_ERRORS, damaged, open_hdf5, require_inside
from caloray.io.challenge_conditions import find_conditions
from caloray.io.energies import HDF5
from caloray.io.particle_record import ENERGY, IDENTITY

CHUNK = 1 << 15
"""Rows that are read at a time."""
TABLES = (".parquet", *sorted(HDF5), ".npy", ".csv", ".txt")
CHALLENGE = "incident_energies"

Columns = dict[str, np.ndarray]
_Reader = Callable[[Sequence[str]], Iterator[Columns]]


@dataclass(frozen=True)
class ColumnFile:
    """A file of columns.

    Args:
        path: The file.
        names: The columns that it holds.
        read: Gives chosen columns piece by piece: (n,) numbers by name, never more than :data:`CHUNK` rows.
            Raises :class:`caloray.errors.DataError` where the file cannot be read.
    """

    path: Path
    names: tuple[str, ...]
    read: _Reader


def open_columns(path: Path, dataset: str = CHALLENGE) -> ColumnFile:
    """Find out which columns a file has; the ending decides on the format, an unknown one is text.

    Args:
        path: The file.
        dataset: Of the energies, in HDF5 of the CaloChallenge's layout.

    Raises:
        DataError: No such file, one that cannot be read, or one without energies.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of particles", hint="check the path")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        found = _parquet(path)
    elif suffix in HDF5:
        found = _hdf5(path, dataset)
    elif suffix == ".npy":
        found = ColumnFile(path, (ENERGY,), lambda _: _from_npy(path))
    else:
        header = text_header(path)
        found = ColumnFile(path, header or (ENERGY,), lambda names: _from_text(path, header, names))
    if ENERGY not in found.names:
        raise DataError(
            f"{path}: no column {ENERGY!r}, it has {', '.join(found.names[:20]) or 'none'}",
            hint=f"name the column of incident energies [MeV] {ENERGY!r}",
        )
    return found


def text_header(path: Path) -> tuple[str, ...]:
    """Names of the columns of a text file that begins with words; empty where it begins with numbers.

    Raises:
        DataError: The file is no text, or names a column twice.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            words = next((words for line in lines if (words := _words(line))), [])
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})", hint="check the file") from error
    if any(_is_number(word) for word in words):
        return ()
    if len(set(words)) < len(words):
        raise DataError(f"{path}: a column is named twice in {', '.join(words)}")
    return tuple(words)


def _from_text(path: Path, header: tuple[str, ...], names: Sequence[str]) -> Iterator[Columns]:
    columns = header or (ENERGY,)
    at = [columns.index(name) for name in names]
    try:
        with path.open(encoding="utf-8") as lines:
            filled = ((n, words) for n, line in enumerate(lines, start=1) if (words := _words(line)))
            rows = islice(filled, 1 if header else 0, None)
            while piece := list(islice(rows, CHUNK)):
                for line, words in piece:
                    if len(words) != len(columns):
                        raise _bad_line(path, line, words, len(columns))
                yield {name: _parsed(path, piece, name, i) for name, i in zip(names, at, strict=True)}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})", hint="check the file") from error


def _parsed(path: Path, piece: Sequence[tuple[int, list[str]]], name: str, at: int) -> np.ndarray:
    """One column of some lines: float64, or int64 where a particle's identity is written in whole numbers."""
    if name in IDENTITY:
        with suppress(ValueError, OverflowError):
            return np.array([int(words[at]) for _, words in piece], dtype=np.int64)
    values = []
    for line, words in piece:
        try:
            values.append(float(words[at]))
        except ValueError as error:
            raise DataError(
                f"{path}: line {line}, {name}: {words[at][:60]!r} is not a number",
                hint="write one particle per line, its columns as the header names them",
            ) from error
    return np.array(values, dtype=np.float64)


def _bad_line(path: Path, line: int, words: list[str], count: int) -> DataError:
    expected = "one number" if count == 1 else f"{count} numbers"
    return DataError(
        f"{path}: line {line} is not {expected}: {' '.join(words)[:60]!r}",
        hint="write one particle per line, its columns as the header names them",
    )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", line.partition("#")[0].strip()) if word]


def _from_npy(path: Path) -> Iterator[Columns]:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error})", hint="write it with numpy.save") from error
    flat = isinstance(values, np.ndarray) and (
        values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)
    )
    if not flat or values.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: found {values.dtype} of shape {values.shape}, expected one energy per row",
            hint="give an array of shape (rows,) or (rows, 1) in MeV",
        )
    for start in range(0, len(values), CHUNK):
        yield {ENERGY: np.array(values[start : start + CHUNK], dtype=np.float64).reshape(-1)}


def _parquet(path: Path) -> ColumnFile:
    with _open_parquet(path) as file:
        numbers = [
            field.name
            for field in file.schema_arrow
            if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        ]
    return ColumnFile(path, tuple(numbers), lambda names: _from_parquet(path, names))


def _from_parquet(path: Path, names: Sequence[str]) -> Iterator[Columns]:
    done = 0
    with _open_parquet(path) as file:
        try:
            for batch in file.iter_batches(batch_size=CHUNK, columns=list(names), use_threads=False):
                for name in names:
                    _refuse_nulls(path, name, batch.column(name), done)
                yield {name: batch.column(name).to_numpy(zero_copy_only=False) for name in names}
                done += len(batch)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _bad_parquet(path, error) from error


def _refuse_nulls(path: Path, name: str, column: pa.Array, first: int) -> None:
    if column.null_count:
        row = first + int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(f"{path}: {name} is empty in row {row}", hint="give every particle a value")


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _bad_parquet(path, error) from error


def _bad_parquet(path: Path, error: Exception) -> DataError:
    reason = json.dumps(str(error).split("\n", maxsplit=1)[0][:120])
    return DataError(f"{path}: not a readable Parquet file ({reason})", hint="make the file again")


def _hdf5(path: Path, dataset: str) -> ColumnFile:
    with open_hdf5(path) as file:
        names = tuple(_datasets(path, file, dataset))
    return ColumnFile(path, names, lambda wanted: _from_hdf5(path, dataset, wanted))


def _from_hdf5(path: Path, dataset: str, names: Sequence[str]) -> Iterator[Columns]:
    with open_hdf5(path) as file:
        found = _datasets(path, file, dataset)
        rows = len(found[ENERGY][0])
        for start in range(0, rows, CHUNK):
            stop = min(start + CHUNK, rows)
            try:
                yield {
                    name: np.asarray(node[start:stop]).reshape(stop - start, -1)[:, column]
                    for name, (node, column) in ((name, found[name]) for name in names)
                }
            except HDF5_ERRORS as error:
                raise damaged(path, f"rows {start} to {stop - 1} cannot be read", error) from error


def _datasets(path: Path, file: Any, dataset: str) -> dict[str, tuple[Any, int]]:
    """Data set and column in it of every column of the file."""
    try:
        if dataset in file:
            energies = _numbers(path, file, dataset)
            if energies is None:
                raise DataError(f"{path}, {dataset}: expected one energy per row", hint="give shape (rows,)")
            further = find_conditions(path, file, len(energies)).datasets
            return {ENERGY: (energies, 0), **further}
        nodes = {str(name): _numbers(path, file, str(name)) for name in sorted(file)}
    except HDF5_ERRORS as error:
        raise damaged(path, "the HDF5 structure cannot be read", error) from error
    found = {name: (node, 0) for name, node in nodes.items() if node is not None}
    if ENERGY not in found:
        raise DataError(
            f"{path}: no dataset {dataset!r} and none {ENERGY!r}, it has {', '.join(sorted(file)) or 'none'}",
            hint="incident energies of a CaloChallenge file are in 'incident_energies'",
        )
    lengths = {name: len(node) for name, (node, _) in found.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: datasets of different lengths, {lengths}", hint="one number per particle")
    return found


def _numbers(path: Path, file: Any, name: str) -> Any:
    """The data set if it is one column of numbers, else None.

    Raises:
        DataError: It keeps its data elsewhere.
    """
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise DataError(
            f"{path}, {name}: is a link to other data, which is refused", hint="copy the data into the file"
        )
    node = file[name]
    if not isinstance(node, h5py.Dataset) or node.dtype.kind not in "fiu":
        return None
    require_inside(path, name, node)
    return node if node.ndim == 1 or (node.ndim == 2 and node.shape[1] == 1) else None
