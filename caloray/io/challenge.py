"""CaloChallenge HDF5 files, read and written in row chunks.

Two datasets: ``incident_energies`` (N, 1) and ``showers`` (N, voxels), both MeV, gzip-compressed, the
voxels in the flat order of :mod:`caloray.geometry`; those of :mod:`caloray.io.challenge_conditions` where the
particles have a direction or other scalars, and :mod:`caloray.io.challenge_geometry` where the geometry has
no known name. A file never sits in memory whole.
"""

from __future__ import annotations

__all__ = ["ChallengeFile", "write_challenge"]

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from caloray import __version__
from caloray.atomic import require_space, sha256_file, staging
from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.io.challenge_checks import (
    DIGEST_ATTRIBUTE,
    HDF5_ERRORS,
    check_layout,
    damaged,
    open_hdf5,
    read_attributes,
)
from caloray.io.challenge_conditions import ConditionWriter, find_conditions
from caloray.io.challenge_geometry import find_geometry, write_geometry
from caloray.io.hdf5 import ColumnWriter, new_file
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

MAX_CACHE_BYTES = 256 * 2**20
MIN_CACHE_BYTES = 2**20
CACHE_SLOTS = 20_011
CHUNK_BYTES = 2**22
ENERGY_ROWS = 1024
MARGIN_BYTES = 2**24


class ChallengeFile:
    """An open CaloChallenge file; use it as a context manager.

    Args:
        path: The file, for messages.
        file: The open h5py file, closed by :meth:`close`.
        geometry: Layers and voxels of its showers; None takes the one that the file carries, or the shipped
            one with this number of voxels.

    Raises:
        DataError: As :meth:`open`.
    """

    def __init__(self, path: Path, file: Any, geometry: Geometry | None = None) -> None:
        self.path = path
        self._file = file
        self._layout = check_layout(path, file, geometry or find_geometry(path, file))
        self._energies = file["incident_energies"]
        self._showers = _cached(file, "showers")
        self._conditions = find_conditions(path, file, self._layout.n_showers)
        self.attrs = read_attributes(path, file)

    @staticmethod
    def open(path: Path, geometry: Geometry | None = None) -> ChallengeFile:
        """Open a file for reading, after all checks that do not need the voxels themselves.

        Raises:
            DataError: One line that names file, dataset and rule: missing, truncated, not HDF5, wrong keys,
                shapes or dtypes, links to other files, locked by a writer.
            GeometryError: The number of voxels fits no geometry, or not the given one.
        """
        path = Path(path)
        file = open_hdf5(path)
        try:
            return ChallengeFile(path, file, geometry)
        except BaseException:
            file.close()
            raise

    @property
    def geometry(self) -> Geometry:
        """The geometry of the showers."""
        return self._layout.geometry

    @property
    def n_showers(self) -> int:
        """Number of showers in the file."""
        return self._layout.n_showers

    @property
    def conditions(self) -> dict[str, str]:
        """Unit of each condition in the file, by name."""
        return dict(self._conditions.units)

    @property
    def dtype(self) -> str:
        """Number type of the voxels in the file ("float32", "float64")."""
        return str(self._showers.dtype)

    def __len__(self) -> int:
        """Number of showers in the file."""
        return self.n_showers

    def read(self, start: int, stop: int) -> Showers:
        """The showers of rows ``start`` to ``stop`` (excluded); their ids are the row numbers.

        Raises:
            DataError: The rows are not in the file, or their data are damaged.
        """
        if not 0 <= start <= stop <= self.n_showers:
            raise DataError(f"{self.path}: rows {start} to {stop} asked, the file has {self.n_showers}")
        count = stop - start
        energies = np.empty((count, *self._energies.shape[1:]), dtype=np.float64)
        voxels = np.empty((count, *self._layout.row_shape), dtype=np.float32)
        if count:
            try:
                self._energies.read_direct(energies, np.s_[start:stop])
                self._showers.read_direct(voxels, np.s_[start:stop])
            except HDF5_ERRORS as error:
                raise damaged(self.path, f"rows {start} to {stop - 1} cannot be read", error) from error
        ids = np.arange(start, stop, dtype=np.int64)
        flat = voxels.reshape(count, self.geometry.n_voxels)
        return Showers(energies.reshape(count), flat, ids, self._conditions.read(start, stop))

    def energies(self, start: int, stop: int) -> np.ndarray:
        """(stop - start,) float64 incident energies [MeV] of rows ``start`` to ``stop`` (excluded).

        Raises:
            DataError: Their data are damaged.
        """
        try:
            return np.asarray(self._energies[start:stop], dtype=np.float64).reshape(stop - start)
        except HDF5_ERRORS as error:
            raise damaged(self.path, f"rows {start} to {stop - 1} cannot be read", error) from error

    def chunks(self, rows: int = 1000, start: int = 0, stop: int | None = None) -> Iterator[Showers]:
        """Read rows ``start`` to ``stop`` (excluded) in order, ``rows`` at a time.

        The last chunk may be shorter. HDF5 chunks that two reads share stay unpacked in between, so
        none is unpacked twice.
        """
        end = self.n_showers if stop is None else stop
        for first in range(start, end, rows):
            yield self.read(first, min(first + rows, end))

    def close(self) -> None:
        """Close the file; reading from it afterwards is an error."""
        self._file.close()

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def write_challenge(
    path: Path,
    geometry: Geometry,
    chunks: Iterable[Showers | SparseShowers],
    attrs: Mapping[str, str | int | float] | None = None,
    units: Mapping[str, str] | None = None,
) -> str:
    """Write showers as a CaloChallenge file, streamed and atomic; equal showers give equal bytes.

    How the showers are cut into ``chunks`` does not matter. Ids are not stored: row numbers take their place.
    Where sparse showers have extra columns, these become datasets of their names, beside ``event_id``;
    readers of the challenge leave them alone.

    Args:
        path: The file to make or replace.
        geometry: Geometry of the showers; its name and digest are stored as attributes, and all of it where
            it is none of those known by name.
        chunks: The showers, in any number of parts, all dense or all sparse.
        attrs: More attributes to store.
        units: Units of the conditions that the showers carry, by name.

    Returns:
        sha256 of the file.

    Raises:
        DataError: There are no showers, they do not have the geometry's number of voxels, or some have other
            conditions than the rest.
        StorageError: The disk is full or not writable.
    """
    path = Path(path)
    rows = _rows_per_chunk(geometry)
    with staging(path) as temporary:
        with new_file(temporary, path) as (file, patient):
            for name, value in _attributes(geometry, attrs or {}).items():
                file.attrs[name] = value
            write_geometry(file, geometry)
            energies = _extendible(file, "incident_energies", 1, ENERGY_ROWS)
            voxels = _extendible(file, "showers", geometry.n_voxels, rows)
            written, conditions, columns = 0, None, ColumnWriter(file)
            for block in _blocks(chunks, geometry, rows):
                require_space(path.parent, 4 * len(block) * geometry.n_voxels + MARGIN_BYTES)
                _append(energies, block.incident_energies[:, None])
                _append(voxels, block.voxels if isinstance(block, Showers) else _dense(block, geometry))
                if conditions is None:
                    conditions = ConditionWriter(file, list(block.conditions), units or {})
                conditions.append(block.conditions)
                if isinstance(block, SparseShowers) and block.extras:
                    columns.append({"event_id": block.ids, **block.extras})
                patient.check()
                written += len(block)
            if not written:
                raise DataError(f"{path}: no showers to write", hint="generate or select at least one")
        return sha256_file(temporary)


