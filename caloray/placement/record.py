"""How showers were placed, written beside them and read again by the inverse."""

from __future__ import annotations

__all__ = ["KEY", "describe", "restore"]

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from caloray.atomic import digest_json
from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.placement.cells import Cells, RegularCells
from caloray.placement.place import Placement
from caloray.placement.settings import PlaceSettings

KEY = "caloray_placement"


def describe(placement: Placement) -> str:
    """A placement as JSON: settings, name of the grid, regular cells or the digest of a table."""
    cells = placement.cells
    if isinstance(cells, RegularCells) and not cells.offsets.any():
        listed: dict[str, Any] = {"width": cells.width}
    elif isinstance(cells, RegularCells):
        listed = {"width": cells.width, "offsets": cells.offsets.tolist()}
    else:
        listed = {"digest": digest_json(cells.to_dict())}
    grid = {"name": placement.geometry.name, "digest": placement.geometry.digest}
    value = {"settings": placement.settings.model_dump(mode="json"), "grid": grid, "cells": listed}
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def restore(text: str, geometry: Geometry, table: Cells | None, where: Path) -> Placement:
    """The placement that :func:`describe` has described.

    Args:
        text: Its description.
        geometry: Any geometry with the layers of the showers.
        table: The table of cells, for showers that were placed with one.
        where: The file, for messages.

    Raises:
        DataError: Malformed, or placed with a table that is not the given one.
    """
    try:
        value = json.loads(text)
        settings = PlaceSettings(**value["settings"])
        listed = value["cells"]
        cells = table if "digest" in listed else _regular(listed, geometry.n_layers)
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise DataError(
            f"{where}: the record of the placement is malformed ({type(error).__name__})"
        ) from error
    if cells is None or ("digest" in listed and digest_json(cells.to_dict()) != listed["digest"]):
        raise DataError(
            f"{where}: placed with a table of cells, {'another one is' if table else 'none is'} given",
            hint="name the same table with --phases",
        )
    if settings.impact == "uniform":
        settings = settings.model_copy(update={"impact": "recorded"})
    return Placement(geometry, settings, cells)


def _regular(listed: dict[str, Any], n_layers: int) -> RegularCells:
    offsets = np.array(listed.get("offsets", np.zeros((n_layers, 2))), dtype=np.float64)
    return RegularCells(offsets.reshape(n_layers, 2), float(listed["width"]))
