"""Showers of the grid around the track put into the cells of a detector, and taken back from there."""

from __future__ import annotations

__all__ = ["Placement", "Withdrawal", "regular_cells"]

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caloray.errors import DataError, GeometryError
from caloray.geometry import Geometry
from caloray.io.hit_record import Hits
from caloray.observables import find_lit
from caloray.placement.cells import Cells, RegularCells
from caloray.placement.deposit import Rectangles, Summed, box_corners, deposit
from caloray.placement.grid import box_geometry, require_depths, square_pitch
from caloray.placement.losses import Losses
from caloray.placement.settings import PlaceSettings
from caloray.placement.track import IMPACT, crossings, directions, impacts
from caloray.rng import StreamKey
from caloray.showers import Showers


def regular_cells(geometry: Geometry, granularity: int) -> RegularCells:
    """Cells of ``granularity`` x ``granularity`` cells of a grid, with an edge at 0 in every layer.

    Raises:
        GeometryError: Not a grid of equal square cells.
    """
    width = granularity * square_pitch(geometry, "be placed")
    return RegularCells(np.zeros((geometry.n_layers, 2)), width)


@dataclass(frozen=True)
class Placement:
    """From the grid around the track to the cells of the detector.

    Args:
        geometry: The grid: layers, and x and y from the track [mm].
        settings: Entry, shear, box, threshold.
        cells: Cells of the detector.

    Raises:
        GeometryError: Not a grid of equal square cells, no depths where they are needed, or cells of another
            number of layers.
    """

    geometry: Geometry
    settings: PlaceSettings
    cells: Cells

    def __post_init__(self) -> None:
        """Check that grid and cells fit."""
        square_pitch(self.geometry, "be placed")
        if self.cells.n_layers != self.geometry.n_layers:
            raise GeometryError(
                f"cells for {self.cells.n_layers} layers, geometry {self.geometry.name} has "
                f"{self.geometry.n_layers}"
            )
        if self.settings.shear:
            require_depths(self.geometry)

    @property
    def width(self) -> float:
        """Width of a readout cell of the regular lattice [mm]."""
        if isinstance(self.cells, RegularCells):
            return self.cells.width
        return self.settings.granularity * square_pitch(self.geometry, "be placed")

    @property
    def records_entry(self) -> bool:
        """Whether the entry is added to the conditions: everywhere but at 0, 0 for all showers."""
        return self.settings.impact != "fixed" or any(self.settings.at)

    @cached_property
    def readout(self) -> Geometry | None:
        """Geometry of the box, its cells at their places in the regular lattice; None without a box."""
        box = self.settings.box
        return None if box is None else box_geometry(self.geometry, box, self.width)

    def place(self, showers: Showers, where: str = "showers") -> tuple[Hits, Losses]:
        """The readout of some showers.

        Args:
            showers: Voxels of :attr:`geometry`.
            where: File, for messages.

        Returns:
            Cells counted from the corner of each layer's box, and the losses. The entry is among the
            conditions of the hits, unless it is 0, 0 for all.

        Raises:
            DataError: NaN or infinite energies, or directions or entries that are missing or impossible.
        """
        entries, shifts = self.shifts(showers, where)
        found = self.rectangles(showers, shifts, where)
        middles = shifts if self.settings.around == "track" else entries[:, None, :] + np.zeros_like(shifts)
        corners = box_corners(self.cells, middles, self.settings.box)
        key = StreamKey(self.settings.seed, "place", "points")
        points = _points(key, showers.ids, found) if self.settings.points else None
        settings = self.settings
        summed = deposit(self.cells, found, corners, settings.box, settings.threshold, points)
        conditions = dict(showers.conditions)
        if self.records_entry:
            conditions |= {name: entries[:, axis].copy() for axis, name in enumerate(IMPACT)}
        return _hits(summed, showers, corners, conditions), summed.losses

    def shifts(self, showers: Showers | Hits, where: str) -> tuple[np.ndarray, np.ndarray]:
        """(n, 2) entries and (n, L, 2) crossings of track and layers [mm], in the frame of the cells."""
        conditions, ids, settings = showers.conditions, showers.ids, self.settings
        entries = impacts(settings, self.width, conditions, ids, where)
        shifts = np.repeat(entries[:, None, :], self.geometry.n_layers, axis=1)
        if settings.shear:
            ways = directions(conditions, ids, where)
            shifts = shifts + crossings(ways, require_depths(self.geometry), settings.thickness)
        return entries, shifts

    def rectangles(self, showers: Showers, shifts: np.ndarray, where: str) -> Rectangles:
        """The cells of the grid that hold energy, moved by (n, L, 2) ``shifts`` [mm].

        Raises:
            DataError: An energy that is not finite.
        """
        lit = find_lit(showers.voxels, self.geometry)
        events = np.repeat(np.arange(len(showers)), lit.per_shower)
        if not np.isfinite(lit.values).all():
            event = events[np.flatnonzero(~np.isfinite(lit.values))[0]]
            raise DataError(
                f"{where}: event {showers.ids[event]} holds an energy that is not a finite number",
                hint="repair or leave out the shower",
            )
        layers, x, y = np.unravel_index(lit.columns, (self.geometry.n_layers, *self.geometry.layers[0].shape))
        first, second = np.array(self.geometry.layers[0].first), np.array(self.geometry.layers[0].second)
        moved = shifts[events, layers]
        low = np.stack([first[x], second[y]], axis=1) + moved
        high = np.stack([first[x + 1], second[y + 1]], axis=1) + moved
        return Rectangles(len(showers), events, layers, low, high, lit.values.astype(np.float64))


