"""What can be wrong with a CaloChallenge HDF5 file, each said in one line.

The HDF5 library's own messages never name the file; these name file, dataset, rule, expected against
found.
"""

from __future__ import annotations

__all__ = [
    "DATASETS",
    "DIGEST_ATTRIBUTE",
    "HDF5_ERRORS",
    "Layout",
    "check_file",
    "check_layout",
    "damaged",
    "match_geometry",
    "open_hdf5",
    "plain_value",
    "read_attributes",
    "require_inside",
]

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloray.errors import DataError, GeometryError
from caloray.geometry import Geometry, load_geometry, names
from caloray.io.known import by_name

DATASETS = ("incident_energies", "showers")
DIGEST_ATTRIBUTE = "caloray_geometry_digest"
SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_CHUNK_BYTES = 2**30
# What h5py raises on damaged structures, found by flipping every byte of a file.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, TypeError, ValueError)
AGAIN = "download the file again"
_HTML = re.compile(rb"^\s*<(!doctype\s+html|html|head|\?xml)", re.IGNORECASE)
_STORED = re.compile(r"eof = (\d+).*stored_eof = (\d+)")


@dataclass(frozen=True)
class Layout:
    """What the checks found out: number of showers, shape of one shower, the geometry."""

    n_showers: int
    row_shape: tuple[int, ...]
    geometry: Geometry


