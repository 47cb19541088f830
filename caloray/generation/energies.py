"""Incident energies of a request: drawn from a spectrum, listed, or read from a file.

Drawn energies come from the stream (seed, "incident-energy", "draw", block), always a whole block at a
time, so that event i has the same energy whatever the number of events, shards or workers.
"""

from __future__ import annotations

__all__ = [
    "EnergySpec",
    "EnergyStream",
    "FromFile",
    "FromTable",
    "Listed",
    "LogUniform",
    "Uniform",
    "check_range",
    "parse_energies",
    "resolve",
]

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from caloray.errors import ConfigError, DataError
from caloray.io.particle_table import PARTICLES
from caloray.io.particles import read_particles
from caloray.preprocess.energy_range import EDGE
from caloray.rng import StreamKey

STREAM = ("incident-energy", "draw")

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Spectrum(BaseModel):
    model_config = _FROZEN

    min: float = Field(gt=0, description="Lowest energy [MeV].")
    max: float = Field(gt=0, description="Highest energy [MeV].")

    @model_validator(mode="after")
    def _ordered(self) -> _Spectrum:
        if self.max < self.min:
            raise ValueError(f"max ({self.max:g} MeV) is below min ({self.min:g} MeV)")
        return self


class LogUniform(_Spectrum):
    """Energies uniform in the logarithm between ``min`` and ``max`` [MeV], as in CaloChallenge dataset 2."""

    kind: Literal["log-uniform"] = "log-uniform"


class Uniform(_Spectrum):
    """Energies uniform between ``min`` and ``max`` [MeV]."""

    kind: Literal["uniform"] = "uniform"


class Listed(BaseModel):
    """Event i gets ``values[i]`` [MeV]; with ``repeat`` the list starts again at its end."""

    model_config = _FROZEN

    kind: Literal["listed"] = "listed"
    values: tuple[float, ...] = Field(min_length=1, description="Energies [MeV].")
    repeat: bool = False


class FromFile(BaseModel):
    """Event i gets row i of a CaloChallenge HDF5, ``.npy`` or text file (one number [MeV] per row).

    ``rows`` and ``content`` (sha256 over the energies) are filled in when a plan is made.
    """

    model_config = _FROZEN

    kind: Literal["file"] = "file"
    path: Path
    dataset: str = "incident_energies"
    repeat: bool = False
    rows: int | None = None
    content: str | None = None


class FromTable(BaseModel):
    """Event i gets row i of a campaign's particle list: its energy and what else is said about it.

    The list lies in the directory that is generated into, and was checked when it was made
    (:mod:`caloray.generation.particle_lists`); :class:`caloray.generation.particles.ParticleStream` reads it.

    Args:
        path: Relative to that directory.
        rows: Particles in it.
        content: sha256 over their values, which decides what is generated.
        sha256: Of the file, whose bytes depend on the version of the Parquet library; "" where none was
            written.
        conditions: The columns that are conditions.
    """

    model_config = _FROZEN

    kind: Literal["table"] = "table"
    path: str = PARTICLES
    rows: int = Field(ge=1)
    content: str
    sha256: str = ""
    conditions: tuple[str, ...] = ()


EnergySpec = Annotated[LogUniform | Uniform | Listed | FromFile | FromTable, Field(discriminator="kind")]
"""Where incident energies come from; a union over ``kind``."""


class EnergyStream:
    """The incident energies of one request, block by block.

    Args:
        spec: Where they come from.
        seed: The request's seed.
        block_size: Events per block.

    Raises:
        ConfigError: A campaign's list, which :class:`caloray.generation.particles.ParticleStream` reads.
        DataError: The file cannot be read, or no longer holds what the plan was made with.
    """

    def __init__(self, spec: EnergySpec, seed: int, block_size: int) -> None:
        if isinstance(spec, FromTable):
            raise ConfigError("energies of a campaign's particle list are read by its particle stream")
        self._spec = spec
        self._key = StreamKey(seed, *STREAM)
        self._size = block_size
        self._table = _table(spec)

    @property
    def table(self) -> np.ndarray | None:
        """The listed or read energies (rows,) float64 [MeV]; None for a spectrum."""
        return self._table

    def block(self, block: int) -> np.ndarray:
        """Energies of one block, (block_size,) float64 [MeV]; fewer only where a table ends."""
        if self._table is None:
            return self._draw(self._key.at(block).generator().random(self._size))
        rows = np.arange(block * self._size, (block + 1) * self._size)
        if isinstance(self._spec, Listed | FromFile) and self._spec.repeat:
            rows %= len(self._table)
        return np.asarray(self._table[rows[rows < len(self._table)]])

    def _draw(self, uniform: np.ndarray) -> np.ndarray:
        match self._spec:
            case LogUniform(min=low, max=high):
                drawn = np.exp(np.log(low) + uniform * np.log(high / low))
                return np.asarray(np.clip(drawn, low, high))
            case Uniform(min=low, max=high):
                return np.asarray(low + uniform * (high - low))
            case _:
                raise ConfigError(f"energies of kind {self._spec.kind!r} are not drawn")


