"""Where the energy went: kept, outside the box, between the cells, below the threshold."""

from __future__ import annotations

__all__ = ["Losses"]

from dataclasses import dataclass, fields

NOTICEABLE = 0.01


@dataclass(frozen=True)
class Losses:
    """Sums over showers; ``deposited`` is the sum of the four energies after it, up to rounding.

    Args:
        showers: How many.
        deposited: Energy in the grid [MeV].
        kept: Energy in the cells that are written [MeV].
        outside: Energy in cells outside the box [MeV].
        uncovered: Energy in gaps and beyond the last cell of a table [MeV].
        cut: Energy in cells below the threshold [MeV].
        cells: Cells that are written.
        cells_cut: Cells with energy that the threshold cut.
        leaking: Showers that lose more than 1 % outside the box or between cells.
        worst: Largest such share of one shower.
    """

    showers: int = 0
    deposited: float = 0.0
    kept: float = 0.0
    outside: float = 0.0
    uncovered: float = 0.0
    cut: float = 0.0
    cells: int = 0
    cells_cut: int = 0
    leaking: int = 0
    worst: float = 0.0

    def __add__(self, other: Losses) -> Losses:
        """The losses of both."""
        summed = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Losses(**summed | {"worst": max(self.worst, other.worst)})

    def share(self, name: str) -> float:
        """An energy as a share of what was deposited; 0 where nothing was."""
        return float(getattr(self, name)) / self.deposited if self.deposited else 0.0
