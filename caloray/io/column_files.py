"""Files that hold one particle per row, as named columns of numbers that are read piece by piece.

Parquet (every column of numbers), HDF5 (the CaloChallenge's ``incident_energies`` as ``energy`` with
``incident_<name>`` as ``<name>``, and ``run``, ``event``, ``particle``, ``pdg`` by their names; or a dataset
``energy`` with further (N,) datasets by their names), ``.npy`` (energies alone) and text
(:mod:`caloray.io.text_columns`).
"""

from __future__ import annotations

__all__ = ["CHUNK", "TABLES", "ColumnFile", "open_columns"]

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from caloray.errors import DataError
from caloray.io.challenge_checks import HDF5_ERRORS, damaged, open_hdf5, require_inside
from caloray.io.challenge_conditions import PREFIX, find_conditions
from caloray.io.energies import HDF5, open_array
from caloray.io.given_file import require_file
from caloray.io.particle_record import ENERGY, IDENTITY
from caloray.io.text_columns import Columns, text_columns, text_layout

CHUNK = 1 << 15
"""Rows that are read at a time."""
TABLES = (".parquet", *sorted(HDF5), ".npy", ".csv", ".txt")
CHALLENGE = "incident_energies"

_Reader = Callable[[Sequence[str]], Iterator[Columns]]


@dataclass(frozen=True)
class ColumnFile:
    """A file of columns.

    Args:
        path: The file.
        names: The columns of numbers that it holds.
        read: Gives chosen columns piece by piece: (n,) numbers by name, never more than :data:`CHUNK` rows.
            Raises :class:`caloray.errors.DataError` where the file cannot be read.
        rows: How many particles it holds, where that is known without reading them.
        unusable: Columns of other things than numbers, and what is wrong with each.
    """

    path: Path
    names: tuple[str, ...]
    read: _Reader
    rows: int | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)

    def require(self, name: str) -> None:
        """Refuse a column that is there but does not hold one number per particle.

        Raises:
            DataError: Naming it and what it holds.
        """
        if name in self.unusable:
            raise DataError(
                f"{self.path}: column {name!r} {self.unusable[name]}, expected one number per particle",
                hint="store it as one column of whole or floating point numbers",
            )


def open_columns(path: Path, dataset: str = CHALLENGE) -> ColumnFile:
    """Find out which columns a file has; the ending decides on the format, an unknown one is text.

    Args:
        path: The file.
        dataset: Of the energies, in HDF5 of the CaloChallenge's layout.

    Raises:
        DataError: No such file, one that cannot be read, or one without energies.
    """
    require_file(path, "file of particles")
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        found = _parquet(path)
    elif suffix in HDF5:
        found = _hdf5(path, dataset)
    elif suffix == ".npy":
        found = ColumnFile(path, (ENERGY,), lambda _: _from_npy(path), len(open_array(path)))
    else:
        layout = text_layout(path)
        found = ColumnFile(path, layout.columns, lambda names: text_columns(path, layout, names, CHUNK))
    found.require(ENERGY)
    if ENERGY not in found.names:
        raise DataError(
            f"{path}: no column {ENERGY!r}, it has {', '.join(found.names[:20]) or 'none'}",
            hint=_nearly(found.names),
        )
    return found


def _nearly(names: Sequence[str]) -> str:
    """What to do about columns of which none is called energy."""
    alike = next((name for name in names if name.strip("'\" ").lower() == ENERGY), None)
    if any(";" in name for name in names):
        return "separate the columns by commas or by blanks, not by ';'"
    if alike is not None:
        return f"rename {alike!r} to {ENERGY!r} [MeV]"
    if any(ENERGY in name.split() for name in names):
        return "separate the columns by commas or by blanks, not by both"
    return f"name the column of incident energies [MeV] {ENERGY!r}"


def _from_npy(path: Path) -> Iterator[Columns]:
    values = open_array(path)
    for start in range(0, len(values), CHUNK):
        yield {ENERGY: np.array(values[start : start + CHUNK], dtype=np.float64).reshape(-1)}


