"""Geometry files as plain descriptions: caloray's YAML and the CaloChallenge's binning XML.

Both readers return the dictionary that :meth:`caloray.geometry.Geometry.from_dict` takes, with every edge
spelled out. The YAML says the same in few lines::

    kind: cylindrical          # or cartesian
    particle: electron
    face: 0.0                  # optional, position of the calorimeter's face [mm]
    layers:
      - ids: 0-44              # or ``id: 3``; one entry may stand for several equal layers
        alpha: 16              # bins of a full turn, or a list of edges [rad]
        r: [0, 4.65, 9.3]      # edges [mm], or {bins: 9, width: 4.65} (r from 0, x and y around 0)
        bottoms: [12.0, ...]   # optional, front of each layer [mm], counted from where ``face`` is counted
"""

from __future__ import annotations

__all__ = ["from_xml", "from_yaml"]

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import yaml
from defusedxml import DefusedXmlException, ElementTree

from caloray.errors import GeometryError

Description = dict[str, Any]
Edges = list[float]

MAX_BINS = 100_000
DECIMALS = 9
AXES = {"cylindrical": ("alpha", "r"), "cartesian": ("x", "y")}


def from_yaml(text: str, name: str) -> Description:
    """Read a geometry in caloray's YAML form.

    Args:
        text: The file's content.
        name: What to call the geometry, also named in errors.

    Raises:
        GeometryError: Not YAML, an unknown kind, a missing or malformed key.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise GeometryError(f"geometry {name}: not valid YAML ({reason})") from error
    try:
        kind = value["kind"]
        axes = AXES[kind]
        layers = [layer for entry in value["layers"] for layer in _layers(entry, axes, value.get("face"))]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GeometryError(
            f"geometry {name}: malformed description ({error!r})",
            hint="needed: kind (cylindrical or cartesian) and layers with ids and the edges of both axes",
        ) from error
    return {"name": name, "kind": kind, "particle": str(value.get("particle", "")), "layers": layers}


def from_xml(text: bytes, name: str, particle: str | None = None) -> Description:
    """Read the CaloChallenge's binning XML: ``Bins/Bin/Layer`` with ``r_edges`` [mm] and ``n_bin_alpha``.

    Layers with the single edge 0 do not exist in the readout and are left out. Alpha edges divide the turn
    from -pi to pi evenly, as in the challenge's XMLHandler. DTDs and entities are refused.

    Args:
        text: The file's content.
        name: What to call the geometry, also named in errors.
        particle: Name of the ``Bin`` to take; may be omitted when the file has only one.

    Raises:
        GeometryError: Not such an XML file, a forbidden construct, or no (single) matching ``Bin``.
    """
    try:
        root: Element = ElementTree.fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise GeometryError(
            f"binning XML {name}: DTDs and entities are refused", hint="remove the DOCTYPE from the file"
        ) from error
    except (ParseError, ValueError) as error:
        raise GeometryError(f"binning XML {name}: not valid XML ({error})") from error
    chosen = _choose_bin(root, name, particle)
    try:
        layers = list(_xml_layers(chosen))
    except (KeyError, ValueError) as error:
        raise GeometryError(
            f"binning XML {name}: malformed layer ({error!r})",
            hint="each Layer needs id, r_edges (comma-separated mm) and n_bin_alpha",
        ) from error
    return {"name": name, "kind": "cylindrical", "particle": chosen.get("name", ""), "layers": layers}


def _choose_bin(root: Element, name: str, particle: str | None) -> Element:
    bins = root.findall("Bin")
    found = [one.get("name", "") for one in bins]
    matching = [one for one in bins if particle is None or one.get("name") == particle]
    if len(matching) != 1:
        wanted = "exactly one Bin" if particle is None else f"one Bin named {particle!r}"
        raise GeometryError(f"binning XML {name}: expected {wanted}, found {found}")
    return matching[0]


def _xml_layers(element: Element) -> Iterator[Description]:
    for layer in element.findall("Layer"):
        edges = [float(edge) for edge in layer.attrib["r_edges"].split(",")]
        if len(edges) > 1:
            alpha = _turn(int(layer.attrib["n_bin_alpha"]))
            yield {"id": int(layer.attrib["id"]), "first": alpha, "second": edges, "depth": None}


def _layers(entry: Mapping[str, Any], axes: tuple[str, str], face: float | None) -> Iterator[Description]:
    ids = _ids(entry)
    unknown = set(entry) - {"id", "ids", "bottoms", *axes}
    if unknown:
        message = f"unknown keys {sorted(unknown)}"
        raise ValueError(message)
    first, second = (_edges(axis, entry[axis]) for axis in axes)
    bottoms: Sequence[float | None] = entry.get("bottoms", [None] * len(ids))
    if len(bottoms) != len(ids):
        message = f"{len(bottoms)} bottoms for {len(ids)} layers"
        raise ValueError(message)
    for number, bottom in zip(ids, bottoms, strict=True):
        depth = None if bottom is None else round(float(bottom) - float(face or 0.0), DECIMALS)
        yield {"id": number, "first": first, "second": second, "depth": depth}


def _ids(entry: Mapping[str, Any]) -> list[int]:
    if "id" in entry:
        return [int(entry["id"])]
    first, _, last = str(entry["ids"]).partition("-")
    count = int(last) - int(first) + 1
    return [int(first) + i for i in range(_bounded(count))]


def _edges(axis: str, value: object) -> Edges:
    if axis == "alpha" and isinstance(value, int):
        return _turn(value)
    if isinstance(value, Mapping):
        bins, width = _bounded(int(value["bins"])), float(value["width"])
        start = 0.0 if axis == "r" else 0.5 * bins
        return [round((i - start) * width, DECIMALS) for i in range(bins + 1)]
    if isinstance(value, list):
        return [float(edge) for edge in value]
    message = f"axis {axis}: {value!r} is neither edges nor bins and width"
    raise ValueError(message)


def _turn(bins: int) -> Edges:
    """Edges of ``bins`` equal parts of the turn, in plain Python floats: the same bits on every machine."""
    return [2.0 * math.pi * i / _bounded(bins) - math.pi for i in range(bins + 1)]


def _bounded(bins: int) -> int:
    if not 1 <= bins <= MAX_BINS:
        message = f"{bins} bins, expected 1 to {MAX_BINS}"
        raise ValueError(message)
    return bins
