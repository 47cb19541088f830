"""The scalars of a particle that quantities are profiled against, and what they may follow besides."""

from __future__ import annotations

__all__ = ["Scalar", "azimuth", "covariates", "scalars", "slopes"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from caloray.evaluation.conditions import CONDITION, has_direction
from caloray.evaluation.table import Table
from caloray.showers import DIRECTION

ROUNDING = 5  # digits of an angle in degrees; what float32 directions leave of zero is below
UPRIGHT = 0.1  # degrees; below, the azimuth of a direction is rounding


@dataclass(frozen=True)
class Scalar:
    """One number of the particle.

    Args:
        name: Its name.
        unit: Its unit, "" where it has none.
        values: (N,) in the order of the table.
        label: For a reader.
    """

    name: str
    unit: str
    values: np.ndarray
    label: str


def slopes(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(N,) and (N,): by how many mm per mm of depth the particle moves in x and in y."""
    x, y, z = (table.column(f"{CONDITION}{name}") for name in DIRECTION)
    forward = np.where(np.abs(z) > 1e-9, z, 1e-9)
    return x / forward, y / forward


def scalars(table: Table, units: Mapping[str, str]) -> list[Scalar]:
    """What the showers of a table can be profiled against; a direction gives its angle theta [deg].

    Args:
        table: Showers with conditions.
        units: Unit of each condition by name.
    """
    names = table.conditions
    found, rest = [], list(names)
    if has_direction(names):
        x, y, z = (table.column(f"{CONDITION}{name}") for name in DIRECTION)
        theta = np.round(np.degrees(np.arctan2(np.hypot(x, y), z)), ROUNDING)
        name = "theta" if "theta" not in names else "direction_theta"
        found.append(Scalar(name, "deg", theta, "θ"))
        rest = [name for name in names if name not in DIRECTION]
    return found + [
        Scalar(name, units.get(name, ""), table.column(f"{CONDITION}{name}"), name) for name in rest
    ]


def covariates(table: Table) -> np.ndarray:
    """(N, P) what a quantity may follow besides: energy, its logarithm, the scalars and the slopes."""
    energies = table.energies
    columns = [energies, np.log(energies), *(one.values for one in scalars(table, {}))]
    columns += slopes(table) if has_direction(table.conditions) else ()
    return np.stack(columns, axis=1)


def azimuth(table: Table) -> np.ndarray:
    """(n,) azimuth [deg] of the directions of those showers that have one."""
    x, y, z = (table.column(f"{CONDITION}{name}") for name in DIRECTION)
    tilted = np.degrees(np.arctan2(np.hypot(x, y), z)) > UPRIGHT
    return np.asarray(np.degrees(np.arctan2(y, x))[tilted])
