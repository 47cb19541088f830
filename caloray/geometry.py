"""Readout geometries as data: layers of voxels, their edges in mm, and the flat voxel order.

The flat order of a shower is the CaloChallenge's: layer slowest, then alpha, then r fastest (for Cartesian
grids: layer, x, y). Layers may differ in shape (dataset 1 is ragged).
"""

from __future__ import annotations

__all__ = ["Geometry", "Layer", "from_binning_xml", "load_geometry", "names"]

from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from caloray.atomic import digest_json
from caloray.detectors import reading
from caloray.errors import GeometryError

Kind = Literal["cylindrical", "cartesian"]

MAX_VOXELS = 10_000_000
MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class Layer:
    """One readout layer.

    Args:
        id: The detector's own number of the layer (not its position in the list).
        first: Edges of the slow axis: alpha [rad] or x [mm].
        second: Edges of the fast axis: r [mm] or y [mm].
        depth: Distance of the layer's front from the calorimeter's face [mm], if known.
    """

    id: int
    first: tuple[float, ...]
    second: tuple[float, ...]
    depth: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(bins of the slow axis, bins of the fast axis): (alpha, r) or (x, y)."""
        return len(self.first) - 1, len(self.second) - 1

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class Geometry:
    """A readout: its name, the kind of its axes and its layers in flat voxel order."""

    name: str
    kind: Kind
    layers: tuple[Layer, ...]
    particle: str = ""

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @cached_property
    def layer_sizes(self) -> tuple[int, ...]:
        """Voxels of each layer."""
        return tuple(layer.size for layer in self.layers)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Flat index of each layer's first voxel, and the total as last entry (n_layers + 1 numbers)."""
        return tuple(int(n) for n in np.concatenate([[0], np.cumsum(self.layer_sizes)]))

    @property
    def n_voxels(self) -> int:
        """Voxels of a whole shower."""
        return self.offsets[-1]

    @property
    def uniform(self) -> bool:
        """Whether all layers have the same shape."""
        return len({layer.shape for layer in self.layers}) == 1

    def span(self, layer: int) -> slice:
        """The flat slice of layer number ``layer`` (position in the list)."""
        return slice(self.offsets[layer], self.offsets[layer + 1])

    @cached_property
    def layer_of_voxel(self) -> np.ndarray:
        """(n_voxels,) position of the layer that each voxel belongs to."""
        positions = np.repeat(np.arange(self.n_layers), self.layer_sizes)
        positions.setflags(write=False)
        return positions

    def centres(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Voxel centres of one layer, each (size,) in flat order.

        (alpha [rad], r [mm]) for cylindrical readouts, (x [mm], y [mm]) for Cartesian ones: the arithmetic
        middles of the edges, as in the CaloChallenge's XMLHandler.
        """
        one = self.layers[layer]
        first = 0.5 * (np.array(one.first[1:]) + np.array(one.first[:-1]))
        second = 0.5 * (np.array(one.second[1:]) + np.array(one.second[:-1]))
        return np.repeat(first, len(second)), np.tile(second, len(first))

    def to_dict(self) -> dict[str, object]:
        """A JSON-able description from which :meth:`from_dict` rebuilds the geometry exactly."""
        layers = [
            {"id": la.id, "first": list(la.first), "second": list(la.second), "depth": la.depth}
            for la in self.layers
        ]
        return {"name": self.name, "kind": self.kind, "particle": self.particle, "layers": layers}

    @staticmethod
    def from_dict(value: dict[str, Any]) -> Geometry:
        """Rebuild a geometry from :meth:`to_dict`.

        Raises:
            GeometryError: A key is missing or a value has the wrong form.
        """
        try:
            layers = tuple(_layer(layer) for layer in value["layers"])
            geometry = Geometry(str(value["name"]), value["kind"], layers, str(value["particle"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GeometryError(f"geometry description is malformed: {error!r}") from error
        _validate(geometry)
        return geometry

    @cached_property
    def digest(self) -> str:
        """sha256 over everything that matters for the data: kind, layers, edges and depths."""
        described = self.to_dict()
        return digest_json({"kind": described["kind"], "layers": described["layers"]})


def names() -> list[str]:
    """The geometries that ship with caloray."""
    files = resources.files("caloray.detectors").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def load_geometry(name: str) -> Geometry:
    """A shipped geometry by name, or one from a ``.yaml`` or binning ``.xml`` file.

    Raises:
        GeometryError: Unknown name, or a file that does not describe a geometry.
    """
    if name.endswith(".xml"):
        return from_binning_xml(Path(name))
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        return _from_yaml(_content(path).decode(errors="replace"), path.stem)
    return _shipped(name)


@cache
def _shipped(name: str) -> Geometry:
    if name not in names():
        raise GeometryError(f"unknown geometry {name!r}", hint=f"known: {', '.join(names())}")
    text = resources.files("caloray.detectors").joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return _from_yaml(text, name)


def from_binning_xml(path: Path, particle: str | None = None) -> Geometry:
    """The geometry of a CaloChallenge binning XML; layers with the single edge 0 are absent.

    Args:
        path: The XML file; its stem becomes the geometry's name.
        particle: Which ``Bin`` to take when the file describes several particles.

    Raises:
        GeometryError: Missing file, not such an XML, a DTD or entity in it, or no matching ``Bin``.
    """
    return Geometry.from_dict(reading.from_xml(_content(path), path.stem, particle))


def _from_yaml(text: str, name: str) -> Geometry:
    return Geometry.from_dict(reading.from_yaml(text, name))


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise GeometryError(f"{path}: no such geometry file", hint="check the path")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise GeometryError(f"{path}: {size} bytes, a geometry file has at most {MAX_FILE_BYTES}")
    return path.read_bytes()


def _layer(value: dict[str, Any]) -> Layer:
    depth = None if value["depth"] is None else float(value["depth"])
    first, second = (tuple(float(edge) for edge in value[axis]) for axis in ("first", "second"))
    return Layer(int(value["id"]), first, second, depth)


def _validate(geometry: Geometry) -> None:
    """Refuse what cannot be a readout, so that everything downstream may rely on it."""
    if geometry.kind not in get_args(Kind):
        known = " or ".join(get_args(Kind))
        raise GeometryError(f"geometry {geometry.name}: kind {geometry.kind!r}, expected {known}")
    if not geometry.layers:
        raise GeometryError(f"geometry {geometry.name}: no layers", hint="at least one layer is needed")
    ids = [layer.id for layer in geometry.layers]
    if len(set(ids)) != len(ids):
        raise GeometryError(f"geometry {geometry.name}: layer ids are not unique: {ids}")
    for layer in geometry.layers:
        problem = _problem(layer, geometry.kind)
        if problem:
            raise GeometryError(f"geometry {geometry.name}, layer {layer.id}: {problem}")
    if geometry.n_voxels > MAX_VOXELS:
        raise GeometryError(f"geometry {geometry.name}: {geometry.n_voxels} voxels, at most {MAX_VOXELS}")


def _problem(layer: Layer, kind: Kind) -> str:
    names_of_axes = ("alpha", "r") if kind == "cylindrical" else ("x", "y")
    for axis, edges in zip(names_of_axes, (layer.first, layer.second), strict=True):
        if len(edges) < 2 or not np.all(np.isfinite(edges)) or not np.all(np.diff(edges) > 0):
            return f"edges of {axis} must be at least two increasing numbers, found {edges[:5]}"
    if layer.depth is not None and not np.isfinite(layer.depth):
        return f"depth {layer.depth} is not a number"
    if kind == "cylindrical" and layer.second[0] < 0:
        return f"edges of r start at {layer.second[0]}, expected 0 or more"
    if kind == "cylindrical" and layer.first[-1] - layer.first[0] > 2 * np.pi * (1 + 1e-9):
        return "edges of alpha span more than one turn"
    return ""
