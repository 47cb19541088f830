"""Energy of small rectangles put into cells, summed, boxed and cut: the core of a placement."""

from __future__ import annotations

__all__ = ["Rectangles", "Summed", "box_corners", "deposit"]

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from caloray.placement.cells import SNAP, Cells, overlaps
from caloray.placement.losses import NOTICEABLE, Losses

ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Rectangles:
    """Where energy is: K rectangles of layers of n showers, in the frame of the cells.

    Args:
        showers: n.
        events: (K,) shower of each.
        layers: (K,) layer of each.
        low: (K, 2) lower x and y [mm].
        high: (K, 2) upper x and y [mm].
        energies: (K,) [MeV].
    """

    showers: int
    events: np.ndarray
    layers: np.ndarray
    low: np.ndarray
    high: np.ndarray
    energies: np.ndarray


@dataclass(frozen=True, eq=False)
class Summed:
    """The cells with energy, sorted by shower, layer, x, y; and how the energy of each shower was spent."""

    events: np.ndarray
    layers: np.ndarray
    cells: np.ndarray
    energies: np.ndarray
    losses: Losses


def box_corners(cells: Cells, middles: np.ndarray, box: int | None) -> np.ndarray:
    """(n, L, 2) int64 number of the first cell of each box along x and y.

    An even box has the edge of a cell nearest to its middle, an odd one the cell that holds it. Halfway
    between two edges the lower one is taken.

    Args:
        cells: All cells.
        middles: (n, L, 2) where the middles shall be [mm].
        box: Cells along x and y; None: all cells count from number 0.
    """
    corners = np.zeros(middles.shape, dtype=np.int64)
    if box is None:
        return corners
    n, n_layers = middles.shape[:2]
    layers = np.tile(np.arange(n_layers), n)
    for axis in (0, 1):
        places = middles[..., axis].ravel()
        numbers = cells.locate(axis, layers, places)
        low, high = cells.edges(axis, layers, numbers)
        with np.errstate(invalid="ignore"):
            within = np.where(np.isfinite(low), np.clip((places - low) / (high - low), 0, 1), 1.0)
        shift = 0.5 - SNAP if box % 2 == 0 else SNAP
        found = np.floor(numbers + within + shift).astype(np.int64) - box // 2
        corners[..., axis] = found.reshape(n, n_layers)
    return corners


def deposit(
    cells: Cells,
    rectangles: Rectangles,
    corners: np.ndarray,
    box: int | None,
    threshold: float,
    points: np.ndarray | None = None,
) -> Summed:
    """Put the rectangles into cells.

    Args:
        cells: Where to.
        rectangles: What.
        corners: (n, L, 2) first cell of each box; counted cells start there.
        box: Cells of the box along x and y, or None for all.
        threshold: Least energy of a cell, compared in float32 [MeV].
        points: (K, 2) from 0 to 1: the place within each rectangle that takes all its energy. Without it
            the energy is split over the cells in proportion to the area that each covers.

    Returns:
        Cells counted from the corners, with float32 energies, and the losses.
    """
    pieces = list(_split(cells, rectangles) if points is None else _drop(cells, rectangles, points))
    rows, numbers, energies = (np.concatenate(column) for column in zip(*pieces, strict=True))
    events, layers = rectangles.events[rows], rectangles.layers[rows]
    local = numbers - corners[events, layers]
    inside = np.ones(len(local), dtype=bool) if box is None else ((local >= 0) & (local < box)).all(axis=1)
    n = rectangles.showers
    total = np.bincount(rectangles.events, rectangles.energies, minlength=n)
    covered = np.bincount(events, energies, minlength=n)
    boxed = np.bincount(events[inside], energies[inside], minlength=n)
    keys, sums = _add_up(events[inside], layers[inside], local[inside], energies[inside])
    rounded = sums.astype(np.float32)
    lit = (rounded > 0) & (rounded >= np.float32(threshold))
    lost = np.divide(total - boxed, total, out=np.zeros(n), where=total > 0)
    losses = Losses(
        showers=n,
        deposited=float(total.sum()),
        kept=float(sums[lit].sum()),
        outside=_without_rounding((covered - boxed).sum(), total.sum()),
        uncovered=_without_rounding((total - covered).sum(), total.sum()),
        cut=float(sums[~lit].sum()),
        cells=int(lit.sum()),
        cells_cut=int((~lit).sum()),
        leaking=int((lost > NOTICEABLE).sum()),
        worst=float(lost.max(initial=0.0)),
    )
    return Summed(keys[lit, 0], keys[lit, 1], keys[lit, 2:], rounded[lit], losses)


_Piece = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows, (k, 2) cell numbers, energies


def _split(cells: Cells, rectangles: Rectangles) -> Iterator[_Piece]:
    low, high, layers = rectangles.low, rectangles.high, rectangles.layers
    yield np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64), np.zeros(0)
    along_y = list(overlaps(cells, 1, layers, low[:, 1], high[:, 1]))
    for x, share_x in overlaps(cells, 0, layers, low[:, 0], high[:, 0]):
        for y, share_y in along_y:
            share = share_x * share_y
            rows = np.flatnonzero(share > 0)
            numbers = np.stack([x[rows], y[rows]], axis=1)
            yield rows, numbers, share[rows] * rectangles.energies[rows]


def _drop(cells: Cells, rectangles: Rectangles, points: np.ndarray) -> Iterator[_Piece]:
    places = rectangles.low + points * (rectangles.high - rectangles.low)
    numbers = np.empty(places.shape, dtype=np.int64)
    found = np.ones(len(places), dtype=bool)
    for axis in (0, 1):
        numbers[:, axis] = cells.locate(axis, rectangles.layers, places[:, axis])
        low, high = cells.edges(axis, rectangles.layers, numbers[:, axis])
        found &= np.isfinite(low) & (places[:, axis] < high)
    rows = np.flatnonzero(found)
    yield rows, numbers[rows], np.asarray(rectangles.energies[rows], dtype=np.float64)


def _add_up(
    events: np.ndarray, layers: np.ndarray, local: np.ndarray, energies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(M, 4) distinct (event, layer, x, y) in ascending order, and their (M,) float64 sums."""
    columns = np.column_stack([events, layers, local]).astype(np.int64).reshape(-1, 4)
    if not len(columns):
        return columns, np.zeros(0)
    least, extent = columns.min(axis=0), np.ptp(columns, axis=0) + 1
    flat = np.ravel_multi_index(tuple((columns - least).T), tuple(int(size) for size in extent))
    distinct, where = np.unique(flat, return_inverse=True)
    sums = np.bincount(where, energies, minlength=len(distinct))
    return np.stack(np.unravel_index(distinct, tuple(extent)), axis=1) + least, sums


def _without_rounding(difference: float, total: float) -> float:
    """A difference of sums; 0 where only rounding is left of it."""
    return 0.0 if abs(difference) < ROUNDING * total else float(difference)