def resolve(spec: EnergySpec) -> EnergySpec:
    """Fill in what identifies a file's energies: their number and the sha256 of their values."""
    if not isinstance(spec, FromFile):
        return spec
    values = read_particles(spec.path, spec.dataset).energies
    return spec.model_copy(update={"rows": len(values), "content": _content(values)})


def check_range(
    spec: EnergySpec, trained: tuple[float, float], *, allow_extrapolation: bool
) -> tuple[float, float]:
    """Lowest and highest energy of a request [MeV], checked before anything is generated.

    A campaign's own list was checked when it was made: for it the trained range is returned.

    Raises:
        DataError: NaN, infinite, zero or negative energies.
        ConfigError: Energies outside ``trained`` [MeV], unless ``allow_extrapolation``.
    """
    table = _table(spec)
    if table is not None:
        _refuse_unphysical(table, spec)
        low, high = float(table.min()), float(table.max())
    elif isinstance(spec, LogUniform | Uniform):
        low, high = spec.min, spec.max
    else:
        return trained  # a campaign's list has been checked
    if not allow_extrapolation and (low < trained[0] * (1 - EDGE) or high > trained[1] * (1 + EDGE)):
        raise ConfigError(
            f"incident energies from {low:g} to {high:g} MeV, but the model was trained from "
            f"{trained[0]:g} to {trained[1]:g} MeV",
            hint="stay inside the trained range (energies are in MeV), or pass --allow-extrapolation",
            low=low,
            high=high,
        )
    return low, high


def parse_energies(text: str, *, repeat: bool = False) -> EnergySpec:
    """Read ``log-uniform:MIN:MAX``, ``uniform:MIN:MAX``, ``E1,E2,...`` [MeV] or the path of a file.

    One single energy counts for every event.

    Raises:
        ConfigError: None of these, or numbers that make no spectrum.
    """
    kind, _, bounds = text.partition(":")
    try:
        if kind in {"log-uniform", "uniform"}:
            low, high = (float(word) for word in bounds.split(":"))
            return LogUniform(min=low, max=high) if kind == "log-uniform" else Uniform(min=low, max=high)
        if Path(text).is_file():
            return FromFile(path=Path(text), repeat=repeat)
        values = tuple(float(word) for word in text.split(","))
        return Listed(values=values, repeat=repeat or len(values) == 1)
    except ValidationError as error:
        reason = error.errors()[0]
        where = ".".join(str(part) for part in reason["loc"])
        raise ConfigError(
            f"energies {text!r}: {where + ': ' if where else ''}{reason['msg']}",
            hint="energies are in MeV, above zero, the lower one first",
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"energies {text!r}: neither a spectrum, nor numbers, nor a file that exists",
            hint="write log-uniform:1e3:5e4, uniform:1e3:5e4, 1000,2000,5000 or a file's path",
        ) from error


def _table(spec: EnergySpec) -> np.ndarray | None:
    match spec:
        case Listed():
            return np.array(spec.values, dtype=np.float64)
        case FromFile():
            values = read_particles(spec.path, spec.dataset).energies
            if spec.content is not None and spec.content != _content(values):
                raise DataError(
                    f"{spec.path}: its energies have changed since the plan was made "
                    f"({_content(values)[:12]}, planned {spec.content[:12]})",
                    hint="put the file back, or generate into another directory",
                )
            return values
        case _:
            return None


def _content(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f8").tobytes()).hexdigest()


def _refuse_unphysical(table: np.ndarray, spec: EnergySpec) -> None:
    bad = np.flatnonzero(~(np.isfinite(table) & (table > 0)))
    if bad.size:
        where = f"{spec.path}: " if isinstance(spec, FromFile) else ""
        raise DataError(
            f"{where}{bad.size} incident energies are not positive numbers, first in row {bad[0]} "
            f"({table[bad[0]]})",
            hint="give energies in MeV, one above zero for every event",
            rows=[int(row) for row in bad[:10]],
        )
