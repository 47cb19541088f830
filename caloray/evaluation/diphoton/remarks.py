"""What a reader should know before looking at the numbers of a di-photon test."""

from __future__ import annotations

__all__ = ["energy_remarks", "repeat_remarks", "slope_remarks"]

import math
from collections.abc import Sequence

import numpy as np

from caloray.evaluation.diphoton.bank import Bank, Candidates
from caloray.evaluation.diphoton.curve import Curve
from caloray.evaluation.diphoton.settings import PairSettings
from caloray.evaluation.diphoton.shape import Shape
from caloray.evaluation.diphoton.turn_on import points_on_slope

FEWEST_ON_THE_SLOPE = 2
NOTABLE_SHIFT = 0.005  # of a mean energy


def energy_remarks(
    banks: Sequence[Bank], chosen: Sequence[Candidates], names: Sequence[str], settings: PairSettings
) -> list[str]:
    """A warning where the two samples stand for a photon with visibly different mean energies."""
    found = []
    for wanted, which in zip(settings.energies, ("first", "second"), strict=True):
        parts = [bank.incident[getattr(one, which)] for bank, one in zip(banks, chosen, strict=True)]
        means = [float(part.mean()) for part in parts]
        error = math.hypot(*(part.std(ddof=1) / math.sqrt(len(part)) for part in parts))
        if abs(means[-1] - means[0]) > max(3 * error, NOTABLE_SHIFT * wanted):
            found.append(
                f"photons of {wanted:,.0f} MeV have a mean energy of {means[0]:,.0f} MeV in {names[0]} and "
                f"{means[-1]:,.0f} MeV in {names[1]}: the samples differ in their energies"
            )
    return found


def repeat_remarks(banks: Sequence[Bank], names: Sequence[str]) -> list[str]:
    """A warning where both samples hold the same showers."""
    if len(banks) == 1:
        return []
    shared = len(np.intersect1d(banks[0].identities, banks[1].identities))
    if not shared:
        return []
    text = (
        f"{shared:,} of {len(banks[1]):,} showers of {names[1]} near these energies are also in {names[0]}; "
        "no pair holds one twice"
    )
    return [text]


def slope_remarks(name: str, curve: Curve, shape: Shape) -> list[str]:
    """A warning where the points do not fix the turn-on."""
    if shape.fit is None:
        return [
            f"{name}: the points do not fix a turn-on, so there is no d50; give more --distances around it"
        ]
    if points_on_slope(shape.fit, curve.probability) >= FEWEST_ON_THE_SLOPE:
        return []
    text = (
        f"{name}: fewer than {FEWEST_ON_THE_SLOPE} distances lie on the slope, its width is not determined; "
        f"give more --distances around {shape.fit.d50:.0f} mm"
    )
    return [text]
