"""Where the particle's line of flight crosses each layer."""

from __future__ import annotations

__all__ = ["DIRECTION", "IMPACT", "crossings", "directions", "impacts"]

from collections.abc import Mapping

import numpy as np

from caloray.errors import DataError
from caloray.placement.settings import PlaceSettings
from caloray.rng import StreamKey

DIRECTION = ("direction_x", "direction_y", "direction_z")
IMPACT = ("impact_x", "impact_y")
LENGTH_TOLERANCE = 1e-3
STEEPEST = 1e-3  # direction_z below it: the track runs along the layers


def directions(conditions: Mapping[str, np.ndarray], ids: np.ndarray, where: str) -> np.ndarray:
    """(n, 3) unit vectors of flight, z into the calorimeter.

    Args:
        conditions: Scalars of the particles.
        ids: (n,) event numbers, for messages.
        where: File, for messages.

    Raises:
        DataError: No directions, or one that is not a unit vector into the calorimeter.
    """
    if missing := [name for name in DIRECTION if name not in conditions]:
        raise DataError(
            f"{where}: no directions of flight ({', '.join(missing)}), so the showers cannot be sheared",
            hint="give a file with `incident_directions`, or use --no-shear",
        )
    found = np.stack([conditions[name] for name in DIRECTION], axis=1).astype(np.float64)
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(np.linalg.norm(found, axis=1) - 1) < LENGTH_TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{where}: direction {_spelled(found[row])} of event {ids[row]} is not a unit vector "
            f"({wrong.sum()} such)",
            hint="normalise the directions",
        )
    flat = found[:, 2] < STEEPEST
    if flat.any():
        row = int(np.flatnonzero(flat)[0])
        angle = np.degrees(np.arccos(np.clip(found[row, 2], -1, 1)))
        raise DataError(
            f"{where}: direction {_spelled(found[row])} of event {ids[row]} is at {angle:.1f} degrees to the "
            f"normal and never crosses the layers ({flat.sum()} such)",
            hint="directions need z into the calorimeter, below 89.9 degrees",
        )
    return found


def crossings(direction: np.ndarray, depths: np.ndarray, thickness: float) -> np.ndarray:
    """(n, L, 2) shift of the track from its entry to the middle of each sensitive layer [mm].

    shift = (depth + thickness / 2) / p_z * (p_x, p_y), as DDML (key4hep) does for L2LFlows.

    Args:
        direction: (n, 3) unit vectors.
        depths: (L,) front of each layer below the face [mm].
        thickness: Of the sensitive layer [mm].
    """
    slopes = direction[:, :2] / direction[:, 2:]
    return np.asarray((depths + 0.5 * thickness)[:, None] * slopes[:, None, :])


def impacts(
    settings: PlaceSettings,
    width: float,
    conditions: Mapping[str, np.ndarray],
    ids: np.ndarray,
    where: str,
) -> np.ndarray:
    """(n, 2) entry of each particle [mm]; a drawn one depends on seed and event number alone.

    Entries are drawn around the edge at 0, half a cell to both sides: one whole period of the cells, which
    mirrors onto itself and in which an even box around the entry never moves.

    Args:
        settings: How the entry is chosen.
        width: Of the cell in which it is drawn [mm].
        conditions: Scalars of the particles.
        ids: (n,) event numbers.
        where: File, for messages.

    Raises:
        DataError: Recorded entries are wanted and missing, or not numbers.
    """
    if settings.impact == "uniform":
        key = StreamKey(settings.seed, "place", "impact")
        draws = [key.at(int(number)).generator().random(2) for number in ids]
        return width * (np.array(draws).reshape(-1, 2) - 0.5)
    if settings.impact == "fixed":
        return np.tile(np.array(settings.at, dtype=np.float64), (len(ids), 1))
    if missing := [name for name in IMPACT if name not in conditions]:
        raise DataError(
            f"{where}: no entries recorded ({', '.join(missing)})",
            hint="give --impact X,Y, or a file with `incident_impact_x` and `incident_impact_y`",
        )
    found = np.stack([conditions[name] for name in IMPACT], axis=1).astype(np.float64)
    if not np.isfinite(found).all():
        row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
        raise DataError(f"{where}: the entry of event {ids[row]} is {_spelled(found[row])}")
    return found


def _spelled(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in vector) + ")"
