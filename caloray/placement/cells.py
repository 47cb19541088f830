"""The readout cells of a detector: a regular lattice, or a table of cells with gaps, layer by layer."""

from __future__ import annotations

__all__ = ["Cells", "ListedCells", "RegularCells", "overlaps"]

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from caloray.errors import GeometryError

SNAP = 1e-6  # of a sub-cell: borders that near to each other are one


class Cells(Protocol):
    """Cells of all layers; axis 0 is x, axis 1 is y; numbers count cells along an axis."""

    @property
    def n_layers(self) -> int:
        """Number of layers."""

    def locate(self, axis: int, layers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """(K,) int64 number of the last cell whose lower edge is not above (K,) ``places`` [mm]."""

    def edges(self, axis: int, layers: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper edge [mm] of (K,) cells; both infinite where there is no such cell."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description."""


@dataclass(frozen=True, eq=False)
class RegularCells:
    """Square cells of one width; layer l has an edge at ``offsets[l]``.

    Args:
        offsets: (L, 2) x and y of the lower edge of cell 0 [mm].
        width: Width of all cells [mm].
    """

    offsets: np.ndarray
    width: float

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.offsets)

    def locate(self, axis: int, layers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """See :class:`Cells`."""
        return np.asarray(np.floor((places - self.offsets[layers, axis]) / self.width).astype(np.int64))

    def edges(self, axis: int, layers: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Cells`."""
        offset = self.offsets[layers, axis]
        return offset + numbers * self.width, offset + (numbers + 1) * self.width

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description."""
        return {"kind": "regular", "width": self.width, "offsets": self.offsets.tolist()}


@dataclass(frozen=True, eq=False)
class ListedCells:
    """Cells one by one: along each axis of each layer, intervals that do not overlap.

    A cell of the layer is one interval of x times one of y; between intervals there may be gaps.

    Args:
        intervals: Per layer the (n, 2) intervals of x and those of y [mm], ascending.

    Raises:
        GeometryError: No interval, an empty one, or two that overlap.
    """

    intervals: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __post_init__(self) -> None:
        """Check order and width."""
        for layer, axes in enumerate(self.intervals):
            for name, listed in zip("xy", axes, strict=True):
                if problem := _problem(listed):
                    raise GeometryError(
                        f"table of cells, layer {layer}, {name}: {problem}",
                        hint="every cell needs low < high, and begins where the one before it has ended",
                    )

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.intervals)

    def locate(self, axis: int, layers: np.ndarray, places: np.ndarray) -> np.ndarray:
        """See :class:`Cells`; -1 before the first cell."""
        found = np.empty(len(places), dtype=np.int64)
        for mine, listed in self._groups(axis, layers):
            found[mine] = np.searchsorted(listed[:, 0], places[mine], side="right") - 1
        return found

    def edges(self, axis: int, layers: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Cells`."""
        low, high = np.empty(len(numbers)), np.empty(len(numbers))
        for mine, listed in self._groups(axis, layers):
            padded = np.concatenate([[[-np.inf, -np.inf]], listed, [[np.inf, np.inf]]])
            chosen = padded[np.clip(numbers[mine], -1, len(listed)) + 1]
            low[mine], high[mine] = chosen.T
        return low, high

    def to_dict(self) -> dict[str, Any]:
        """JSON-able description."""
        return {"kind": "listed", "layers": [{"x": x.tolist(), "y": y.tolist()} for x, y in self.intervals]}

    @cached_property
    def _kinds(self) -> tuple[tuple[np.ndarray, tuple[np.ndarray, ...]], ...]:
        """Per axis: which of its distinct lists each layer has, and the lists."""
        return tuple(_distinct([axes[axis] for axes in self.intervals]) for axis in (0, 1))

    def _groups(self, axis: int, layers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        kind_of_layer, lists = self._kinds[axis]
        kinds = kind_of_layer[layers]
        for kind, listed in enumerate(lists):
            yield np.flatnonzero(kinds == kind), listed


def overlaps(
    cells: Cells, axis: int, layers: np.ndarray, low: np.ndarray, high: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Which cells the intervals from ``low`` to ``high`` reach, and which share of each lies in them.

    The shares are differences of the edges' places within the interval, cut to 0 ... 1: without gaps they
    add up to 1 whatever the rounding. A border within a millionth of an interval of its end is at its end.

    Args:
        cells: All cells.
        axis: 0 or 1.
        layers: (K,) layer of each interval.
        low: (K,) lower ends [mm].
        high: (K,) upper ends [mm].

    Yields:
        (K,) int64 cell numbers and (K,) float64 shares: the first cell of each interval, the second, ...
    """
    if not len(low):
        return
    first, last = cells.locate(axis, layers, low), cells.locate(axis, layers, high)
    for step in range(int((last - first).max()) + 1):
        bottom, top = cells.edges(axis, layers, first + step)
        yield first + step, _place(top, low, high) - _place(bottom, low, high)


def _place(edges: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Where the edges are within the intervals, from 0 to 1."""
    place = np.clip((edges - low) / (high - low), 0.0, 1.0)
    place[place < SNAP] = 0.0
    place[place > 1 - SNAP] = 1.0
    return np.asarray(place)


def _distinct(lists: list[np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    known: dict[bytes, int] = {}
    kinds = np.array([known.setdefault(one.tobytes(), len(known)) for one in lists])
    return kinds, tuple(lists[int(np.argmax(kinds == kind))] for kind in range(len(known)))


def _problem(listed: np.ndarray) -> str:
    if not len(listed):
        return "no cells"
    if not np.isfinite(listed).all():
        return "an edge is not a number"
    empty = np.flatnonzero(listed[:, 1] <= listed[:, 0])
    if len(empty):
        low, high = listed[empty[0]]
        return f"the cell from {low:g} to {high:g} mm is empty"
    crossed = np.flatnonzero(listed[1:, 0] < listed[:-1, 1])
    if len(crossed):
        one, other = listed[crossed[0]], listed[crossed[0] + 1]
        return f"the cells {one[0]:g} to {one[1]:g} and {other[0]:g} to {other[1]:g} mm overlap"
    return ""
