"""Further scalars of the particle in a CaloChallenge HDF5 file: its direction and whatever else conditions.

``incident_directions`` (N, 3) holds unit vectors and becomes ``direction_x``, ``direction_y``,
``direction_z``; any other numeric dataset ``incident_<name>`` (N,) or (N, 1) becomes the condition ``<name>``
with the unit of its attribute ``unit``. Datasets of words or with more columns are none.
"""

from __future__ import annotations

__all__ = ["ConditionColumns", "ConditionWriter", "find_conditions"]

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloray.errors import DataError
from caloray.io.challenge_checks import HDF5_ERRORS, damaged, plain_value, require_inside
from caloray.showers import DIRECTION, default_unit

PREFIX = "incident_"
DIRECTIONS = "incident_directions"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
CHUNK_ROWS = 1024
MAX_UNIT = 40


@dataclass(frozen=True)
class ConditionColumns:
    """The datasets of a file that hold conditions.

    Args:
        path: The file, for messages.
        units: Unit of each condition by name, in order.
        datasets: For each condition its dataset and the column in it.
    """

    path: Path
    units: Mapping[str, str]
    datasets: Mapping[str, tuple[Any, int]]

    def read(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Values (stop - start,) float64 of every condition, rows ``start`` to ``stop`` (excluded).

        Raises:
            DataError: The data are damaged.
        """
        found = {}
        for name, (dataset, column) in self.datasets.items():
            try:
                values = np.asarray(dataset[start:stop], dtype=np.float64).reshape(stop - start, -1)
            except HDF5_ERRORS as error:
                where = f"{dataset.name.lstrip('/')}: rows {start} to {stop - 1} cannot be read"
                raise damaged(self.path, where, error) from error
            found[name] = values[:, column]
        return found


def find_conditions(path: Path, file: Any, rows: int) -> ConditionColumns:
    """The conditions of an open file of ``rows`` showers.

    Raises:
        DataError: A dataset of another length or shape, a link, a name that cannot be used, or two datasets
            for one condition; the message names file and dataset.
    """
    units: dict[str, str] = {}
    datasets: dict[str, tuple[Any, int]] = {}
    for dataset_name in sorted(str(name) for name in file):
        if not dataset_name.startswith(PREFIX) or dataset_name == "incident_energies":
            continue
        try:
            columns = _columns(path, file, dataset_name, rows)
        except HDF5_ERRORS as error:
            raise damaged(path, f"{dataset_name} cannot be read", error) from error
        for name, (dataset, column, unit) in columns.items():
            if name in units:
                raise DataError(
                    f"{path}, {dataset_name}: condition {name} is in another dataset already",
                    hint="remove one of the two",
                )
            units[name], datasets[name] = unit, (dataset, column)
    return ConditionColumns(path, units, datasets)


class ConditionWriter:
    """Appends conditions to an HDF5 file that is being written: float64, directions as one dataset.

    Args:
        file: The open file.
        names: The conditions.
        units: Unit by name.
    """

    def __init__(self, file: Any, names: list[str], units: Mapping[str, str]) -> None:
        whole = set(DIRECTION) <= set(names)
        single = [name for name in names if not (whole and name in DIRECTION)]
        self._parts: list[tuple[str, tuple[str, ...]]] = [(PREFIX + name, (name,)) for name in single]
        self._parts += [(DIRECTIONS, DIRECTION)] if whole else []
        self._names = set(names)
        self._sets = {}
        for dataset_name, columns in self._parts:
            dataset = file.create_dataset(
                dataset_name,
                shape=(0, len(columns)),
                maxshape=(None, len(columns)),
                chunks=(CHUNK_ROWS, len(columns)),
                dtype="<f8",
                compression="gzip",
                compression_opts=1,
            )
            dataset.attrs["unit"] = units.get(columns[0], default_unit(columns[0]))
            self._sets[dataset_name] = dataset

    def append(self, conditions: Mapping[str, np.ndarray]) -> None:
        """Add the values (n,) of every condition.

        Raises:
            DataError: Other conditions than the first showers had.
        """
        if set(conditions) != self._names:
            found, expected = ", ".join(conditions) or "none", ", ".join(sorted(self._names)) or "none"
            raise DataError(f"showers with conditions {found}, the first ones had {expected}")
        for dataset_name, columns in self._parts:
            dataset = self._sets[dataset_name]
            before = len(dataset)
            values = np.stack([conditions[name] for name in columns], axis=1)
            dataset.resize(before + len(values), axis=0)
            dataset[before:] = values


def _columns(path: Path, file: Any, name: str, rows: int) -> dict[str, tuple[Any, int, str]]:
    """Dataset, column and unit of every condition in one dataset; empty if it holds none."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise DataError(
            f"{path}, {name}: is a link to other data, which is refused", hint="copy the data into the file"
        )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        if name == DIRECTIONS:
            raise DataError(f"{path}, {name}: expected a dataset of (N, 3) numbers")
        return {}
    require_inside(path, name, dataset)
    if name == DIRECTIONS:
        if dataset.shape != (rows, 3):
            raise DataError(
                f"{path}, {name}: shape {dataset.shape}, expected ({rows}, 3)",
                hint="one unit vector (x, y, z) per shower",
            )
        return {part: (dataset, column, "1") for column, part in enumerate(DIRECTION)}
    return _scalar(path, name, dataset, rows)


def _scalar(path: Path, name: str, dataset: Any, rows: int) -> dict[str, tuple[Any, int, str]]:
    if dataset.ndim == 0 or dataset.ndim > 2 or dataset.shape[1:] not in {(), (1,)}:
        return {}
    if len(dataset) != rows:
        raise DataError(
            f"{path}, {name}: {len(dataset)} rows, expected {rows}",
            hint="one number per shower; rename the dataset if it is no property of the particle",
        )
    short = name.removeprefix(PREFIX)
    if NAME.fullmatch(short) is None:
        raise DataError(
            f"{path}, {name}: {short!r} cannot be the name of a condition",
            hint="use small letters, digits and _ after incident_, at most 40",
        )
    unit = str(plain_value(dataset.attrs.get("unit", "")))[:MAX_UNIT] or default_unit(short)
    return {short: (dataset, 0, unit)}
