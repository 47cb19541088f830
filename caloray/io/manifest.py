"""The manifest: what a directory of shards holds, from what it came, and the sha256 of every file.

It is written last, so a directory with a manifest is complete. The file is the canonical rendering of its
own content and carries a digest of it: any changed byte is noticed on loading.
"""

from __future__ import annotations

__all__ = ["MANIFEST", "Manifest", "Problem", "ShardEntry", "check_shard", "verify_directory"]

import json
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from caloray.atomic import digest_json, sha256_file, write_bytes
from caloray.errors import DataError, GeometryError, IntegrityError
from caloray.geometry import Geometry
from caloray.io.shards import ShardReader

MANIFEST = "manifest.json"
FORMAT = 1
KINDS = ("geant4", "generated")
SPLITS = ("train", "validation", "test", "generated")
MAX_BYTES = 64 << 20
MAX_SHARDS = 200_000
_T = TypeVar("_T")
_HINT = "copy the directory again from its origin, or make it again"


@dataclass(frozen=True)
class ShardEntry:
    """One shard of a directory.

    Args:
        path: Relative path with forward slashes.
        rows: Number of showers.
        bytes: Size of the file.
        sha256: Hash of the file.
        split: "train", "validation", "test" or "generated".
        source: Where the rows came from: file hash and row range, or block range.
    """

    path: str
    rows: int
    bytes: int
    sha256: str
    split: str
    source: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file of a directory.

    Args:
        path: The file, relative to the directory.
        kind: "missing", "size", "sha256", "rows", "geometry", "unsafe", "unreadable" or "manifest".
        message: One line with what was expected and what was found.
    """

    path: str
    kind: str
    message: str


@dataclass(frozen=True)
class Manifest:
    """Content of a directory of shards.

    Args:
        kind: "geant4" for ingested reference showers, "generated" for showers of a model.
        geometry: :meth:`Geometry.to_dict` of the readout.
        geometry_digest: Its digest.
        shards: All shards, in order.
        created: caloray version, request digest and further facts that depend on the request alone.
        dropped: Rows that were left out, per rule.
        sources: The files that were ingested: name, sha256, md5, rows, attributes, known dataset.
        split: Fractions and seed of the split.
    """

    kind: str
    geometry: dict[str, Any]
    geometry_digest: str
    shards: tuple[ShardEntry, ...]
    created: dict[str, Any]
    dropped: dict[str, int] = field(default_factory=dict)
    sources: tuple[dict[str, Any], ...] = ()
    split: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def readout(self) -> Geometry:
        """The geometry as an object."""
        return Geometry.from_dict(self.geometry)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Showers per split, only splits that have a shard."""
        present = [name for name in SPLITS if any(s.split == name for s in self.shards)]
        return {name: sum(s.rows for s in self.shards if s.split == name) for name in present}

    @cached_property
    def digest(self) -> str:
        """sha256 of the content: the name of this data set in everything made from it."""
        return digest_json(self._body())

    def rows(self, split: str | None = None) -> int:
        """Number of showers of one split, or of all."""
        return sum(shard.rows for shard in self.of(split))

    def of(self, split: str | None = None) -> tuple[ShardEntry, ...]:
        """The shards of one split, or all.

        Raises:
            DataError: There is no such split in this directory.
        """
        if split is None:
            return self.shards
        if split not in self.counts:
            raise DataError(
                f"{MANIFEST}: no split {split!r}, only {', '.join(self.counts) or 'none at all'}",
                hint="choose one of these, or ingest again with other fractions",
            )
        return tuple(shard for shard in self.shards if shard.split == split)

    def save(self, directory: Path) -> str:
        """Write ``manifest.json`` into ``directory`` atomically and return the manifest's digest.

        A file that already says the same is left alone, so that its age tells when the content last changed.
        """
        path = directory / MANIFEST
        rendered = _parse(self._rendered(), path)._rendered()
        if not path.is_file() or path.read_bytes() != rendered:
            write_bytes(path, rendered)
        return self.digest

    @staticmethod
    def load(directory: Path) -> Manifest:
        """Read and check the manifest of ``directory`` (the shards are not opened).

        Raises:
            IntegrityError: Missing, altered, of a newer format, or naming files outside the directory.
        """
        path = directory / MANIFEST
        try:
            held = path.is_file()
        except OSError as error:  # such as a name that no file can have
            reason = error.strerror or str(error)
            raise IntegrityError(f"{directory}: cannot be read ({reason})", hint="check the path") from error
        if not held:
            raise IntegrityError(
                f"{directory}: no {MANIFEST}, so not a complete directory of shards",
                hint="run the command that makes it again; it continues where it stopped",
            )
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise IntegrityError(f"{path}: {size} bytes, more than the {MAX_BYTES} allowed", hint=_HINT)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise IntegrityError(f"{path}: cannot be read ({error.strerror})", hint=_HINT) from error
        return _parse(data, path)

    def verify(self, directory: Path) -> list[Problem]:
        """Compare every shard with its entry: size, sha256, rows, geometry. Empty when all is well."""
        return [p for entry in self.shards for p in check_shard(directory, entry, self.geometry_digest)]

    def _body(self) -> dict[str, Any]:
        body = {k: v for k, v in asdict(self).items() if k != "shards"}
        shards = [asdict(shard) for shard in self.shards]
        listed = {"sources": list(self.sources), "shards": shards}
        return body | listed | {"format": FORMAT, "counts": self.counts}

    def _rendered(self) -> bytes:
        return _render(self._body() | {"digest": self.digest})


