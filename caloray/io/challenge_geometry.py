"""The geometry in a CaloChallenge file, where it is none of those known by name.

A dataset ``caloray_geometry`` of one string (JSON); readers of the challenge leave it alone.
"""

from __future__ import annotations

__all__ = ["find_geometry", "write_geometry"]

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloray.errors import DataError, GeometryError
from caloray.geometry import Geometry, load_geometry, names
from caloray.io.challenge_checks import HDF5_ERRORS

DATASET = "caloray_geometry"
MAX_BYTES = 2**24


def write_geometry(file: Any, geometry: Geometry) -> None:
    """Store ``geometry`` in an open HDF5 file, unless it can be loaded by name."""
    if any(load_geometry(name).digest == geometry.digest for name in names()):
        return
    text = json.dumps(geometry.to_dict(), sort_keys=True).encode()
    file.create_dataset(DATASET, data=np.array([text]), compression="gzip")


def find_geometry(path: Path, file: Any) -> Geometry | None:
    """The geometry that an open HDF5 file carries, or None.

    Raises:
        DataError: It is there, but cannot be understood.
    """
    try:
        link = file.get(DATASET, getlink=True)
        return None if link is None else _read(file, link)
    except (AttributeError, GeometryError, *HDF5_ERRORS) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}, {DATASET}: not a geometry ({reason})",
            hint="give the geometry of these showers as a file",
        ) from error


def _read(file: Any, link: object) -> Geometry:
    if not isinstance(link, h5py.HardLink):
        raise GeometryError("a link")
    dataset = file[DATASET]
    if dataset.shape != (1,) or dataset.dtype.kind != "S" or dataset.dtype.itemsize > MAX_BYTES:
        raise GeometryError(f"shape {dataset.shape} of {dataset.dtype}, expected one string")
    return Geometry.from_dict(json.loads(dataset[0]))
