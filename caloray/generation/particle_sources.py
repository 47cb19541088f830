"""Where the particles of a campaign come from: a spectrum, a file, or a grid; a union over ``kind``."""

from __future__ import annotations

__all__ = [
    "Domain",
    "FileParticles",
    "GridParticles",
    "ParticleIdentity",
    "ParticleSpec",
    "SpectrumIdentity",
    "SpectrumParticles",
    "TableIdentity",
    "is_gone",
    "rows_ahead",
    "stream_particles",
]

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from caloray.errors import DataError
from caloray.generation.conditions import Angles, ListedCondition, UniformCondition
from caloray.generation.energies import Listed, LogUniform, Uniform
from caloray.io.column_files import CHUNK, TABLES
from caloray.io.hepmc import EnergyKind, is_hepmc
from caloray.io.particle_files import constant_conditions, file_columns, file_particles
from caloray.io.particle_record import ENERGY, ParticleRows
from caloray.showers import DIRECTION

Domain = Literal["error", "flag", "skip"]
"""What is done about particles outside the trained ranges: nothing starts, they are marked, or left out."""

Run = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
Pdg = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
MeV = Annotated[float, Field(gt=0)]
_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SpectrumParticles(BaseModel):
    """Particles that are drawn: energies from a spectrum (or listed), conditions from their ranges.

    Shower i belongs to event i of run ``run`` and is its particle 0.
    """

    model_config = _FROZEN

    kind: Literal["spectrum"] = "spectrum"
    n: int = Field(ge=1, lt=1 << 53, description="Number of particles.")
    energies: Annotated[LogUniform | Uniform | Listed, Field(discriminator="kind")] | None = Field(
        default=None, description="Log-uniform over the trained range where it is left out."
    )
    conditions: tuple[
        Annotated[UniformCondition | ListedCondition | Angles, Field(discriminator="kind")], ...
    ] = ()
    run: Run = 1
    pdg: Pdg | None = None


class FileParticles(BaseModel):
    """The particles of a file, in its order (see :mod:`caloray.io.particle_files`).

    The ending of the name says the format: Parquet, HDF5, ``.npy``, text, or HepMC3 ASCII.
    """

    model_config = _FROZEN

    kind: Literal["file"] = "file"
    path: Path
    n: int | None = Field(default=None, ge=1, description="Only the first n particles that are kept.")
    pdg: tuple[Pdg, ...] | None = Field(default=None, min_length=1, description="Keep only these kinds.")
    run: Run = Field(default=1, description="Run number, where the file says none.")
    energy: EnergyKind = Field(default="kinetic", description="What HepMC3 particles are taken to bring in.")
    conditions: Mapping[str, float] = Field(
        default_factory=dict, description="Conditions that all particles share."
    )

    @model_validator(mode="after")
    def _readable(self) -> FileParticles:
        if self.path.suffix.lower() not in TABLES and not is_hepmc(self.path):
            raise ValueError(
                f"{self.path}: unknown ending; {', '.join(TABLES)}, .hepmc and .hepmc3 (also .gz) are read"
            )
        return self