def verify_directory(directory: Path) -> list[Problem]:
    """All problems of a directory of shards, the manifest's own first."""
    try:
        manifest = Manifest.load(directory)
    except IntegrityError as error:
        return [Problem(MANIFEST, "manifest", error.message)]
    return manifest.verify(directory)


def check_shard(directory: Path, entry: ShardEntry, geometry_digest: str | None = None) -> list[Problem]:
    """Problems of one shard against its manifest entry (at most one: the first that is found).

    ``geometry_digest`` None skips opening the file: size and sha256 alone are compared.
    """
    path = directory / entry.path
    if not path.resolve().is_relative_to(directory.resolve()):
        return [Problem(entry.path, "unsafe", f"{entry.path}: a link that leads out of {directory}")]
    if not path.is_file():
        return [Problem(entry.path, "missing", f"{entry.path}: the file is missing")]
    size = path.stat().st_size
    if size != entry.bytes:
        return [Problem(entry.path, "size", f"{entry.path}: {size} bytes, expected {entry.bytes}")]
    found = sha256_file(path)
    if found != entry.sha256:
        return [Problem(entry.path, "sha256", f"{entry.path}: sha256 {found}, expected {entry.sha256}")]
    return [] if geometry_digest is None else _check_content(path, entry, geometry_digest)


def _check_content(path: Path, entry: ShardEntry, geometry_digest: str) -> list[Problem]:
    try:
        with ShardReader(path) as reader:
            rows, digest = reader.n_rows, reader.geometry_digest
    except (DataError, IntegrityError) as error:
        return [Problem(entry.path, "unreadable", error.message)]
    if digest != geometry_digest:
        text = f"{entry.path}: geometry digest {digest}, expected {geometry_digest}"
        return [Problem(entry.path, "geometry", text)]
    if rows != entry.rows:
        return [Problem(entry.path, "rows", f"{entry.path}: {rows} rows, expected {entry.rows}")]
    return []


def _render(value: dict[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def _parse(data: bytes, path: Path) -> Manifest:
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            raise TypeError("not a JSON object")
        if isinstance(value.get("format"), int) and value["format"] > FORMAT:
            raise IntegrityError(
                f"{path}: manifest format {value['format']}, this caloray reads up to {FORMAT}",
                hint="update caloray",
            )
        manifest = _build(value)
        if manifest.digest != value.get("digest"):
            raise ValueError(f"digest {value.get('digest')}, content gives {manifest.digest}")
        if manifest._rendered() != data:
            raise ValueError("not written by caloray")
        if manifest.readout.digest != manifest.geometry_digest:
            raise ValueError("the geometry digest does not belong to the geometry")
    except (ValueError, TypeError, KeyError, RecursionError, GeometryError) as error:
        reason = str(error).split("\n", maxsplit=1)[0][:200]
        raise IntegrityError(f"{path}: altered or malformed manifest ({reason})", hint=_HINT) from error
    return manifest


def _build(value: dict[str, Any]) -> Manifest:
    shards = _typed(value, "shards", list)
    if len(shards) > MAX_SHARDS:
        raise ValueError(f"{len(shards)} shards, more than the {MAX_SHARDS} allowed")
    dropped = _typed(value, "dropped", dict)
    for rule in dropped:
        _count(dropped, rule)
    manifest = Manifest(
        kind=_one_of(value, "kind", KINDS),
        geometry=_typed(value, "geometry", dict),
        geometry_digest=_hash(value, "geometry_digest"),
        shards=tuple(_entry(shard) for shard in shards),
        created=_typed(value, "created", dict),
        dropped=dropped,
        sources=tuple(_typed({"source": s}, "source", dict) for s in _typed(value, "sources", list)),
        split=_typed(value, "split", dict),
    )
    if len({shard.path for shard in manifest.shards}) != len(manifest.shards):
        raise ValueError("two shards have the same path")
    return manifest


def _entry(value: Any) -> ShardEntry:
    shard = _typed({"shard": value}, "shard", dict)
    path = _typed(shard, "path", str)
    pure = PurePosixPath(path)
    plain = re.fullmatch(r"[A-Za-z0-9._/+=-]{1,255}", path) is not None and str(pure) == path
    if not plain or pure.is_absolute() or ".." in pure.parts or pure.suffix != ".parquet":
        raise ValueError(f"unsafe shard path {path[:80]!r}")
    return ShardEntry(
        path=path,
        rows=_count(shard, "rows"),
        bytes=_count(shard, "bytes"),
        sha256=_hash(shard, "sha256"),
        split=_one_of(shard, "split", SPLITS),
        source=_typed(shard, "source", dict),
    )


def _typed(value: dict[str, Any], key: str, kind: type[_T]) -> _T:
    if key not in value:
        raise ValueError(f"no {key} in it")
    found = value[key]
    if not isinstance(found, kind) or isinstance(found, bool):
        raise TypeError(f"{key} is a {type(found).__name__}, expected {kind.__name__}")
    return found


def _count(value: dict[str, Any], key: str) -> int:
    number = _typed(value, key, int)
    if not 0 <= number < 1 << 53:
        raise ValueError(f"{key} is {number}")
    return number


def _hash(value: dict[str, Any], key: str) -> str:
    text = _typed(value, key, str)
    if re.fullmatch(r"[0-9a-f]{64}", text) is None:
        raise ValueError(f"{key} is not a sha256")
    return text


def _one_of(value: dict[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    text = _typed(value, key, str)
    if text not in allowed:
        raise ValueError(f"{key} is {text[:40]!r}, expected one of {', '.join(allowed)}")
    return text
