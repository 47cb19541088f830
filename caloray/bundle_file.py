"""``bundle.json``: its form, its checks, and safe reading and writing of the files that it names."""

from __future__ import annotations

__all__ = [
    "FORMAT",
    "BundleFile",
    "ComponentEntry",
    "FileEntry",
    "GoldenEntry",
    "GoldenReport",
    "QualityEntry",
    "load_flow",
    "load_quality",
    "load_tensors",
    "read_bundle_file",
    "save_component",
    "write_bundle_file",
    "write_quality_entry",
]

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
from nflows.flows.base import Flow
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
)
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from caloray.atomic import digest_json, sha256_file, write_json
from caloray.errors import BundleError, ConfigError, DataError, GeometryError
from caloray.flows.inverse import Backend, resolve
from caloray.geometry import Geometry
from caloray.postprocess.steps import PostProcessing, require_known
from caloray.preprocess.statistics import TrainingStatistics
from caloray.quality.layout import Layout
from caloray.quality.reference import QualityReference
from caloray.schemes.build import Scheme, SchemeConfig

FORMAT = 1
MAX_JSON = 8 << 20
MAX_TENSORS = 100_000
DETERMINING = ("format", "scheme", "seed", "statistics", "geometry_digest", "block_size", "components")
DERIVED = (".mask", ".degrees")
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
    """A few showers, the request that made them, and what the bits depend on; no key for no conditions."""

    seed: int
    energies: tuple[float, ...]
    numerics: dict[str, str]
    conditions: dict[str, tuple[float, ...]] = {}

    def table(self, names: Sequence[str]) -> np.ndarray | None:
        """(n, P) conditions of the golden showers in the model's order; None where there are none."""
        if not names or set(names) - set(self.conditions):
            return None
        return np.array([self.conditions[name] for name in names]).T

    def backend(self) -> Backend:
        """The back-end that made the golden showers where it is at hand, so that bits can be compared."""
        made_with = self.numerics.get("backend", "torch").partition(" ")[0]
        named: list[Backend] = [name for name in get_args(Backend) if name == made_with]
        try:
            return resolve(named[0], "cpu") if named else "auto"
        except ConfigError:
            return "auto"

    @model_serializer(mode="wrap")
    def _as_before_conditions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        value: dict[str, Any] = handler(self)
        if not self.conditions:
            value.pop("conditions", None)
        return value


class QualityEntry(FileEntry):
    """The frozen reference of quality control, and the showers of the model that it was made from."""

    seed: int
    showers: int = Field(ge=1)
    numerics: dict[str, str]
    layout: Layout


@dataclass(frozen=True)
class GoldenReport:
    """How the golden showers came out on this machine.

    Args:
        identical: Bit for bit as stored.
        largest: Largest deviation of a voxel [MeV].
        relative: Largest deviation of a shower's energy, relative.
        same_numerics: Whether versions, CPU capability and back-end are those that made the golden showers.
        backend: What inverted the flows now.
        made_with: What did when the bundle was made.
    """

    identical: bool
    largest: float
    relative: float
    same_numerics: bool
    backend: str
    made_with: str


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
    postprocess: PostProcessing = ()
    quality: QualityEntry | None = None
    digest: str = ""
    sha256: str | None = None

    @field_serializer("statistics")
    def _statistics(self, value: TrainingStatistics) -> dict[str, Any]:
        return value.to_dict()

    @cached_property
    def readout(self) -> Geometry:
        """The geometry as an object."""
        return Geometry.from_dict(self.geometry)


def write_bundle_file(directory: Path, file: BundleFile) -> None:
    """Write ``bundle.json`` with its own hash in it."""
    value = file.model_dump(mode="json", exclude={"sha256", "digest"})
    if not file.postprocess:
        del value["postprocess"]  # as before there was any
    if file.quality is None:
        del value["quality"]
    value["digest"] = _showers_digest(value)
    write_json(directory / "bundle.json", {**value, "sha256": digest_json(value)})


