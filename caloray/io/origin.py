"""Where reference showers came from: their files, and the CPU time that Geant4 took to make them."""

from __future__ import annotations

__all__ = ["ATTRIBUTE", "Geant4Time", "geant4_time", "origin_files"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from caloray.errors import GeometryError
from caloray.geometry import Geometry
from caloray.io.challenge import ChallengeFile
from caloray.io.ingest_plan import describe_file
from caloray.io.manifest import MANIFEST, Manifest

ATTRIBUTE = "cpu_s"
"""HDF5 attribute of the root group: CPU seconds of the simulation of all showers in the file."""


@dataclass(frozen=True)
class Geant4Time:
    """What the full simulation of some showers cost.

    Args:
        seconds: CPU seconds per shower, mean over all showers of the files.
        showers: Showers in these files.
        files: Their names.
        energies: Lowest and highest incident energy [MeV] that the files' attributes ``emin`` and ``emax``
            tell, None where they do not.
        note: What the files themselves say about the number (attribute ``cpu_s_note``).
    """

    seconds: float
    showers: int
    files: tuple[str, ...]
    energies: tuple[float, float] | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"files": list(self.files), "attribute": ATTRIBUTE}


def geant4_time(path: Path, geometry: Geometry | None = None) -> Geant4Time | None:
    """CPU seconds per shower that Geant4 needed for the showers of a file or of ingested shards.

    The time is the one that the simulation stored in the attribute ``cpu_s`` of every file. Shards keep the
    attributes of the files that they were made from; the showers counted are then those of the files,
    whatever was dropped or split off afterwards.

    Args:
        path: A CaloChallenge HDF5 file, a directory of shards, or its manifest.
        geometry: The readout that the showers must have; any when None.

    Returns:
        None where a file has no such attribute, or one that is not a positive number.

    Raises:
        DataError: The file cannot be read.
        GeometryError: The showers have another readout.
        IntegrityError: The directory has no sound manifest.
    """
    files = _manifest_files(path, geometry) if _is_directory(path) else [_attributes_of(path, geometry)]
    times = [_seconds(file) for file in files]
    if not times or any(time is None for time in times):
        return None
    showers = sum(int(file["rows"]) for file in files)
    if showers < 1:
        return None
    notes = {str(file["attrs"].get(f"{ATTRIBUTE}_note", "")) for file in files} - {""}
    return Geant4Time(
        seconds=math.fsum(time for time in times if time is not None) / showers,
        showers=showers,
        files=tuple(str(file["name"]) for file in files),
        energies=_energies(files),
        note="; ".join(sorted(notes)),
    )


def origin_files(path: Path) -> list[dict[str, Any]]:
    """The original files behind showers: name, sha256, md5, rows and the published data set, if any.

    A file is hashed whole. Generated shards have no original files.

    Args:
        path: A CaloChallenge HDF5 file, a directory of shards, or its manifest.

    Raises:
        DataError: The file cannot be read.
        IntegrityError: The directory has no sound manifest.
    """
    files = _manifest_files(path) if _is_directory(path) else [describe_file(path)[0].described()]
    return [{key: file.get(key) for key in ("name", "sha256", "md5", "rows", "dataset")} for file in files]


def _is_directory(path: Path) -> bool:
    return path.is_dir() or path.name == MANIFEST


def _manifest_files(path: Path, geometry: Geometry | None = None) -> list[dict[str, Any]]:
    manifest = Manifest.load(path.parent if path.name == MANIFEST else path)
    if geometry is not None and manifest.geometry_digest != geometry.digest:
        raise GeometryError(
            f"{path}: geometry {manifest.readout.name} ({manifest.geometry_digest[:12]}), expected "
            f"{geometry.name} ({geometry.digest[:12]})",
            hint="give Geant4 showers of the same readout",
        )
    return [dict(source) for source in manifest.sources]


def _attributes_of(path: Path, geometry: Geometry | None) -> dict[str, Any]:
    with ChallengeFile.open(path, geometry) as file:
        return {"name": path.name, "rows": file.n_showers, "attrs": dict(file.attrs)}


def _seconds(file: Mapping[str, Any]) -> float | None:
    return _positive(_attrs(file).get(ATTRIBUTE))


def _energies(files: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    low = [_positive(_attrs(file).get("emin")) for file in files]
    high = [_positive(_attrs(file).get("emax")) for file in files]
    found_low, found_high = [v for v in low if v is not None], [v for v in high if v is not None]
    if len(found_low) < len(files) or len(found_high) < len(files):
        return None
    return min(found_low), max(found_high)


def _attrs(file: Mapping[str, Any]) -> Mapping[str, Any]:
    attrs = file.get("attrs")
    return attrs if isinstance(attrs, Mapping) else {}


def _positive(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None
