"""Conditions of a model besides the incident energy: their names, units and ranges, and the checks of values.

A condition is one number per particle with a name and a unit. The direction is the unit vector
``direction_x``, ``direction_y``, ``direction_z`` along the particle's momentum, z pointing into the
calorimeter.
"""

from __future__ import annotations

__all__ = [
    "DIRECTION",
    "ConditionRange",
    "columns_of",
    "condition_table",
    "inside_ranges",
    "ranges_of",
    "require_inside",
    "require_names",
    "require_rows",
    "require_unit_length",
]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caloray.errors import ConfigError, DataError
from caloray.showers import DIRECTION, LENGTH_SLACK, default_unit

EDGE = 1e-6
"""Slack at the edges of a trained range, relative to its larger end: float32 does not hold 0.1 exactly."""
MARGIN = 0.01
"""More slack, relative to its width: the outermost of the training particles stand a little inside."""
ROUNDS = 500
"""How often a direction is drawn again, and how often one is projected."""
STARTS = 64
"""Points from which the last resort sets out."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class ConditionRange:
    """One condition and where it lay in the training split.

    Args:
        name: Its name, as in the data set ``incident_<name>``; or a component of the direction.
        unit: Its unit; "" where the data do not say, "1" for a pure number.
        low: Smallest value.
        high: Largest value.
    """

    name: str
    unit: str
    low: float
    high: float

    def outside(self, values: np.ndarray) -> np.ndarray:
        """(n,) which values lie outside the range by more than 1 % of its width, or are no numbers."""
        slack = EDGE * max(abs(self.low), abs(self.high)) + MARGIN * (self.high - self.low)
        return np.asarray(~((values >= self.low - slack) & (values <= self.high + slack)))

    def merge(self, other: ConditionRange) -> ConditionRange:
        """Range of both.

        Raises:
            DataError: They are not the same quantity.
        """
        if (self.name, self.unit) != (other.name, other.unit):
            raise DataError(
                f"condition {self.name} [{self.unit}] in one shard, {other.name} [{other.unit}] in another",
                hint="ingest files with the same conditions only",
            )
        return ConditionRange(self.name, self.unit, min(self.low, other.low), max(self.high, other.high))


def ranges_of(columns: Mapping[str, np.ndarray], units: Mapping[str, str]) -> tuple[ConditionRange, ...]:
    """Range of each condition, in the given order.

    Args:
        columns: (N,) values by name, N >= 1.
        units: Unit by name; :func:`caloray.showers.default_unit` where it is missing.
    """
    return tuple(
        ConditionRange(name, units.get(name, default_unit(name)), float(values.min()), float(values.max()))
        for name, values in columns.items()
    )


def inside_ranges(ranges: Sequence[ConditionRange], draws: np.random.Generator, count: int) -> np.ndarray:
    """(count, P) float64 conditions inside the trained ranges; a whole direction comes as a unit vector.

    The direction is drawn uniform in z and in azimuth until it lies inside the ranges; where they leave so
    little room that this would not end, it is the unit vector in them next to such a draw.

    Raises:
        ConfigError: There is no unit vector (within 1e-3) in the ranges of the direction.
    """
    low, high = (np.array([getattr(item, end) for item in ranges]) for end in ("low", "high"))
    drawn = low + draws.random((count, len(ranges))) * (high - low)
    names = [item.name for item in ranges]
    if set(DIRECTION) <= set(names):
        at = [names.index(name) for name in DIRECTION]
        drawn[:, at] = _directions(low[at], high[at], drawn[:, at[2]], draws)
    return np.asarray(np.clip(drawn, low, high))


def _directions(low: np.ndarray, high: np.ndarray, z: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """(n, 3) unit vectors between ``low`` (3,) and ``high`` (3,), first tried at ``z`` (n,)."""
    found = _around(z, draws)
    for _ in range(ROUNDS):
        outside = np.flatnonzero(((found < low - ROUNDING) | (found > high + ROUNDING)).any(axis=1))
        if not outside.size:
            return found
        found[outside] = _around(low[2] + draws.random(len(outside)) * (high[2] - low[2]), draws)
    near = _nearest(_around(low[2] + draws.random(STARTS) * (high[2] - low[2]), draws), low, high)
    outside = np.flatnonzero(((found < low - ROUNDING) | (found > high + ROUNDING)).any(axis=1))
    found[outside] = near[np.arange(len(outside)) % len(near)]
    return found


def _around(z: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """(n, 3) unit vectors of given z (n,) and any azimuth."""
    sine = np.sqrt(np.clip(1 - z**2, 0, None))
    azimuth = 2 * np.pi * draws.random(len(z))
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), z], axis=1)


def _nearest(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(k, 3) unit vectors in the box, from points (n, 3) outside it; alternating projections."""
    for _ in range(ROUNDS):
        points = np.clip(points, low, high)
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), ROUNDING)
    points = np.clip(points, low, high)
    found: np.ndarray = points[np.abs(np.linalg.norm(points, axis=1) - 1) <= LENGTH_SLACK]
    if not len(found):
        box = ", ".join(f"{a:g} to {b:g}" for a, b in zip(low, high, strict=True))
        raise ConfigError(
            f"no direction of length 1 has its x, y and z in the trained ranges {box}",
            hint="the statistics are damaged; train again, or take the directions from a particle list",
        )
    return found


