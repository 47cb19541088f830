"""Conditions of a request: drawn, listed, or read from the file of particles that holds its energies.

Drawn conditions come from streams of their own, always a whole block at a time, so that event i has the
same ones whatever the number of events, shards or workers.
"""

from __future__ import annotations

__all__ = [
    "Angles",
    "ConditionSpec",
    "ConditionStream",
    "FromParticles",
    "ListedCondition",
    "UniformCondition",
    "check_conditions",
    "resolve_conditions",
    "unused_conditions",
]

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from caloray.errors import ConfigError, DataError
from caloray.generation.energies import EnergySpec, FromFile, FromTable
from caloray.io.particles import read_particles
from caloray.preprocess.condition_range import (
    ConditionRange,
    require_inside,
    require_names,
    require_unit_length,
)
from caloray.rng import StreamKey
from caloray.showers import DIRECTION

CHECKED = 1_000_000
"""Directions that are checked before anything is generated."""

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class UniformCondition(BaseModel):
    """Values uniform between ``min`` and ``max``, in the unit that the bundle records; equal: one value."""

    model_config = _FROZEN

    kind: Literal["uniform"] = "uniform"
    name: str
    min: float
    max: float

    @model_validator(mode="after")
    def _ordered(self) -> UniformCondition:
        if self.max < self.min:
            raise ValueError(f"{self.name}: {self.max:g} is below {self.min:g}")
        return self


class ListedCondition(BaseModel):
    """Event i gets ``values[i]``; with ``repeat`` the list starts again at its end."""

    model_config = _FROZEN

    kind: Literal["listed"] = "listed"
    name: str
    values: tuple[float, ...] = Field(min_length=1)
    repeat: bool = False


class Angles(BaseModel):
    """Directions with polar angle uniform in ``theta`` and azimuth uniform in ``phi``.

    Both in degrees, as they were asked for, so that a request can be spelled again exactly. The direction is
    (sin theta cos phi, sin theta sin phi, cos theta).
    """

    model_config = _FROZEN

    kind: Literal["angles"] = "angles"
    theta: tuple[float, float]
    phi: tuple[float, float] = (0.0, 360.0)

    @model_validator(mode="after")
    def _ordered(self) -> Angles:
        if not 0 <= self.theta[0] <= self.theta[1] <= 180:
            low, high = self.theta
            raise ValueError(
                f"theta {low:g} to {high:g} degrees, expected two angles from 0 to 180, the lower one first"
            )
        if not 0 <= self.phi[1] - self.phi[0] <= 360:
            raise ValueError(f"phi {self.phi[0]:g} to {self.phi[1]:g} degrees, the lower one first")
        return self


class FromParticles(BaseModel):
    """Event i gets row i of the file that holds its energy.

    ``rows`` and ``content`` (sha256 over the values) are filled in when a plan is made.
    """

    model_config = _FROZEN

    kind: Literal["file"] = "file"
    path: Path
    names: tuple[str, ...]
    dataset: str = "incident_energies"
    repeat: bool = False
    rows: int | None = None
    content: str | None = None


_AnyCondition = UniformCondition | ListedCondition | Angles | FromParticles
ConditionSpec = Annotated[_AnyCondition, Field(discriminator="kind")]
"""Where one condition, or the direction, or all that a file holds come from; a union over ``kind``."""


