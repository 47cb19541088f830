"""Showers as a ROOT file, written with uproot: a TTree or an RNTuple of the name ``showers``.

One entry per shower: ``event_id``, ``incident_energy`` [MeV], ``condition_<name>`` and further columns as in
a sparse shard, then the lists ``voxel`` (int32, flat index, ascending) and ``energy`` (float32, MeV) of the
voxels that were hit; in a TTree the branch ``hits`` counts them. A string ``caloray`` holds the geometry and
where the showers come from, as JSON. ROOT files contain the time and a random number: same showers, same
content, but not the same bytes.
"""

from __future__ import annotations

__all__ = ["TREE", "RootKind", "write_root"]

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np

from caloray import __version__
from caloray.atomic import sha256_file, staging
from caloray.errors import ConfigError, DataError
from caloray.geometry import Geometry
from caloray.io.shard_layout import EVENT_ID, INCIDENT_ENERGY, condition_column
from caloray.io.sparse import SparseShowers
from caloray.io.sparse_columns import LISTS

RootKind = Literal["tree", "rntuple"]

TREE = "showers"
ROWS = 8192
HITS = 1 << 24
"""Showers, or hits, that are written at once: small pieces make ROOT files large and slow."""


def write_root(
    path: Path,
    geometry: Geometry,
    chunks: Iterable[SparseShowers],
    kind: RootKind = "tree",
    attrs: Mapping[str, str | int | float] | None = None,
) -> str:
    """Write showers as a ROOT file, streamed and atomic, and return the file's sha256.

    Args:
        path: The file to make or replace.
        geometry: Geometry of the showers.
        chunks: The showers, in any number of parts, all with the same columns.
        kind: ``tree`` for a TTree, ``rntuple`` for an RNTuple (ROOT 6.34 and later).
        attrs: Facts to store with the geometry.

    Raises:
        ConfigError: uproot is not installed.
        DataError: No showers, or hits outside the geometry.
        StorageError: The disk is full or not writable.
    """
    path = Path(path)
    uproot, awkward = _libraries()
    described = {"caloray_version": __version__, "geometry": geometry.to_dict(), **(attrs or {})}
    with staging(path) as temporary:
        # An open file: uproot would look for a colon in a name.
        with temporary.open("w+b") as raw, uproot.recreate(raw, compression=uproot.ZSTD(1)) as file:
            file["caloray"] = json.dumps(described, sort_keys=True)
            target = None
            for part in _pieces(chunks):
                part.check(geometry.n_voxels, str(path))
                table = _table(part, awkward)
                if target is None:
                    target = _start(file, kind, part)
                target.extend(table)
            if target is None:
                raise DataError(f"{path}: no showers to write", hint="generate or select at least one")
        return sha256_file(temporary)


def _libraries() -> tuple[ModuleType, ModuleType]:
    try:
        import awkward
        import uproot
    except ImportError as error:
        raise ConfigError(
            f"ROOT files need the library {error.name}, which is not installed",
            hint="pip install 'caloray[root]'",
        ) from error
    return uproot, awkward


def _scalars(showers: SparseShowers) -> dict[str, np.ndarray]:
    return {
        EVENT_ID: showers.ids,
        INCIDENT_ENERGY: showers.incident_energies,
        **{condition_column(name): values for name, values in showers.conditions.items()},
        **showers.extras,
    }


def _start(file: Any, kind: RootKind, showers: SparseShowers) -> Any:
    """The empty tree or tuple for showers with these columns."""
    types: dict[str, Any] = {name: values.dtype for name, values in _scalars(showers).items()}
    types |= dict(zip(LISTS, ("var * int32", "var * float32"), strict=True))
    title = "voxel energies in MeV"
    if kind == "rntuple":
        return file.mkrntuple(TREE, types, title)
    return file.mktree(TREE, types, title, counter_name=lambda _: "hits")


def _table(showers: SparseShowers, awkward: Any) -> dict[str, Any]:
    """The columns of some showers: arrays of numbers, and lists."""
    offsets = awkward.index.Index64(showers.starts)
    lists = [
        awkward.Array(awkward.contents.ListOffsetArray(offsets, awkward.contents.NumpyArray(values)))
        for values in (np.ascontiguousarray(showers.voxels), np.ascontiguousarray(showers.energies))
    ]
    return {**_scalars(showers), **dict(zip(LISTS, lists, strict=True))}


def _pieces(chunks: Iterable[SparseShowers]) -> Iterator[SparseShowers]:
    """Join parts until they are worth writing."""
    waiting: list[SparseShowers] = []
    for chunk in chunks:
        waiting += [chunk] if len(chunk) else []
        if sum(map(len, waiting)) >= ROWS or sum(len(part.voxels) for part in waiting) >= HITS:
            yield SparseShowers.concatenate(waiting)
            waiting = []
    if waiting:
        yield SparseShowers.concatenate(waiting)
