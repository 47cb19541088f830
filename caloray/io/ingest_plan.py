"""The plan of an ingest: which rows of which files make which task.

A plan depends on the content of the files and on the options, never on names, order or time.
"""

from __future__ import annotations

__all__ = ["IngestConfig", "IngestPlan", "IngestTask", "SourceFile", "describe_file", "plan_ingest"]

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from caloray.atomic import digest_json
from caloray.errors import DataError
from caloray.geometry import Geometry, load_geometry
from caloray.io.challenge import ChallengeFile
from caloray.io.known import identify
from caloray.io.split import SplitFractions

FORMAT = 1
TASK_BYTES = 256 << 20


class IngestConfig(BaseModel):
    """What to ingest and how."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    files: tuple[Path, ...] = Field(min_length=1, description="CaloChallenge HDF5 files")
    geometry: str | None = Field(None, description="name or file; None: from the number of voxels")
    split: SplitFractions = SplitFractions()
    split_seed: int = Field(0, ge=0, lt=2**63)
    rows_per_shard: int | None = Field(None, ge=1, description="rows of one task; None: at most 256 MiB")
    on_invalid: Literal["reject", "drop"] = Field("reject", description="what to do with impossible rows")
    max_ratio: float = Field(5.0, gt=0, description="largest accepted E_tot / E_inc")


@dataclass(frozen=True)
class SourceFile:
    """One input file: where it lies, what it is (hashes, size, rows), attributes and units of conditions."""

    path: Path
    sha256: str
    md5: str
    bytes: int
    rows: int
    attrs: dict[str, Any]
    dataset: str | None
    conditions: dict[str, str] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        """The manifest's record of this file: its name without folder and all else that is not empty."""
        facts = asdict(self)
        facts.pop("path")
        if not self.conditions:
            facts.pop("conditions")
        return {"name": self.path.name, **facts}


@dataclass(frozen=True)
class IngestTask:
    """One contiguous range of rows of one file, with all that is needed to shard it anywhere."""

    index: int
    request: str
    path: Path
    bytes: int
    sha256: str
    start: int
    stop: int
    geometry: Geometry
    split: SplitFractions
    split_seed: int
    on_invalid: Literal["reject", "drop"]
    max_ratio: float


@dataclass(frozen=True)
class IngestPlan:
    """All tasks of one request; ``digest`` names the request."""

    digest: str
    request: dict[str, Any]
    geometry: Geometry
    sources: tuple[SourceFile, ...]
    tasks: tuple[IngestTask, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all input files together."""
        return sum(source.rows for source in self.sources)


def plan_ingest(config: IngestConfig) -> IngestPlan:
    """Open and hash the input files and cut them into tasks.

    Raises:
        DataError: A file is damaged, given twice, or has another geometry or other conditions than the rest.
    """
    geometry = None if config.geometry is None else load_geometry(config.geometry)
    opened = [describe_file(path, geometry) for path in config.files]
    first_path, first = config.files[0], opened[0][1]
    for path, (_, found) in zip(config.files, opened, strict=True):
        if found.digest != first.digest:
            raise DataError(
                f"{path}: geometry {found.name} ({found.n_voxels} voxels), but {first_path} has "
                f"{first.name} ({first.n_voxels} voxels)",
                hint="ingest files of different readouts into different directories",
            )
    _require_same_conditions([source for source, _ in opened])
    sources = tuple(sorted((source for source, _ in opened), key=lambda s: s.sha256))
    for one, other in pairwise(sources):
        if one.sha256 == other.sha256:
            raise DataError(
                f"{other.path}: the same content as {one.path}",
                hint="give each file once, or its showers count double",
            )
    request = _request(config, first, sources)
    digest = digest_json(request)
    tasks = _tasks(config, first, sources, digest, request["rows_per_shard"])
    return IngestPlan(digest, request, first, sources, tasks)


def describe_file(path: Path, geometry: Geometry | None = None) -> tuple[SourceFile, Geometry]:
    """Open a CaloChallenge file, hash it in one reading, and recognise a published one by its md5.

    Raises:
        DataError: The file cannot be read or has the wrong layout.
    """
    with ChallengeFile.open(path, geometry) as file:
        found, rows, conditions = file.geometry, file.n_showers, file.conditions
        attrs = {str(k): _plain(v) for k, v in sorted(file.attrs.items())}
    sha256, md5, size = _hashes(path)
    known = identify(md5)
    dataset = None if known is None else known.dataset
    return SourceFile(path, sha256, md5, size, rows, attrs, dataset, conditions), found


def _require_same_conditions(sources: Sequence[SourceFile]) -> None:
    for source in sources[1:]:
        if source.conditions != sources[0].conditions:
            one, other = (_listed(item.conditions) for item in (source, sources[0]))
            raise DataError(
                f"{source.path}: conditions {one}, but {sources[0].path} has {other}",
                hint="ingest files with other conditions or units into different directories",
            )


def _listed(conditions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} [{unit}]" for name, unit in conditions.items()) or "none"


def _hashes(path: Path) -> tuple[str, str, int]:
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                sha256.update(piece)
                md5.update(piece)
                size += len(piece)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})", hint="check the disk") from error
    return sha256.hexdigest(), md5.hexdigest(), size


def _plain(value: Any) -> Any:
    """An HDF5 attribute as something that JSON can hold without loss where possible."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_plain(item) for item in value[:1000]]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _request(config: IngestConfig, geometry: Geometry, sources: Sequence[SourceFile]) -> dict[str, Any]:
    row_bytes = 4 * geometry.n_voxels
    fitting = TASK_BYTES // row_bytes // 100 * 100
    request = {
        "format": FORMAT,
        "files": [source.sha256 for source in sources],
        "geometry": geometry.digest,
        "split": config.split.model_dump(),
        "split_seed": config.split_seed,
        "rows_per_shard": config.rows_per_shard or max(100, min(2000, fitting)),
        "on_invalid": config.on_invalid,
        "max_ratio": config.max_ratio,
    }
    if sources[0].conditions:
        request["conditions"] = sources[0].conditions
    return request


def _tasks(
    config: IngestConfig, geometry: Geometry, sources: Sequence[SourceFile], digest: str, rows: int
) -> tuple[IngestTask, ...]:
    ranges = [(s, start, min(start + rows, s.rows)) for s in sources for start in range(0, s.rows, rows)]
    return tuple(
        IngestTask(
            index=index,
            request=digest,
            path=source.path.absolute(),
            bytes=source.bytes,
            sha256=source.sha256,
            start=start,
            stop=stop,
            geometry=geometry,
            split=config.split,
            split_seed=config.split_seed,
            on_invalid=config.on_invalid,
            max_ratio=config.max_ratio,
        )
        for index, (source, start, stop) in enumerate(ranges)
    )