class ConditionStream:
    """The conditions of one request, block by block.

    Args:
        specs: Where they come from.
        names: The model's conditions, in its order.
        seed: The request's seed.
        block_size: Events per block.

    Raises:
        DataError: A file cannot be read, or no longer holds what the plan was made with.
    """

    # Plans made by hand, or by a version that looked less closely, are checked block by block.

    def __init__(
        self, specs: Sequence[_AnyCondition], names: Sequence[str], seed: int, block_size: int
    ) -> None:
        self._specs = tuple(specs)
        self._names = tuple(names)
        self._seed = seed
        self._size = block_size
        self._tables = [_table(spec) for spec in self._specs]

    def block(self, block: int, count: int) -> np.ndarray | None:
        """Conditions (count, P) float64 of the first ``count`` events of a block; None for no conditions.

        Raises:
            ConfigError: Directions that are not of length 1.
        """
        if not self._names:
            return None
        found: dict[str, np.ndarray] = {}
        for spec, table in zip(self._specs, self._tables, strict=True):
            found |= self._drawn(spec, block) if table is None else self._listed(spec, table, block)
        columns = {name: found[name][:count] for name in self._names}
        require_unit_length(columns)
        return np.stack(list(columns.values()), axis=1)

    def _drawn(self, spec: _AnyCondition, block: int) -> dict[str, np.ndarray]:
        match spec:
            case UniformCondition(name=name, min=low, max=high):
                key = StreamKey(self._seed, f"condition/{name}", "draw", block)
                return {name: low + key.generator().random(self._size) * (high - low)}
            case Angles(theta=theta, phi=phi):
                key = StreamKey(self._seed, "condition/direction", "draw", block)
                uniform = key.generator().random((self._size, 2))
                return _direction(
                    np.deg2rad(theta[0] + uniform[:, 0] * (theta[1] - theta[0])),
                    np.deg2rad(phi[0] + uniform[:, 1] * (phi[1] - phi[0])),
                )
            case _:
                raise ConfigError(f"conditions of kind {spec.kind!r} are not drawn")

    def _listed(
        self, spec: _AnyCondition, table: Mapping[str, np.ndarray], block: int
    ) -> dict[str, np.ndarray]:
        rows = np.arange(block * self._size, (block + 1) * self._size)
        length = len(next(iter(table.values())))
        if getattr(spec, "repeat", False):
            rows %= length
        return {name: values[rows[rows < length]] for name, values in table.items()}


def resolve_conditions(
    specs: Iterable[_AnyCondition], energies: EnergySpec, needed: Sequence[str]
) -> tuple[_AnyCondition, ...]:
    """The conditions of a request: those given, and from the file of its energies what is still needed.

    Args:
        specs: What was given.
        energies: Where the energies come from.
        needed: Names of the model's conditions.

    Raises:
        ConfigError: A condition that the model does not have, one given twice, or one that is missing.
        DataError: The file cannot be read.
    """
    given = list(specs)
    named = [name for spec in given for name in _names(spec, needed)]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ConfigError(f"condition {', '.join(twice)} is given twice", hint="give each once")
    missing = [name for name in needed if name not in named]
    if isinstance(energies, FromFile) and missing:
        held = read_particles(energies.path, energies.dataset).conditions
        taken = tuple(name for name in missing if name in held)
        if taken:
            given.append(
                FromParticles(
                    path=energies.path, dataset=energies.dataset, names=taken, repeat=energies.repeat
                )
            )
            named += taken
    if isinstance(energies, FromTable):
        if given:
            raise ConfigError("conditions besides a campaign's particle list", hint="put them into the list")
        named += energies.conditions
    require_names(needed, named)
    return tuple(_resolved(spec) for spec in given)


def unused_conditions(specs: Sequence[_AnyCondition], energies: EnergySpec) -> tuple[str, ...]:
    """Conditions in the file of energies that a request makes no use of."""
    if not isinstance(energies, FromFile):
        return ()
    taken = {name for spec in specs if isinstance(spec, FromParticles) for name in spec.names}
    held = read_particles(energies.path, energies.dataset).conditions
    return tuple(name for name in held if name not in taken)


def check_conditions(
    specs: Sequence[_AnyCondition],
    ranges: Sequence[ConditionRange],
    events: int,
    *,
    allow_extrapolation: bool,
) -> None:
    """Refuse, before anything is generated, conditions that do not fit the model or the request.

    Those that no spec gives stand in a campaign's particle list, which was checked when it was made.

    Args:
        specs: Resolved conditions.
        ranges: Conditions of the model.
        events: Events of the request.
        allow_extrapolation: Permit values outside the trained ranges.

    Raises:
        ConfigError: Too few values, values that are not finite or outside the trained range (by more than
            :data:`caloray.preprocess.condition_range.MARGIN` of its width), directions that are not of
            length 1, or components of a whole direction drawn one by one.
    """
    extremes: dict[str, np.ndarray] = {}
    listed: dict[str, np.ndarray] = {}
    for spec in specs:
        table = _table(spec)
        if table is None:
            extremes |= _extremes(spec)
            continue
        rows = len(next(iter(table.values())))
        if rows < events and not getattr(spec, "repeat", False):
            raise ConfigError(
                f"conditions {', '.join(table)}: {rows} values for {events} showers",
                hint="give as many as showers, or pass --repeat-energies",
            )
        listed |= table
    known = listed | extremes
    for item in ranges:
        if item.name in known:
            require_inside(item, known[item.name], allow_extrapolation=allow_extrapolation)
    if not specs:
        return
    whole = set(DIRECTION) <= {item.name for item in ranges}
    if whole and not any(isinstance(spec, Angles) for spec in specs):
        _require_directions(listed, extremes, events)


