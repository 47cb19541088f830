"""Lists of particles: incident energies with directions and further scalars, one particle per row."""

from __future__ import annotations

__all__ = ["Particles", "read_particles"]

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caloray.errors import DataError
from caloray.io.challenge_checks import open_hdf5
from caloray.io.challenge_conditions import find_conditions
from caloray.io.energies import HDF5, read_energies

ENERGY = "energy"


@dataclass(frozen=True)
class Particles:
    """What a list holds.

    Args:
        energies: (rows,) float64 incident energies [MeV].
        conditions: (rows,) float64 of each further scalar, by name.
    """

    energies: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_particles(path: Path, dataset: str = "incident_energies") -> Particles:
    """Read a list of particles.

    An HDF5 file gives energies and every condition that :mod:`caloray.io.challenge_conditions` finds, a text
    file with a header line that starts with ``energy`` the columns that the header names, separated by commas
    or blanks. Any other file holds energies alone (:func:`caloray.io.energies.read_energies`).

    Raises:
        DataError: The file cannot be read, or a column has another length.
    """
    if path.suffix.lower() in HDF5:
        energies = read_energies(path, dataset)
        with open_hdf5(path) as file:
            found = find_conditions(path, file, len(energies)).read(0, len(energies))
        return Particles(energies, found)
    if path.suffix.lower() != ".npy" and path.is_file():
        names = _header(path)
        if names:
            return _table(path, names)
    return Particles(read_energies(path, dataset))


def _header(path: Path) -> list[str]:
    """Names of the columns of a text file that says them; empty for another file."""
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                words = _words(line)
                if words:
                    return words if words[0] == ENERGY else []
    except (OSError, UnicodeDecodeError):
        return []  # the reader of plain energies says what is wrong
    return []


def _table(path: Path, names: list[str]) -> Particles:
    if len(set(names)) < len(names):
        raise DataError(f"{path}: a column is named twice in {', '.join(names)}")
    rows, header = [], False
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            words = _words(line)
            if not words:
                continue
            if not header:
                header = True
                continue
            rows.append(_numbers(path, number, words, len(names)))
    if not rows:
        raise DataError(f"{path}: a header and no particle", hint="write one particle per line")
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    return Particles(table[:, 0], dict(zip(names[1:], table[:, 1:].T, strict=True)))


def _numbers(path: Path, line: int, words: list[str], count: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count:
        raise DataError(
            f"{path}: line {line} is not {count} numbers: {' '.join(words)[:60]!r}",
            hint="write one particle per line, its columns as the header names them",
        )
    return values


def _words(line: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", line.partition("#")[0].strip()) if word]
