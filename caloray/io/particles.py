"""Lists of particles, read whole: incident energies with directions and further scalars, one per row."""

from __future__ import annotations

__all__ = ["Particles", "read_particles"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from caloray.errors import DataError
from caloray.io.challenge_checks import open_hdf5
from caloray.io.challenge_conditions import find_conditions
from caloray.io.column_files import open_columns
from caloray.io.energies import HDF5, read_energies
from caloray.io.given_file import require_file
from caloray.io.particle_record import ENERGY
from caloray.io.text_columns import text_layout

PARQUET = ".parquet"


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

    An HDF5 file gives energies and every condition that :mod:`caloray.io.challenge_conditions` finds, a
    Parquet file its columns of numbers, a text file with a header line that names ``energy`` the columns of
    that header, separated by commas or blanks. Any other file holds energies alone
    (:func:`caloray.io.energies.read_energies`).

    Raises:
        DataError: The file cannot be read, or a column has another length.
    """
    require_file(path, "file of incident energies")
    suffix = path.suffix.lower()
    if suffix in HDF5:
        energies = read_energies(path, dataset)
        with open_hdf5(path) as file:
            found = find_conditions(path, file, len(energies)).read(0, len(energies))
        return Particles(energies, found)
    if suffix == PARQUET or (suffix != ".npy" and text_layout(path).names):
        return _table(path)
    return Particles(read_energies(path, dataset))


def _table(path: Path) -> Particles:
    file = open_columns(path)
    parts = list(file.read(file.names))
    if not parts:
        raise DataError(f"{path}: columns and no particle", hint="give one particle per row")
    columns = {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in file.names}
    return Particles(columns.pop(ENERGY), columns)
