"""Tables of cells: per-layer offsets of a regular lattice, or every cell with its edges.

YAML::

    layers:
      - ids: 0-9                              # positions of the layers; or ``id: 3``
        x: {width: 5.088333, offset: 1.2}     # endless lattice with an edge at 1.2 mm
        y: {width: 5.088333}
      - ids: 10-29
        x: [[-90.0, -84.9], [-84.9, -79.8]]   # cells [low, high] in mm, gaps allowed
        y: {edges: [-20.0, -10.0, 0.0, 10.0]} # neighbours without gaps

CSV with the columns ``layer,offset_x,offset_y`` (one line per layer, cells of the readout's width), or
``layer,axis,low,high`` (one line per cell and axis).
"""

from __future__ import annotations

__all__ = ["read_table"]

import csv
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from caloray.errors import GeometryError
from caloray.placement.cells import Cells, ListedCells, RegularCells

MAX_BYTES = 20 << 20
MAX_CELLS = 100_000
AXES = ("x", "y")
HINT = "see `caloray place --help` and docs/placement.md for the forms of a table"


def read_table(path: Path, n_layers: int, width: float, reach: float) -> Cells:
    """Read a table of cells.

    Args:
        path: A ``.yaml``, ``.yml`` or ``.csv`` file.
        n_layers: Layers that the showers have.
        width: Width of the readout's cells [mm], for tables that hold offsets alone.
        reach: Lattices that stand beside listed cells are written out to this distance from 0 [mm].

    Raises:
        GeometryError: Missing, too large, malformed, with NaN, without the right layers, or with cells that
            overlap.
    """
    text = _content(path)
    try:
        layers = _from_csv(text) if path.suffix.lower() == ".csv" else _from_yaml(text)
        axes = {number: _both_axes(value, width) for number, value in layers.items()}
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise GeometryError(f"{path}: malformed table of cells ({reason})", hint=HINT) from error
    if sorted(axes) != list(range(n_layers)):
        missing = sorted(set(range(n_layers)) - set(axes))
        extra = sorted(set(axes) - set(range(n_layers)))
        faults = [f"{what} {_few(which)}" for what, which in (("lacks", missing), ("has", extra)) if which]
        raise GeometryError(
            f"{path}: cells for {len(axes)} layers, the showers have {n_layers}; the table "
            f"{' and '.join(faults)}",
            hint="describe every layer once, counted from 0",
        )
    return _assemble([axes[number] for number in range(n_layers)], reach, path)


class _Lattice:
    """An axis without an end: edges at offset + k width."""

    def __init__(self, offset: float, width: float) -> None:
        if not (math.isfinite(offset) and math.isfinite(width) and width > 0):
            message = f"offset {offset:g} and width {width:g}, expected numbers and a positive width"
            raise ValueError(message)
        self.offset, self.width = offset, width

    def listed(self, reach: float) -> np.ndarray:
        """(n, 2) its cells up to ``reach`` from 0."""
        first = math.floor((-reach - self.offset) / self.width)
        count = _bounded(math.ceil((reach - self.offset) / self.width) - first)
        edges = self.offset + self.width * np.arange(first, first + count + 1)
        return np.stack([edges[:-1], edges[1:]], axis=1)


_Axis = _Lattice | np.ndarray


def _content(path: Path) -> str:
    if not path.is_file():
        raise GeometryError(f"{path}: no such table of cells", hint="check the path")
    if path.suffix.lower() not in {".yaml", ".yml", ".csv"}:
        raise GeometryError(f"{path}: a table of cells is a .yaml or .csv file", hint=HINT)
    if path.stat().st_size > MAX_BYTES:
        raise GeometryError(f"{path}: more than {MAX_BYTES >> 20} MiB, too large for a table of cells")
    return path.read_bytes().decode(errors="replace")


def _from_yaml(text: str) -> dict[int, Mapping[str, Any]]:
    layers: dict[int, Mapping[str, Any]] = {}
    for entry in yaml.safe_load(text)["layers"]:
        if unknown := set(entry) - {"id", "ids", *AXES}:
            message = f"unknown keys {sorted(unknown)}"
            raise ValueError(message)
        for number in _ids(entry):
            _add(layers, number, entry)
    return layers


def _from_csv(text: str) -> dict[int, Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    columns = set(reader.fieldnames or ())
    if columns == {"layer", "offset_x", "offset_y"}:
        layers: dict[int, Mapping[str, Any]] = {}
        for row in reader:
            entry = {axis: {"offset": float(row[f"offset_{axis}"])} for axis in AXES}
            _add(layers, int(row["layer"]), entry)
        return layers
    if columns != {"layer", "axis", "low", "high"}:
        message = f"columns {sorted(columns)}, expected layer,offset_x,offset_y or layer,axis,low,high"
        raise ValueError(message)
    cells: dict[int, Any] = defaultdict(lambda: {axis: [] for axis in AXES})
    for row in reader:
        cells[int(row["layer"])][row["axis"]].append([float(row["low"]), float(row["high"])])
    return dict(cells)


def _ids(entry: Mapping[str, Any]) -> Iterable[int]:
    if "id" in entry:
        return [int(entry["id"])]
    first, _, last = str(entry["ids"]).partition("-")
    return range(int(first), int(first) + _bounded(int(last) - int(first) + 1))


def _add(layers: dict[int, Mapping[str, Any]], number: int, entry: Mapping[str, Any]) -> None:
    if number in layers:
        message = f"layer {number} is described twice"
        raise ValueError(message)
    layers[number] = entry


def _both_axes(entry: Mapping[str, Any], width: float) -> tuple[_Axis, _Axis]:
    return _axis(entry["x"], width), _axis(entry["y"], width)


def _axis(value: Any, width: float) -> _Axis:
    if isinstance(value, Mapping) and set(value) == {"edges"}:
        edges = np.array([float(edge) for edge in value["edges"]])
        return _sorted(np.stack([edges[:-1], edges[1:]], axis=1), keep=True)
    if isinstance(value, Mapping):
        if unknown := set(value) - {"width", "offset"}:
            message = f"unknown keys {sorted(unknown)}"
            raise ValueError(message)
        return _Lattice(float(value.get("offset", 0.0)), float(value.get("width", width)))
    return _sorted(np.array([[float(low), float(high)] for low, high in value]).reshape(-1, 2))


def _sorted(cells: np.ndarray, *, keep: bool = False) -> np.ndarray:
    if _bounded(len(cells)) and not keep:
        return cells[np.argsort(cells[:, 0], kind="stable")]
    return cells


def _bounded(count: int) -> int:
    if not 1 <= count <= MAX_CELLS:
        message = f"{count} entries, expected 1 to {MAX_CELLS}"
        raise ValueError(message)
    return count


def _assemble(layers: list[tuple[_Axis, _Axis]], reach: float, path: Path) -> Cells:
    lattices = [axis for axes in layers for axis in axes if isinstance(axis, _Lattice)]
    if len(lattices) == 2 * len(layers) and len({axis.width for axis in lattices}) == 1:
        offsets = np.array([axis.offset for axis in lattices]).reshape(-1, 2)
        return RegularCells(offsets, lattices[0].width)
    try:
        return ListedCells(tuple((_listed(x, reach), _listed(y, reach)) for x, y in layers))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error.message}", hint=error.hint) from error


def _listed(axis: _Axis, reach: float) -> np.ndarray:
    return axis.listed(reach) if isinstance(axis, _Lattice) else axis


def _few(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"layer{'s' if len(numbers) > 1 else ''} {shown}"
