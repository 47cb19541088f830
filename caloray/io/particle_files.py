"""Files of particles as rows of a particle list, piece by piece.

What a file does not say about a particle is filled in: the run that was asked for, as event the row in the
file, as particle its position among the kept rows of its event (whose rows stand together), as pdg 0.
"""

from __future__ import annotations

__all__ = ["FileColumns", "Numbering", "constant_conditions", "file_columns", "file_particles"]

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caloray.errors import DataError
from caloray.io.column_files import ColumnFile, open_columns
from caloray.io.hepmc import HEPMC, EnergyKind, is_hepmc, read_hepmc
from caloray.io.particle_record import ENERGY, IDENTITY, ParticleRows
from caloray.io.text_columns import Columns

WHOLE = 2**53
"""Whole numbers that a float holds exactly end here."""


@dataclass(frozen=True)
class FileColumns:
    """What a file can say about its particles.

    Args:
        conditions: Names of the scalars besides the energy.
        identity: Which of run, event, particle and pdg.
        rows: How many particles it holds, where that is known without reading them.
    """

    conditions: tuple[str, ...]
    identity: tuple[str, ...]
    rows: int | None = None


def file_columns(path: Path) -> FileColumns:
    """What a file says, without reading its rows.

    Raises:
        DataError: No such file, or none of particles.
    """
    if is_hepmc(path):
        return HEPMC_COLUMNS
    file = _opened(path)
    names = file.names
    return FileColumns(
        tuple(name for name in names if name != ENERGY and name not in IDENTITY),
        tuple(name for name in names if name in IDENTITY),
        file.rows,
    )


def _opened(path: Path) -> ColumnFile:
    """The file; one that says in other things than numbers which particle a row is would lose it."""
    file = open_columns(path)
    for name in IDENTITY:
        file.require(name)
    return file


HEPMC_COLUMNS = FileColumns(HEPMC, ("event", "particle", "pdg"))


def file_particles(
    path: Path,
    conditions: Sequence[str] = (),
    *,
    run: int = 1,
    pdg: Collection[int] | None = None,
    energy: EnergyKind = "kinetic",
) -> Iterator[ParticleRows]:
    """The particles of a file in its order.

    Args:
        path: Parquet, HDF5, ``.npy``, text (:mod:`caloray.io.column_files`) or HepMC3
            (:mod:`caloray.io.hepmc`).
        conditions: Names of the scalars that are wanted; the file must have them.
        run: Where the file says none.
        pdg: Keep only particles of these kinds; None: all.
        energy: What counts as the incident energy of HepMC3 particles.

    Raises:
        DataError: The file cannot be read, lacks a column, or holds a number that is not whole where one is
            needed.
    """
    if is_hepmc(path):
        yield from read_hepmc(path, conditions, run=run, pdg=pdg, energy=energy)
        return
    file = _opened(path)
    for name in conditions:
        file.require(name)
    missing = [name for name in conditions if name not in file.names]
    if pdg is not None and "pdg" not in file.names:
        missing.append("pdg")
    if missing:
        raise DataError(
            f"{path}: no column {', '.join(missing)}, it has {', '.join(file.names[:20])}",
            hint="add the column" + (", or leave pdg out" if "pdg" in missing else ""),
        )
    numbering, done = Numbering(), 0
    for columns in file.read([ENERGY, *conditions, *(name for name in IDENTITY if name in file.names)]):
        rows = len(columns[ENERGY])
        yield _rows(path, columns, done, run, pdg, numbering)
        done += rows


def _rows(
    path: Path,
    columns: Columns,
    first: int,
    run: int,
    pdg: Collection[int] | None,
    numbering: Numbering,
) -> ParticleRows:
    count = len(columns[ENERGY])
    identity: dict[str, np.ndarray] = {
        "run": np.full(count, run),
        "event": np.arange(first, first + count),
        "pdg": np.zeros(count, np.int32),
    }
    for name, kind in IDENTITY.items():
        if name in columns:
            identity[name] = _whole(path, name, columns[name], kind, first)
    held = {name: values for name, values in columns.items() if name not in IDENTITY}
    kept = np.ones(count, bool) if pdg is None else np.isin(identity["pdg"], list(pdg))
    chosen = {name: values[kept] for name, values in (held | identity).items()}
    if "particle" not in chosen:
        chosen["particle"] = numbering.next(chosen["run"], chosen["event"])
    return ParticleRows.of(chosen)


class Numbering:
    """Numbers the particles of each event from 0 on, over pieces that may cut an event."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None
        self._next = 0

    def next(self, run: np.ndarray, event: np.ndarray) -> np.ndarray:
        """(n,) numbers of the next particles, of which run and event are given."""
        count = len(run)
        if not count:
            return np.zeros(0, np.int32)
        new = np.ones(count, bool)
        new[1:] = (run[1:] != run[:-1]) | (event[1:] != event[:-1])
        position = np.arange(count)
        numbers = position - np.maximum.accumulate(np.where(new, position, 0))
        if self._last == (int(run[0]), int(event[0])):
            ends = np.flatnonzero(new[1:])
            numbers[: ends[0] + 1 if ends.size else count] += self._next
        self._last = int(run[-1]), int(event[-1])
        self._next = int(numbers[-1]) + 1
        return numbers


def _whole(path: Path, name: str, values: np.ndarray, kind: type[np.signedinteger], first: int) -> np.ndarray:
    """Values as whole numbers of ``kind``, refused where they are none."""
    limits = np.iinfo(kind)
    with np.errstate(invalid="ignore"):
        if values.dtype.kind == "f":
            good = (values == np.floor(values)) & (np.abs(values) <= min(WHOLE, limits.max))
        else:
            good = (values <= limits.max) & (values >= limits.min)
    bad = np.flatnonzero(~good)
    if bad.size:
        raise DataError(
            f"{path}: {name} is {values[bad[0]]} in row {first + bad[0]}, expected a whole number of "
            f"{limits.bits} bits",
            hint="repair the column, or leave it out",
        )
    return values.astype(kind)


def constant_conditions(rows: ParticleRows, values: Mapping[str, float]) -> ParticleRows:
    """The same particles with further scalars that all of them share."""
    shared = {name: np.full(len(rows), value) for name, value in values.items()}
    return ParticleRows.of(rows.columns() | shared)
