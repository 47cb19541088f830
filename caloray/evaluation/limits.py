"""From how many spreads on a number counts as off: one rule for the terminal, the page and the figures."""

from __future__ import annotations

__all__ = ["CLEAR", "DOUBTFUL", "INPUTS", "RULE", "Standing", "expected_by_chance", "standing"]

from enum import Enum
from statistics import NormalDist

DOUBTFUL, CLEAR = 2.0, 5.0
INPUTS = frozenset({"incident_energy"})
"""Observables that were given to the model: shown, but not judged."""
RULE = (
    f"below {DOUBTFUL:g} spreads: at the floor; above {CLEAR:g}: clearly off; between: to be watched; "
    f"{CLEAR:g} or more below the floor: suspicious"
)


class Standing(Enum):
    """Where a number stands beside its floor."""

    OFF = "clearly off"
    WATCHED = "to be watched"
    FLOOR = "at the floor"
    SUSPICIOUS = "suspiciously below the floor"


def standing(significance: float | None) -> Standing | None:
    """The class of a number that lies ``significance`` spreads beyond its floor; None without a spread."""
    if significance is None:
        return None
    if significance >= CLEAR:
        return Standing.OFF
    if significance >= DOUBTFUL:
        return Standing.WATCHED
    return Standing.SUSPICIOUS if significance <= -CLEAR else Standing.FLOOR


def expected_by_chance(numbers: int) -> tuple[float, float]:
    """How many of so many independent normal numbers lie 2 spreads above, and the median of the largest."""
    law = NormalDist()
    return numbers * (1.0 - law.cdf(DOUBTFUL)), law.inv_cdf(0.5 ** (1.0 / numbers)) if numbers else 0.0
