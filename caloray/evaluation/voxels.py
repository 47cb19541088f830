"""The voxels of some showers of a sample, for metrics that look at whole showers."""

from __future__ import annotations

__all__ = ["take_showers"]

import numpy as np

from caloray.evaluation.separation import scramble
from caloray.evaluation.table import Table
from caloray.io.source import ShowerSource
from caloray.showers import Showers

VOXELS_AT_ONCE = 4_000_000


def take_showers(source: ShowerSource, table: Table, most: int) -> Showers:
    """At most ``most`` showers, those of the table's rows with the smallest hash, in the order of their ids.

    The same showers whatever the order in which the source gives them.

    Args:
        source: Where the showers are.
        table: The table of the same source.
        most: How many at most.
    """
    hashes = scramble(table.ids, table.seed, "rows")
    last = np.sort(hashes)[min(most, len(hashes)) - 1]
    rows = max(1, VOXELS_AT_ONCE // source.geometry.n_voxels)
    parts = [
        showers.select(scramble(showers.ids, table.seed, "rows") <= last) for showers in source.chunks(rows)
    ]
    every = Showers.concatenate(parts)
    return every.select(np.argsort(every.ids, kind="stable")[:most])