def check_file(path: Path) -> None:
    """Look at the file's first bytes, before the HDF5 library does.

    Raises:
        DataError: Missing, a directory, unreadable, empty, an HTML page, a git-LFS pointer, or not HDF5.
    """
    if path.is_dir():
        raise DataError(f"{path}: is a directory, expected an HDF5 file", hint="name the files inside it")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: is not a regular file, expected an HDF5 file")
    try:
        with path.open("rb") as file:
            head = file.read(1024)
            size = file.seek(0, 2)
            found = head.startswith(SIGNATURE) or _late_signature(file, size)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file", hint="check the path") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: cannot be read ({reason})", hint="check the file's permissions") from error
    if not found:
        what, hint = _describe(head, size)
        raise DataError(f"{path}: {what}, expected an HDF5 file{_published(path)}", hint=hint, bytes=size)


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file for reading after :func:`check_file`; the caller closes it.

    Raises:
        DataError: Any failure, among them truncation (with both sizes) and a lock held by another writer.
    """
    check_file(path)
    try:
        return h5py.File(path, "r", locking="best-effort")
    except HDF5_ERRORS as error:
        if isinstance(error, BlockingIOError) or "already open for write" in str(error):
            raise DataError(
                f"{path}: locked, it is open for writing or its writer was killed",
                hint="wait until the writer has closed the file; if none is running, make the file again",
            ) from error
        sizes = _STORED.search(str(error))
        if sizes:
            raise _truncated(path, int(sizes[1]), int(sizes[2])) from error
        raise damaged(path, "the HDF5 structure cannot be read", error) from error


def check_layout(path: Path, file: Any, geometry: Geometry | None) -> Layout:
    """Check datasets, dtypes, shapes and the voxel count.

    Raises:
        DataError: A dataset is missing, a link, virtual, of another dtype or shape, or lengths differ.
        GeometryError: The voxel count does not fit the geometry (names the one that would fit).
    """
    try:
        energies, showers = _datasets(path, file)
    except HDF5_ERRORS as error:
        raise damaged(path, "the HDF5 structure cannot be read", error) from error
    _check_shapes(path, energies, showers)
    row_shape = tuple(int(length) for length in showers.shape[1:])
    chosen = match_geometry(path, row_shape, geometry)
    recorded = read_attributes(path, file).get(DIGEST_ATTRIBUTE)
    if recorded is not None and recorded != chosen.digest:
        written, wanted = str(recorded)[:12], chosen.digest[:12]
        raise GeometryError(
            f"{path}: written for a geometry of digest {written}, not for {chosen.name} ({wanted})",
            hint="read it with the geometry that it was written for",
        )
    return Layout(len(showers), row_shape, chosen)


def read_attributes(path: Path, file: Any) -> dict[str, object]:
    """The file's attributes as plain Python: numbers, strings, lists.

    Raises:
        DataError: An attribute is damaged.
    """
    try:
        return {str(name): plain_value(value) for name, value in file.attrs.items()}
    except HDF5_ERRORS as error:
        raise damaged(path, "the attributes cannot be read", error) from error


def match_geometry(path: Path, row_shape: tuple[int, ...], geometry: Geometry | None) -> Geometry:
    """The geometry whose shower has this shape: flat, or (layer, alpha or x, r or y).

    Raises:
        GeometryError: No geometry fits, or the given one does not; names the one that would.
    """
    known = [load_geometry(name) for name in names()]
    fitting = [one for one in known if _fits(one, row_shape)]
    if geometry is not None and _fits(geometry, row_shape):
        return geometry
    if geometry is None and fitting:
        return fitting[0]
    shape = str(row_shape[0]) if len(row_shape) == 1 else f"{row_shape}"
    sizes = ", ".join(f"{one.name} {one.n_voxels}" for one in known)
    expected = f"{geometry.name} has {geometry.n_voxels}" if geometry else f"known: {sizes}"
    same_size = [one.name for one in known if len(row_shape) > 1 and one.n_voxels == _product(row_shape)]
    if fitting:
        hint = f"this is the size of {fitting[0].name}; choose that geometry"
    elif same_size:
        hint = f"the axes must be (layer, alpha or x, r or y); transpose them, or flatten to {same_size[0]}"
    else:
        hint = f"give the geometry of these showers as a file; sizes known by name: {sizes}"
    raise GeometryError(f"{path}, showers: {shape} voxels per shower, {expected}", hint=hint)


def damaged(path: Path, what: str, error: Exception) -> DataError:
    """The error for content that the HDF5 library refuses; its own text is kept."""
    reason = " ".join(str(error).split())
    return DataError(f"{path}: {what} ({reason}){_published(path)}", hint=f"the file is damaged; {AGAIN}")


def _truncated(path: Path, actual: int, expected: int) -> DataError:
    return DataError(
        f"{path}: truncated, {actual} bytes of {expected}{_published(path)}",
        hint=f"{AGAIN} (caloray data pull resumes and verifies)" if by_name(path.name) else AGAIN,
        bytes=actual,
        expected_bytes=expected,
    )


def _published(path: Path) -> str:
    """What a published file of this name should be, as the tail of a message."""
    known = by_name(path.name)
    if known is None:
        return ""
    size = f" and {known.size} bytes" if known.size else ""
    return f"; the published file has md5 {known.md5}{size}"


def _late_signature(file: Any, size: int) -> bool:
    """Whether the signature stands at 512, 1024, 2048 ..., after a user block."""
    offset = 512
    while offset < min(size, 2**24):
        file.seek(offset)
        if file.read(len(SIGNATURE)) == SIGNATURE:
            return True
        offset *= 2
    return False


_CONVERT = {b"PAR1": "Parquet: hits become HDF5 with `caloray place`, shards are read by their directory"}


def _describe(head: bytes, size: int) -> tuple[str, str]:
    if size == 0:
        return "empty file (0 bytes)", AGAIN
    if head.startswith(b"version https://git-lfs"):
        return "a git-LFS pointer, not the data", "run git lfs pull, or download the file itself"
    if _HTML.match(head):
        return "an HTML page, not the data", f"the link led to a web page; {AGAIN}"
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ")):
        return f"a packed archive ({size} bytes)", "unpack it first"
    if SIGNATURE.startswith(head[: len(SIGNATURE)]):
        return f"truncated to {size} bytes", AGAIN
    return f"not HDF5 ({size} bytes, starts with {head[:8]!r})", _CONVERT.get(
        head[:4], "check the path, or convert the file to HDF5"
    )


def _datasets(path: Path, file: Any) -> tuple[Any, Any]:
    present = sorted(str(name) for name in file)
    missing = [name for name in DATASETS if name not in present]
    if missing:
        wanted, found = ", ".join(DATASETS), ", ".join(present[:20]) or "nothing"
        raise DataError(
            f"{path}: no dataset {' and no '.join(missing)}; found {found}, expected {wanted}",
            hint="rename the datasets, or convert the file to the CaloChallenge layout",
        )
    return _dataset(path, file, DATASETS[0]), _dataset(path, file, DATASETS[1])


def _check_shapes(path: Path, energies: Any, showers: Any) -> None:
    if energies.ndim not in {1, 2} or energies.shape[1:] not in {(), (1,)}:
        raise DataError(f"{path}, incident_energies: shape {energies.shape}, expected (N, 1) or (N,)")
    if showers.ndim < 2:
        raise DataError(f"{path}, showers: shape {showers.shape}, expected (N, voxels)")
    if len(energies) != len(showers):
        swapped = showers.shape[1:] == (len(energies),)
        raise DataError(
            f"{path}: {len(energies)} incident_energies but {len(showers)} showers, expected equal lengths",
            hint="showers look transposed; expected (N, voxels)"
            if swapped
            else "the file was not written completely; make or download it again",
        )
    if len(showers) == 0:
        raise DataError(f"{path}: holds no showers", hint="make or download the file again")


def _dataset(path: Path, file: Any, name: str) -> Any:
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise DataError(
            f"{path}, {name}: is a link to other data, which is refused",
            hint="copy the data into the file",
        )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{path}, {name}: is a group, expected a dataset")
    if dataset.dtype.kind != "f" and not (dataset.is_virtual or dataset.external):
        raise DataError(f"{path}, {name}: dtype {dataset.dtype}, expected floating-point energies in MeV")
    require_inside(path, name, dataset)
    return dataset


def require_inside(path: Path, name: str, dataset: Any) -> None:
    """Refuse a dataset that keeps its data in other files, or in chunks too large to unpack.

    Raises:
        DataError: Naming file and dataset.
    """
    if dataset.is_virtual or dataset.external:
        raise DataError(
            f"{path}, {name}: keeps its data in other files, which is refused",
            hint="copy the data into the file",
        )
    chunk = _product(dataset.chunks or ()) * dataset.dtype.itemsize
    if chunk > MAX_CHUNK_BYTES:
        raise DataError(
            f"{path}, {name}: HDF5 chunks of {chunk} bytes, at most {MAX_CHUNK_BYTES}",
            hint="write the file again with smaller chunks",
        )


def _fits(geometry: Geometry, row_shape: tuple[int, ...]) -> bool:
    if len(row_shape) == 1:
        return row_shape[0] == geometry.n_voxels
    grid = (geometry.n_layers, *geometry.layers[0].shape)
    return geometry.uniform and row_shape == grid


def _product(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= int(length)
    return total


def plain_value(value: Any) -> object:
    """An attribute as plain Python."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
