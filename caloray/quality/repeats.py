"""Showers that come again, and noise that is the same in every block."""

from __future__ import annotations

__all__ = ["repeated_share", "stuck_noise"]

import numpy as np

from caloray.quality.counter import FINE
from caloray.quality.counts import POSITIONS, QualityCounts

FEWEST_PRINTS = 64
FEWEST_IN_ROW = 5


def repeated_share(counts: QualityCounts) -> tuple[float, float] | None:
    """Share of showers that are repetitions of another one, and its standard deviation; None for too few.

    It is that of the showers with the lowest fingerprints, which are a fair sample of the distinct ones.
    """
    distinct, total = len(counts.prints), sum(counts.prints.values())
    if total < FEWEST_PRINTS:
        return None
    share = 1 - distinct / total
    return share, float(np.sqrt(max(share * (1 - share), 1 / total) / total))


def stuck_noise(counts: QualityCounts) -> tuple[float, float] | None:
    """How far apart the positions in a block are on average, in widths, and its standard deviation.

    Showers at one position of different blocks have nothing in common, unless all blocks are made from the
    same noise; then the mean pulls of the positions differ. The larger of response and depth.

    Returns:
        (spread of the mean pulls beyond chance, standard deviation it would have by chance); None for too
        few showers.
    """
    table = counts.arrays["rows"]
    table = table[table[:, 0] >= FEWEST_IN_ROW]
    if len(table) < 2:
        return None
    number, found = table[:, 0], []
    shapes = counts.arrays["scalars"].sum(axis=0)
    for column, scalar in ((1, 0), (2, 2)):
        shares = shapes[scalar] / shapes[scalar].sum()
        variance = float(shares @ POSITIONS**2 - (shares @ POSITIONS) ** 2)
        means = table[:, column] / FINE / number
        overall = float(table[:, column].sum() / FINE / number.sum())
        excess = float((number * (means - overall) ** 2).sum() / max(variance, 1e-6)) / (len(table) - 1) - 1
        found.append(max(0.0, excess) / float(number.mean()))
    chance = np.sqrt(2 / (len(table) - 1)) / float(number.mean())
    spread = float(np.sqrt(max(found)))
    return spread, float(chance / max(spread, np.sqrt(chance)))