def _attributes(geometry: Geometry, more: Mapping[str, str | int | float]) -> dict[str, str | int | float]:
    own: dict[str, str | int | float] = {
        "caloray_version": __version__,
        "caloray_geometry": geometry.name,
        DIGEST_ATTRIBUTE: geometry.digest,
    }
    return {**dict(sorted(more.items())), **own}


def _rows_per_chunk(geometry: Geometry) -> int:
    """Rows of an HDF5 chunk of about 4 MiB: a power of two, so that energies and showers end together."""
    fitting = max(1, min(ENERGY_ROWS, CHUNK_BYTES // (4 * geometry.n_voxels)))
    return int(2 ** (fitting.bit_length() - 1))


def _extendible(file: Any, name: str, width: int, rows: int) -> Any:
    return file.create_dataset(
        name,
        shape=(0, width),
        maxshape=(None, width),
        chunks=(rows, width),
        dtype="<f4",
        compression="gzip",
        compression_opts=1,
    )


def _append(dataset: Any, values: np.ndarray) -> None:
    before = len(dataset)
    dataset.resize(before + len(values), axis=0)
    dataset[before:] = values.astype(np.float32, copy=False)


def _dense(showers: SparseShowers, geometry: Geometry) -> np.ndarray:
    return showers.dense(geometry.n_voxels).voxels


def _blocks(
    chunks: Iterable[Showers | SparseShowers], geometry: Geometry, rows: int
) -> Iterator[Showers | SparseShowers]:
    """Cut showers anew into blocks of exactly ``rows`` (the last may be shorter)."""
    waiting: list[Any] = []
    count = 0
    for chunk in chunks:
        if isinstance(chunk, Showers) and chunk.voxels.shape[1] != geometry.n_voxels:
            found = chunk.voxels.shape[1]
            raise DataError(f"showers of {found} voxels, geometry {geometry.name} has {geometry.n_voxels}")
        first = 0
        while first < len(chunk):
            taken = min(rows - count, len(chunk) - first)
            waiting.append(chunk.select(slice(first, first + taken)))
            first, count = first + taken, count + taken
            if count == rows:
                yield waiting[0].concatenate(waiting)
                waiting, count = [], 0
    if waiting:
        yield waiting[0].concatenate(waiting)


def _cached(file: Any, name: str) -> Any:
    """Open a dataset with a chunk cache for the HDF5 chunks that one row touches, within bounds."""
    dataset = file[name]
    rows = dataset.chunks[0] if dataset.chunks else 1
    band = rows * int(np.prod(dataset.shape[1:])) * dataset.dtype.itemsize
    del dataset  # a dataset that is open already would keep its own cache
    access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
    access.set_chunk_cache(CACHE_SLOTS, min(max(2 * band, MIN_CACHE_BYTES), MAX_CACHE_BYTES), 1.0)
    return h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))
