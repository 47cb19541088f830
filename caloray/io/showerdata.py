"""Showers as point clouds in the HDF5 schema of the ``showerdata`` library (0.7), written with h5py alone.

``showers`` (N,) lists of float32 with x [mm], y [mm], layer, energy [GeV] of one point after the other,
``energies`` (N, 1) [GeV], ``directions`` (N, 3), ``pdg`` (N,), ``shower_ids`` (N,), ``num_points`` (N,) and
``shape`` (3,) = (N, most points of a shower, 4). Further columns of the showers lie in the group ``caloray``
with their exact event ids, which the library leaves alone.

What is approximate: a voxel becomes one point in its middle, so the place within the voxel is lost. In
cylindrical readouts the middle is that of angle and radius; a voxel that goes all round has the right radius
and an arbitrary angle. Layers are counted 0, 1, 2 ... as the library does, whatever number the detector gives
them; it knows no depths. Energies are rounded to float32 once more. Where nothing tells the particle's
direction it is (0, 0, 1), where nothing tells its kind it is that of the geometry, or 0.
"""

from __future__ import annotations

__all__ = ["write_showerdata"]

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloray import __version__
from caloray.atomic import require_space, sha256_file, staging
from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.io.hdf5 import CHUNK_ROWS, ColumnWriter, new_file
from caloray.io.sparse import SparseShowers
from caloray.showers import DIRECTION

SCHEMA_VERSION = "0.7.0"
GEV = 1e-3
FEATURES = 4
PDG = {"photon": 22, "electron": 11, "positron": -11, "pion": 211}
"""Kinds of particle that geometries name."""
MAX_ID = 2**31 - 1
MARGIN_BYTES = 2**24


def write_showerdata(
    path: Path,
    geometry: Geometry,
    chunks: Iterable[SparseShowers],
    attrs: Mapping[str, str | int | float] | None = None,
) -> str:
    """Write showers as point clouds, streamed and atomic, and return the file's sha256.

    Points stand in the order of the voxels. Those whose energy is nothing in GeV and float32 are left out:
    the library would take one for the end of the shower.

    Args:
        path: The file to make or replace.
        geometry: Geometry of the showers.
        chunks: The showers, in any number of parts; energies finite and not negative.
        attrs: Attributes to store beside those of the schema.

    Raises:
        DataError: No showers, energies that are no energies, or ids that do not fit into 32 bits.
        StorageError: The disk is full or not writable.
    """
    path = Path(path)
    centres = _centres(geometry)
    with staging(path) as temporary:
        with new_file(temporary, path) as (file, patient):
            file.attrs["showerdata_version"] = SCHEMA_VERSION
            facts = {"caloray_version": __version__, "caloray_geometry": geometry.name, **(attrs or {})}
            for name, value in sorted(facts.items()):
                file.attrs[name] = value
            showers = file.create_dataset(
                "showers", (0,), h5py.vlen_dtype(np.dtype("<f4")), maxshape=(None,), chunks=(CHUNK_ROWS,)
            )
            columns, extras = ColumnWriter(file), ColumnWriter(file.create_group("caloray"))
            most = 0
            for chunk in filter(len, chunks):
                points, counts = points_of(chunk, centres)
                require_space(path.parent, points.nbytes + MARGIN_BYTES)
                _append(showers, np.split(points.reshape(-1), FEATURES * np.cumsum(counts)[:-1]))
                columns.append(_columns(chunk, counts, PDG.get(geometry.particle, 0)))
                extras.append({"event_id": chunk.ids, **chunk.extras})
                most = max(most, int(counts.max(initial=0)))
                patient.check()
            if not len(showers):
                raise DataError(f"{path}: no showers to write", hint="generate or select at least one")
            file.create_dataset("shape", data=np.array([len(showers), most, FEATURES], np.int32))
        return sha256_file(temporary)


def points_of(showers: SparseShowers, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of some showers.

    Args:
        showers: n of them.
        centres: (n_voxels, 3) x [mm], y [mm] and layer of each voxel.

    Returns:
        (points, 4) float32 with energies in GeV, and (n,) int32 points of each shower.

    Raises:
        DataError: An energy that is negative or not finite, or a voxel outside the geometry.
    """
    showers.check(len(centres))
    if not np.isfinite(showers.energies).all() or (showers.energies < 0).any():
        raise DataError("showers with energies that are negative or not finite are no point clouds")
    energies = (showers.energies.astype(np.float64) * GEV).astype(np.float32)
    kept = energies > 0
    points = np.empty((int(kept.sum()), FEATURES), np.float32)
    points[:, :3] = centres[showers.voxels[kept]]
    points[:, 3] = energies[kept]
    return points, np.bincount(showers.rows[kept], minlength=len(showers)).astype(np.int32)


def _centres(geometry: Geometry) -> np.ndarray:
    """(n_voxels, 3) float32 x [mm], y [mm] and layer of each voxel."""
    parts = []
    for layer in range(geometry.n_layers):
        first, second = geometry.centres(layer)
        if geometry.kind == "cylindrical":
            first, second = second * np.cos(first), second * np.sin(first)
        parts.append(np.stack([first, second, np.full(len(first), layer)], axis=1))
    return np.concatenate(parts).astype(np.float32)


def _append(dataset: Any, clouds: list[np.ndarray]) -> None:
    before = len(dataset)
    dataset.resize(before + len(clouds), axis=0)
    dataset[before:] = clouds  # a list: h5py takes an array of equally long arrays for a table


def _columns(showers: SparseShowers, counts: np.ndarray, particle: int) -> dict[str, np.ndarray]:
    """What the schema wants to know of each shower."""
    if len(showers) and (showers.ids.min() < 0 or showers.ids.max() > MAX_ID):
        raise DataError(
            f"event id {showers.ids.max()} does not fit into the 32 bits of this format",
            hint="merge a smaller campaign, or into another format",
        )
    directions = np.zeros((len(showers), 3), np.float32)
    directions[:, 2] = 1
    if set(DIRECTION) <= set(showers.conditions):
        directions = np.stack([showers.conditions[name] for name in DIRECTION], axis=1).astype(np.float32)
    pdg = np.full(len(showers), particle, np.int32)
    if "pdg" in showers.extras:
        told = showers.extras["pdg"].astype(np.int32)
        pdg = np.where(told != 0, told, pdg)
    return {
        "energies": (showers.incident_energies * GEV).astype(np.float32)[:, None],
        "directions": directions,
        "pdg": pdg,
        "shower_ids": showers.ids.astype(np.int32),
        "num_points": counts,
    }