def write_quality_entry(directory: Path, entry: QualityEntry | None) -> None:
    """Name another quality reference in ``bundle.json``, or none; all else stays as it is written there.

    Raises:
        BundleError: As :func:`read_bundle_file`.
    """
    read_bundle_file(directory)
    value = json.loads((directory / "bundle.json").read_text())
    kept = {key: item for key, item in value.items() if key not in {"sha256", "quality"}}
    kept |= {} if entry is None else {"quality": entry.model_dump(mode="json")}
    write_json(directory / "bundle.json", {**kept, "sha256": digest_json(kept)})


def _showers_digest(value: dict[str, Any]) -> str:
    names = (*DETERMINING, "postprocess") if value.get("postprocess") else DETERMINING
    return digest_json({name: value[name] for name in names})


def read_bundle_file(directory: Path) -> BundleFile:
    """Read and check ``bundle.json``.

    Raises:
        BundleError: Not a bundle, a pickle, malformed, of a newer format, or a name that no file can have.
    """
    try:
        single = directory.is_file()
    except OSError as error:
        reason = error.strerror or str(error)
        raise BundleError(f"{directory}: cannot be read ({reason})", hint="check the path") from error
    if directory.suffix in PICKLES or (single and _is_pickle(directory)):
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
    require_known(value.get("postprocess"), str(file))
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


def load_tensors(entry: FileEntry, directory: Path) -> dict[str, Tensor]:
    """The checked tensors of one file of a bundle.

    Raises:
        BundleError: The file is missing, altered, unsafe or malformed.
    """
    file = entry.checked(directory)
    try:
        return load_file(file)
    except SafetensorError as error:
        raise BundleError(f"{file}: {error}", hint="copy the bundle again") from error


def load_quality(directory: Path, file: BundleFile) -> QualityReference | None:
    """The reference of quality control; None for a bundle without.

    Raises:
        BundleError: As :func:`load_tensors`; or it is not that of this bundle's readout.
    """
    if (entry := file.quality) is None:
        return None
    tensors = {name: tensor.numpy() for name, tensor in load_tensors(entry, directory).items()}
    try:
        return QualityReference.of(tensors, file.readout, entry.layout, entry.sha256)
    except DataError as error:
        raise BundleError(
            f"{directory / entry.path}: {error.message}",
            hint="make it again: `caloray model reference BUNDLE --force`",
        ) from error


def load_flow(directory: Path, scheme: Scheme, name: str, entry: ComponentEntry, device: str) -> Flow:
    """The trained flow of one component, in evaluation mode.

    Raises:
        BundleError: As :func:`load_tensors`; or the weights are those of another network.
    """
    weights = load_tensors(entry, directory)
    flow = scheme.component(name).build()
    own = flow.state_dict()
    needed = {key for key in own if not key.endswith(DERIVED)}
    wrong = sorted(needed ^ weights.keys()) or [k for k in needed if own[k].shape != weights[k].shape]
    if wrong:
        raise BundleError(
            f"{directory / entry.path}: tensor {wrong[0]} does not fit component {name}",
            hint="weights and bundle.json come from different models",
        )
    flow.load_state_dict({key: weights.get(key, own[key]) for key in own})
    dtype = weights[next(k for k in weights if k.endswith("weight"))].dtype
    return flow.to(device, dtype).eval().requires_grad_(requires_grad=False)


def save_component(
    directory: Path, scheme: Scheme, name: str, weights: Mapping[str, Tensor]
) -> ComponentEntry:
    """Write the weights of one component; what its config rebuilds is left out."""
    component = scheme.component(name)
    relative = f"components/{name}.safetensors"
    kept = {k: v.contiguous() for k, v in weights.items() if not k.endswith(DERIVED)}
    save_file(kept, directory / relative)
    return ComponentEntry(
        path=relative,
        sha256=sha256_file(directory / relative),
        bytes=(directory / relative).stat().st_size,
        parameters=component.parameters,
        features=component.features,
        context_features=component.context_features,
    )


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