def _parquet(path: Path) -> ColumnFile:
    with _open_parquet(path) as file:
        try:
            fields, rows = list(file.schema_arrow), int(file.metadata.num_rows)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise _bad_parquet(path, error) from error
    twice = [name for name, count in Counter(item.name for item in fields).items() if count > 1]
    if twice:
        raise DataError(
            f"{path}: a column is named twice: {', '.join(twice[:20])}", hint="rename one of them"
        )
    kinds = {item.name: item.type for item in fields}
    numbers = {
        name for name, kind in kinds.items() if pa.types.is_integer(kind) or pa.types.is_floating(kind)
    }
    others = {name: f"is of type {str(kind)[:60]}" for name, kind in kinds.items() if name not in numbers}
    names = tuple(name for name in kinds if name in numbers)
    return ColumnFile(path, names, lambda wanted: _from_parquet(path, wanted), rows, others)


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
        found, unusable = _datasets(path, file, dataset)
        rows = len(found[ENERGY][0]) if ENERGY in found else None
    return ColumnFile(path, tuple(found), lambda names: _from_hdf5(path, dataset, names), rows, unusable)


def _from_hdf5(path: Path, dataset: str, names: Sequence[str]) -> Iterator[Columns]:
    with open_hdf5(path) as file:
        found, _ = _datasets(path, file, dataset)
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


_Datasets = dict[str, tuple[Any, int]]
"""Data set and column in it of every column of a file."""


def _datasets(path: Path, file: Any, dataset: str) -> tuple[_Datasets, dict[str, str]]:
    """The columns of the file, and what is wrong with what looks like one."""
    try:
        if dataset in file:
            return _challenge(path, file, dataset)
        nodes = {str(name): _numbers(path, file, str(name)) for name in sorted(file)}
        other = {name: _what(file[name]) for name, node in nodes.items() if node is None}
    except HDF5_ERRORS as error:
        raise damaged(path, "the HDF5 structure cannot be read", error) from error
    found = {name: (node, 0) for name, node in nodes.items() if node is not None}
    if ENERGY not in nodes:
        raise DataError(
            f"{path}: no dataset {dataset!r} and none {ENERGY!r}, it has {', '.join(sorted(file)) or 'none'}",
            hint="incident energies of a CaloChallenge file are in 'incident_energies'",
        )
    lengths = {name: len(node) for name, (node, _) in found.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: datasets of different lengths, {lengths}", hint="one number per particle")
    return found, other


def _challenge(path: Path, file: Any, dataset: str) -> tuple[_Datasets, dict[str, str]]:
    """Of a file in the CaloChallenge's layout; which particle a row is stands beside it."""
    energies = _numbers(path, file, dataset)
    if energies is None:
        raise DataError(f"{path}, {dataset}: expected one energy per row", hint="give shape (rows,)")
    found = {ENERGY: (energies, 0), **find_conditions(path, file, len(energies)).datasets}
    other = {}
    for name in (name for name in IDENTITY if name in file):
        if name in found:
            raise DataError(f"{path}: both {name} and {PREFIX}{name}", hint="remove one of the two datasets")
        node = _numbers(path, file, name)
        if node is None:
            other[name] = _what(file[name])
        elif len(node) != len(energies):
            other[name] = f"has {len(node)} rows of {len(energies)}"
        else:
            found[name] = (node, 0)
    other |= {
        name: _what(file[PREFIX + name]) for name in IDENTITY if name not in found and PREFIX + name in file
    }
    return found, other


def _what(node: Any) -> str:
    """What is wrong with a node of a file that is no column of numbers."""
    if not isinstance(node, h5py.Dataset):
        return "is a group"
    if node.dtype.kind not in "fiu":
        return f"is of type {str(node.dtype)[:60]}"
    return f"has shape {node.shape}"


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