class GridParticles(BaseModel):
    """Every combination of energies, directions and conditions, ``repeat`` particles at each.

    The energy changes slowest, then theta, phi, the conditions as they are given, and the repetition fastest.
    Angles are in degrees; the direction is (sin theta cos phi, sin theta sin phi, cos theta). Shower i
    belongs to event i of run ``run`` and is its particle 0.
    """

    model_config = _FROZEN

    kind: Literal["grid"] = "grid"
    energies: tuple[MeV, ...] = Field(min_length=1, description="[MeV]")
    theta: tuple[Annotated[float, Field(ge=0, le=180)], ...] | None = Field(default=None, min_length=1)
    phi: tuple[float, ...] = Field(default=(0.0,), min_length=1)
    conditions: Mapping[str, Annotated[tuple[float, ...], Field(min_length=1)]] = Field(default_factory=dict)
    repeat: int = Field(default=1, ge=1)
    run: Run = 1
    pdg: Pdg | None = None

    @model_validator(mode="after")
    def _sensible(self) -> GridParticles:
        if self.theta is None and self.phi != (0.0,):
            raise ValueError("phi without theta")
        if self.theta is not None and set(DIRECTION) & set(self.conditions):
            raise ValueError("a direction by theta and by conditions")
        if self.rows >= 1 << 53:
            raise ValueError(f"{self.rows} particles, fewer than 2^53 can be numbered")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Values along each axis of the grid."""
        further = (len(values) for values in self.conditions.values())
        return len(self.energies), len(self.theta or (0,)), len(self.phi), *further, self.repeat

    @property
    def rows(self) -> int:
        """Particles of the grid."""
        return math.prod(self.shape)


ParticleSpec = Annotated[SpectrumParticles | FileParticles | GridParticles, Field(discriminator="kind")]
"""Where particles come from; a union over ``kind``."""


class SpectrumIdentity(BaseModel):
    """Of drawn particles: shower i is particle 0 of event i of ``run``; ``pdg`` 0 is unknown."""

    model_config = _FROZEN

    kind: Literal["spectrum"] = "spectrum"
    run: Run = 1
    pdg: Pdg = 0


class TableIdentity(BaseModel):
    """Of listed particles: run, event and particle stand in the list."""

    model_config = _FROZEN

    kind: Literal["table"] = "table"
    source: Literal["file", "grid"]


ParticleIdentity = Annotated[SpectrumIdentity | TableIdentity, Field(discriminator="kind")]
"""Where run, event, particle and pdg of a shower come from; a union over ``kind``."""


def is_gone(path: Path) -> bool:
    """Whether there is nothing at a path: neither a file nor anything that has to be complained of.

    Args:
        path: Of a list of particles.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def rows_ahead(spec: SpectrumParticles | FileParticles | GridParticles) -> int | None:
    """How many particles there will be, where that is known before any of them is read or made.

    Args:
        spec: Where they come from.

    Returns:
        The number; None where it takes reading: of text, HepMC3, chosen kinds, or a file that is gone.

    Raises:
        DataError: A file that cannot be read.
    """
    if isinstance(spec, SpectrumParticles):
        return spec.n
    if isinstance(spec, GridParticles):
        return spec.rows
    if spec.pdg is not None or is_gone(spec.path):
        return None
    rows = file_columns(spec.path).rows
    return rows if rows is None or spec.n is None else min(rows, spec.n)


def stream_particles(
    spec: FileParticles | GridParticles, conditions: Sequence[str]
) -> Iterator[ParticleRows]:
    """The particles of a file or grid in their order, piece by piece.

    Args:
        spec: Where they come from.
        conditions: Names of the conditions that are wanted, in order.

    Raises:
        DataError: The file cannot be read, or has fewer particles than asked for.
        ConfigError: A library is missing.
    """
    return _grid(spec, conditions) if isinstance(spec, GridParticles) else _file(spec, conditions)


def _file(spec: FileParticles, conditions: Sequence[str]) -> Iterator[ParticleRows]:
    shared = {name: spec.conditions[name] for name in conditions if name in spec.conditions}
    wanted = [name for name in conditions if name not in shared]
    done = 0
    for rows in file_particles(spec.path, wanted, run=spec.run, pdg=spec.pdg, energy=spec.energy):
        piece = rows if spec.n is None else rows.select(slice(0, spec.n - done))
        yield constant_conditions(piece, shared)
        done += len(piece)
        if done == spec.n:
            return
    if not done or (spec.n is not None and done < spec.n):
        chosen = "" if spec.pdg is None else f" of pdg {', '.join(map(str, spec.pdg))}"
        raise DataError(
            f"{spec.path}: {done or 'no'} particles{chosen}" + (f", {spec.n} wanted" if spec.n else ""),
            hint="leave n out to take all" if done else "check the file, or which kinds of particle are kept",
        )


def _grid(spec: GridParticles, conditions: Sequence[str]) -> Iterator[ParticleRows]:
    energies, theta, phi = (np.array(v or (0.0,), float) for v in (spec.energies, spec.theta, spec.phi))
    axes = [np.array(values, dtype=np.float64) for values in spec.conditions.values()]
    for start in range(0, spec.rows, CHUNK):
        rows = np.arange(start, min(start + CHUNK, spec.rows))
        e, t, p, *further, _ = np.unravel_index(rows, spec.shape)
        polar, around = np.deg2rad(theta[t]), np.deg2rad(phi[p])
        unit = np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)
        found = dict(zip(DIRECTION, unit, strict=True)) if spec.theta is not None else {}
        found |= {name: axis[at] for name, axis, at in zip(spec.conditions, axes, further, strict=True)}
        yield ParticleRows.of(
            {
                ENERGY: energies[e],
                **{name: found[name] for name in conditions},
                "run": np.full(len(rows), spec.run),
                "event": rows,
                "particle": np.zeros(len(rows)),
                "pdg": np.full(len(rows), spec.pdg or 0),
            }
        )