@dataclass(frozen=True)
class Withdrawal:
    """The inverse of a placement: from the cells of the detector to a grid around the track.

    Exact where every cell lands on a whole cell of the grid. Else a cell's energy goes to a random point of
    it, or is spread evenly: what was summed in a cell, cut by the threshold or lost outside the box is gone.

    Args:
        placement: How the showers were placed.
        grid: Geometry of the grid around the track.
        points: Put a cell's energy at a random point of it instead of spreading it.
        threshold: Least energy of a cell of the grid [MeV].

    Raises:
        GeometryError: The grid has other layers, or no equal square cells.
    """

    placement: Placement
    grid: Geometry
    points: bool = True
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check that the grid fits."""
        square_pitch(self.grid, "be taken back")
        if self.grid.n_layers != self.placement.geometry.n_layers:
            raise GeometryError(
                f"grid {self.grid.name} has {self.grid.n_layers} layers, the showers have "
                f"{self.placement.geometry.n_layers}",
                hint="choose a --grid with the layers of the showers",
            )
        if len(set(self.grid.layers[0].shape)) > 1:
            raise GeometryError(f"grid {self.grid.name}: not as many cells along x as along y")

    def take_back(self, hits: Hits, where: str = "showers") -> tuple[Hits, Losses]:
        """Placed showers on the grid around the track.

        Args:
            hits: With the corners of their boxes.
            where: File, for messages.

        Raises:
            DataError: Directions or entries that are missing or impossible.
        """
        placement, cells = self.placement, self.placement.cells
        _, shifts = placement.shifts(hits, where)
        events, layers = hits.events, hits.layers.astype(np.int64)
        corners = hits.corners[events, layers]
        moved = shifts[events, layers]
        edges = [
            cells.edges(axis, layers, corners[:, axis] + local) for axis, local in enumerate((hits.x, hits.y))
        ]
        low, high = (np.stack(ends, axis=1) for ends in zip(*edges, strict=True))
        if not np.isfinite(low).all():
            raise DataError(f"{where}: hits in cells that the table does not have", hint="give its own table")
        found = Rectangles(len(hits), events, layers, low - moved, high - moved, hits.energies.astype(float))
        layer = self.grid.layers[0]
        offsets = np.tile([layer.first[0], layer.second[0]], (self.grid.n_layers, 1))
        target = RegularCells(offsets, square_pitch(self.grid, "be taken back"))
        zero = np.zeros_like(hits.corners)
        key = StreamKey(placement.settings.seed, "place", "points back")
        points = _points(key, hits.ids, found) if self.points else None
        summed = deposit(target, found, zero, layer.shape[0], self.threshold, points)
        conditions = {name: values for name, values in hits.conditions.items() if name not in IMPACT}
        return _hits(summed, hits, zero, conditions), summed.losses

    def from_box(self, showers: Showers, where: str = "showers") -> Hits:
        """Hits with corners from dense showers of the placement's box.

        Raises:
            DataError: As :meth:`take_back`.
            GeometryError: The showers do not have the box's number of cells.
        """
        placement, box = self.placement, self.placement.settings.box
        entries, shifts = placement.shifts(showers, where)
        middles = shifts if placement.settings.around == "track" else entries[:, None] + np.zeros_like(shifts)
        readout = placement.readout
        if readout is None:
            raise GeometryError("showers without a box cannot be dense")
        lit = find_lit(showers.voxels, readout)
        layers, x, y = np.unravel_index(lit.columns, (readout.n_layers, *readout.layers[0].shape))
        return Hits(
            showers.incident_energies,
            showers.ids,
            np.concatenate([[0], np.cumsum(lit.per_shower)]).astype(np.int64),
            layers,
            x,
            y,
            lit.values.astype(np.float32),
            box_corners(placement.cells, middles, box).astype(np.int32),
            showers.conditions,
        )


def _points(key: StreamKey, ids: np.ndarray, found: Rectangles) -> np.ndarray:
    """(K, 2) uniform numbers; those of a shower depend on seed and event number alone."""
    counts = np.bincount(found.events, minlength=found.showers)
    drawn = [key.at(int(i)).generator().random((int(k), 2)) for i, k in zip(ids, counts, strict=True)]
    return np.concatenate([np.zeros((0, 2)), *drawn])


def _hits(summed: Summed, of: Showers | Hits, corners: np.ndarray, conditions: dict[str, np.ndarray]) -> Hits:
    counts = np.bincount(summed.events, minlength=len(of))
    return Hits(
        of.incident_energies,
        of.ids,
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        summed.layers,
        summed.cells[:, 0],
        summed.cells[:, 1],
        summed.energies,
        corners.astype(np.int32),
        conditions,
    )