def condition_table(
    ranges: Sequence[ConditionRange],
    columns: Mapping[str, Sequence[float] | np.ndarray],
    count: int,
    *,
    allow_extrapolation: bool = False,
) -> np.ndarray | None:
    """The conditions of a request as one array, checked against the model.

    Args:
        ranges: Conditions of the model.
        columns: Values by name, one for each shower.
        count: Number of showers.
        allow_extrapolation: Take values outside the trained ranges.

    Returns:
        (count, P) float64 in the model's order; None for a model without conditions.

    Raises:
        ConfigError: A condition too many or too few, of another length, not finite, or outside its range,
            or directions that are not of length 1.
    """
    require_names([item.name for item in ranges], columns)
    if not ranges:
        return None
    parts = [np.asarray(columns[item.name], dtype=np.float64).reshape(-1) for item in ranges]
    for item, values in zip(ranges, parts, strict=True):
        if len(values) != count:
            raise ConfigError(f"condition {item.name}: {len(values)} values for {count} showers")
        require_inside(item, values, allow_extrapolation=allow_extrapolation)
    require_unit_length(dict(zip((item.name for item in ranges), parts, strict=True)))
    return np.stack(parts, axis=1)


def columns_of(names: Sequence[str], table: np.ndarray | None) -> dict[str, np.ndarray]:
    """Columns (n,) by name of a table (n, P); empty for None."""
    return {} if table is None else dict(zip(names, table.T, strict=True))


def require_rows(names: Sequence[str], table: np.ndarray | None, count: int) -> None:
    """Refuse a table of conditions that is not (count, P) for a model with P conditions.

    Raises:
        ConfigError: Another shape, or none.
    """
    if table is None or table.shape != (count, len(names)):
        found = "none" if table is None else f"an array of shape {table.shape}"
        raise ConfigError(
            f"conditions: {found}; the model has {', '.join(names) or 'none'}, so "
            f"{(count, len(names))} is expected",
            hint="`caloray model inspect` tells a model's conditions and their ranges",
        )


def require_names(needed: Sequence[str], given: Iterable[str]) -> None:
    """Refuse conditions that a model does not have, and a request that leaves one out.

    Raises:
        ConfigError: Names differ; the message says how to give them.
    """
    given = list(given)
    unknown = [name for name in given if name not in needed]
    if unknown:
        raise ConfigError(
            f"the model has no condition {', '.join(unknown)}; it has {', '.join(needed) or 'none'}",
            hint="leave it out" if not needed else "see `caloray model inspect` for names, units and ranges",
        )
    missing = [name for name in needed if name not in given]
    if missing:
        raise ConfigError(
            f"the model needs a value of {', '.join(missing)} for every shower",
            hint="give --theta and --phi, --condition NAME=VALUE, or a particle list that holds them"
            if set(missing) & set(DIRECTION)
            else "give --condition NAME=VALUE or NAME=LOW:HIGH, or a particle list that holds them",
        )


def require_unit_length(columns: Mapping[str, np.ndarray]) -> None:
    """Refuse directions (n,) of another length than 1 within 1e-3, where all three components are there.

    Raises:
        ConfigError: Naming the first row.
    """
    if not set(DIRECTION) <= set(columns):
        return
    length = np.sqrt(sum(np.asarray(columns[name], dtype=np.float64) ** 2 for name in DIRECTION))
    bad = np.flatnonzero(~(np.abs(length - 1) <= LENGTH_SLACK))
    if bad.size:
        raise ConfigError(
            f"direction in row {bad[0]} has length {length[bad[0]]:g}, expected 1",
            hint="give unit vectors (direction_x, direction_y, direction_z)",
        )


def require_inside(item: ConditionRange, values: np.ndarray, *, allow_extrapolation: bool) -> None:
    """Refuse values (n,) that are not finite, or outside the trained range by more than 1 % of its width.

    Raises:
        ConfigError: Naming condition, value and range.
    """
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ConfigError(f"condition {item.name}: {values[bad[0]]} in row {bad[0]} is not a finite number")
    outside = item.outside(values)
    if outside.any() and not allow_extrapolation:
        unit = "" if item.unit in {"", "1"} else f" {item.unit}"
        raise ConfigError(
            f"condition {item.name}: {values[outside][0]:g}{unit} is outside the trained range "
            f"{item.low:g} to {item.high:g}",
            hint="choose values inside the range (`caloray model inspect`), or pass --allow-extrapolation",
        )
