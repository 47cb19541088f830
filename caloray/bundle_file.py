"""``bundle.json``: its form, its checks, and the safe reading of the files that it names."""

from __future__ import annotations

__all__ = [
    "FORMAT",
    "BundleFile",
    "ComponentEntry",
    "FileEntry",
    "GoldenEntry",
    "read_bundle_file",
    "write_bundle_file",
]

import json
import struct
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from caloray.atomic import digest_json, sha256_file, write_json
from caloray.errors import BundleError, GeometryError
from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.build import SchemeConfig

FORMAT = 1
MAX_JSON = 8 << 20
MAX_TENSORS = 100_000
DETERMINING = ("format", "scheme", "seed", "statistics", "geometry_digest", "block_size", "components")
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Frozen):
    """One file of a bundle: relative path, sha256 and size."""

    path: str
    sha256: str
    bytes: int = Field(ge=0)

    def checked(self, directory: Path) -> Path:
        """The file's path after its name, size and hash were checked.

        Raises:
            BundleError: The name leads out of the bundle, or the file is missing, a pickle or altered.
        """
        relative = PurePosixPath(self.path)
        file = directory / relative
        inside = "\0" not in self.path and file.resolve().is_relative_to(directory.resolve())
        if relative.is_absolute() or ".." in relative.parts or not inside:
            raise BundleError(f"{directory}: file name {self.path!r} leads out of the bundle")
        if relative.suffix != ".safetensors":
            raise BundleError(f"{file}: only .safetensors files are read from a bundle")
        if not file.is_file():
            raise BundleError(f"{file}: missing", hint="copy the whole bundle again")
        size = file.stat().st_size
        if size != self.bytes:
            raise BundleError(f"{file}: {size} bytes, expected {self.bytes}", hint="copy the bundle again")
        found = sha256_file(file)
        if found != self.sha256:
            raise BundleError(
                f"{file}: sha256 {found[:16]}, expected {self.sha256[:16]}", hint="copy the bundle again"
            )
        _check_header(file, size)
        return file


class ComponentEntry(FileEntry):
    """Weights of one component and its dimensions."""

    parameters: int
    features: int
    context_features: int


class GoldenEntry(FileEntry):
    """A few showers, the request that made them, and what the bits depend on."""

    seed: int
    energies: tuple[float, ...]
    numerics: dict[str, str]


class BundleFile(_Frozen):
    """Content of ``bundle.json``.

    ``digest`` is the sha256 over everything that determines the showers (equal digests, equal showers),
    taken from the file as it was written, so that it outlives new settings with defaults; ``sha256`` is
    that of all other keys.
    """

    format: int
    caloray: str
    scheme: SchemeConfig
    seed: int
    statistics: TrainingStatistics
    geometry: dict[str, Any]
    geometry_digest: str
    block_size: int = Field(ge=1, le=1 << 16)
    components: dict[str, ComponentEntry]
    golden: GoldenEntry | None
    info: dict[str, Any]
    digest: str = ""
    sha256: str | None = None

    @cached_property
    def readout(self) -> Geometry:
        """The geometry as an object."""
        return Geometry.from_dict(self.geometry)


def write_bundle_file(directory: Path, file: BundleFile) -> None:
    """Write ``bundle.json`` with its own hash in it."""
    value = file.model_dump(mode="json", exclude={"sha256", "digest"})
    value["digest"] = _showers_digest(value)
    write_json(directory / "bundle.json", {**value, "sha256": digest_json(value)})


def _showers_digest(value: dict[str, Any]) -> str:
    return digest_json({name: value[name] for name in DETERMINING})


def read_bundle_file(directory: Path) -> BundleFile:
    """Read and check ``bundle.json``.

    Raises:
        BundleError: Not a bundle, a pickle, malformed, or of a newer format.
    """
    if directory.suffix in PICKLES or (directory.is_file() and _is_pickle(directory)):
        raise BundleError(
            f"{directory}: a pickle, which could run any code, is not a bundle",
            hint="bundles are directories with bundle.json, made by `caloray train`",
        )
    file = directory / "bundle.json"
    if not file.is_file():
        raise BundleError(f"{directory}: no bundle.json", hint="give the directory that `caloray train` made")
    if file.stat().st_size > MAX_JSON:
        raise BundleError(f"{file}: larger than {MAX_JSON} bytes")
    parsed = _parse(file)
    if parsed.readout.digest != parsed.geometry_digest:
        raise BundleError(f"{file}: geometry does not match its digest", hint="copy the bundle again")
    return parsed


def _parse(file: Path) -> BundleFile:
    try:
        value = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not JSON ({error})", hint="copy the bundle again") from error
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise BundleError(f"{file}: format {found!r}, this caloray reads {FORMAT}", hint="update caloray")
    try:
        own = digest_json({key: item for key, item in value.items() if key != "sha256"})
        parsed = BundleFile.model_validate(value)
        _ = parsed.readout
        intact = parsed.digest == _showers_digest(value) and parsed.sha256 in {own, None}
    except (ValueError, RecursionError, GeometryError) as error:
        first = str(error).replace("\n", " ")[:200]
        raise BundleError(f"{file}: malformed ({first})", hint="copy the bundle again") from error
    if not intact:
        raise BundleError(f"{file}: differs from the sha256 that it holds", hint="copy the bundle again")
    return parsed


def _check_header(file: Path, size: int) -> None:
    """Refuse a safetensors header that could not describe this file, before anything is allocated."""
    with file.open("rb") as handle:
        start = handle.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        header = handle.read(length) if length < min(size, MAX_JSON) else b"{"
    try:
        tensors = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not a safetensors file", hint="copy the bundle again") from error
    if len(tensors) > MAX_TENSORS:
        raise BundleError(f"{file}: {len(tensors)} tensors, more than the {MAX_TENSORS} allowed")


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as handle:
        start = handle.read(4)
    return start[:1] == b"\x80" or start[:2] == b"PK"