def _require_directions(
    listed: Mapping[str, np.ndarray], extremes: Mapping[str, np.ndarray], events: int
) -> None:
    """Refuse components (all three are given) that do not make unit vectors; lists start again at their end.

    Where lists of different lengths give more than :data:`CHECKED` combinations, the others are checked when
    they are drawn.
    """
    drawn = [name for name in DIRECTION if name in extremes and extremes[name][0] < extremes[name][-1]]
    if drawn:
        raise ConfigError(
            f"{', '.join(drawn)} drawn on its own: the three components must make a vector of length 1",
            hint="give --theta and --phi, or all three components from a particle list",
        )
    columns = {name: extremes[name][:1] if name in extremes else listed[name] for name in DIRECTION}
    rows = np.arange(min(events, math.lcm(*(len(values) for values in columns.values())), CHECKED))
    require_unit_length({name: values[rows % len(values)] for name, values in columns.items()})


def _names(spec: _AnyCondition, needed: Sequence[str]) -> tuple[str, ...]:
    """What a spec gives; angles give those components of the direction that the model has."""
    match spec:
        case Angles():
            return tuple(name for name in DIRECTION if name in needed) or DIRECTION
        case FromParticles(names=names):
            return names
        case _:
            return (spec.name,)


def _resolved(spec: _AnyCondition) -> _AnyCondition:
    if not isinstance(spec, FromParticles):
        return spec
    table = _table(spec.model_copy(update={"content": None})) or {}
    return spec.model_copy(update={"rows": len(next(iter(table.values()))), "content": _content(table)})


def _table(spec: _AnyCondition) -> dict[str, np.ndarray] | None:
    match spec:
        case ListedCondition(name=name, values=values):
            return {name: np.array(values, dtype=np.float64)}
        case FromParticles(path=path, names=names):
            held = read_particles(path, spec.dataset).conditions
            missing = [name for name in names if name not in held]
            if missing:
                raise DataError(f"{path}: holds no {', '.join(missing)}", hint="put the file back")
            table = {name: held[name] for name in names}
            if spec.content is not None and spec.content != _content(table):
                raise DataError(
                    f"{path}: its conditions have changed since the plan was made",
                    hint="put the file back, or generate into another directory",
                )
            return table
        case _:
            return None


def _extremes(spec: _AnyCondition) -> dict[str, np.ndarray]:
    """Smallest and largest value of each condition that is drawn."""
    if isinstance(spec, UniformCondition):
        return {spec.name: np.array([spec.min, spec.max])}
    if not isinstance(spec, Angles):
        return {}
    theta = [*spec.theta, *([90.0] if spec.theta[0] < 90 < spec.theta[1] else [])]
    quarters = [90.0 * k for k in range(int(spec.phi[0] // 90), int(spec.phi[1] // 90) + 1)]
    phi = [*spec.phi, *(q for q in quarters if spec.phi[0] < q < spec.phi[1])]
    grid = np.meshgrid(np.deg2rad(theta), np.deg2rad(phi))
    found = _direction(grid[0].ravel(), grid[1].ravel())
    return {name: np.array([values.min(), values.max()]) for name, values in found.items()}


def _direction(theta: np.ndarray, phi: np.ndarray) -> dict[str, np.ndarray]:
    sine = np.sin(theta)
    return dict(zip(DIRECTION, (sine * np.cos(phi), sine * np.sin(phi), np.cos(theta)), strict=True))


def _content(table: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, values in sorted(table.items()):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return digest.hexdigest()
