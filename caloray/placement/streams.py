"""Files of showers in, files of placed showers out: piece by piece, with bounded memory."""

from __future__ import annotations

__all__ = ["FORMATS", "Work", "format_of", "place_showers", "preview", "recorded_placement"]

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import caloray
from caloray.atomic import sha256_file, staging_directory
from caloray.errors import ConfigError, DataError, StorageError
from caloray.geometry import Geometry
from caloray.interrupt import StopRequest
from caloray.io.challenge import ChallengeFile, write_challenge
from caloray.io.hit_record import Hits
from caloray.io.hits import HitReader, HitSource, HitWriter
from caloray.io.manifest import Manifest, ShardEntry
from caloray.io.shards import ShardReader, ShardWriter
from caloray.io.source import FileSource, MergedSource, ShardSource, ShowerSource
from caloray.placement.losses import Losses
from caloray.placement.record import KEY
from caloray.showers import Showers, apply_policy

Format = Literal["hits", "hdf5", "shards"]
FORMATS: tuple[str, ...] = get_args(Format)
VOXELS_PER_CHUNK = 6_000_000
PREVIEWED = 50
NO_LIMIT = float("inf")

Progress = Callable[[int], None]


class Work(Protocol):
    """What is done to the showers: a placement, or the inverse of one."""

    @property
    def extra(self) -> Mapping[str, str]:
        """What is stored beside the showers."""

    def units(self, before: Mapping[str, str]) -> dict[str, str]:
        """Units of the scalars of the particles afterwards, by name."""

    @property
    def target(self) -> Geometry | None:
        """Geometry of the result, None where there is no box."""

    @property
    def n_layers(self) -> int:
        """Layers of the result."""

    def carry_out(self, showers: Showers, where: str) -> tuple[Hits, Losses]:
        """The result for some showers, and where the energy went."""


def format_of(output: Path, wanted: str | None) -> Format:
    """The format of an output, by its name if not said: .parquet hits, .hdf5 or .h5, else shards.

    Raises:
        ConfigError: No such format.
    """
    if wanted is not None and wanted not in FORMATS:
        raise ConfigError(f"--format {wanted!r}: expected {', '.join(FORMATS)}")
    by_name: dict[str, Format] = {".parquet": "hits", ".hdf5": "hdf5", ".h5": "hdf5"}
    chosen: Format = next(
        (one for one in get_args(Format) if one == wanted), by_name.get(output.suffix, "shards")
    )
    return chosen


def recorded_placement(source: ShowerSource) -> str | None:
    """The JSON that was stored beside placed showers, None for others."""
    found: object = None
    if isinstance(source, FileSource):
        with ChallengeFile.open(source.path, source.geometry) as file:
            found = file.attrs.get(KEY)
    elif isinstance(source, HitSource):
        with HitReader(source.path) as hits:
            found = hits.extra.get(KEY)
    elif isinstance(source, MergedSource):
        found = _noted(source.path)
    elif isinstance(source, ShardSource) and source.entries:
        found = _noted(source.directory / source.entries[0].path)
    return None if found is None else str(found)


def _noted(shard: Path) -> str | None:
    with ShardReader(shard) as reader:
        return reader.extra.get(KEY)


def preview(source: ShowerSource, work: Work) -> dict[str, Any]:
    """What the first 50 showers become; nothing is written."""
    checked = _checked(source, PREVIEWED)
    showers = next(checked, None)
    if showers is None:
        raise DataError(f"{_name(source)}: no showers")
    _, losses = work.carry_out(showers, _name(source))
    return _facts(source, work, losses) | {"previewed": losses.showers, "showers": source.n_showers}


def place_showers(
    source: ShowerSource,
    work: Work,
    output: Path,
    form: Format,
    progress: Progress | None = None,
    stop: StopRequest | None = None,
) -> dict[str, Any]:
    """Carry out ``work`` on all showers and write the result; it appears only when it is complete.

    Args:
        source: The showers.
        work: What to do.
        output: File or directory to make; nothing may be there.
        form: Format of the output.
        progress: Called with the number of showers done since the last call.
        stop: Looked at between two pieces.

    Returns:
        Facts for a report: showers, energies kept and lost, bytes.

    Raises:
        DataError, IntegrityError: Showers that cannot be used.
        ConfigError: Dense output without a box, or shards from a file.
        StorageError: Something is at ``output``, or the disk is full.
        InterruptedRunError: ``stop`` was requested; nothing is left behind.
    """
    _require_free(source, output)
    stream = _Stream(source, work, progress, stop)
    if form == "hits":
        units = work.units(source.conditions)
        with HitWriter(output, work.target, work.n_layers, work.extra, units) as writer:
            for hits in stream.hits(source):
                writer.append(hits)
    elif form == "hdf5":
        target = _dense_target(work)
        units = work.units(source.conditions)
        write_challenge(output, target, stream.dense(source, target), attrs=work.extra, units=units)
    else:
        _write_shards(source, work, output, stream)
    size = output.stat().st_size if output.is_file() else _size(output)
    facts = _facts(source, work, stream.losses)
    return facts | {"bytes": size, "bytes_per_shower": round(size / max(1, stream.losses.showers), 1)}


class _Stream:
    """Placed showers one piece after the other; adds up where the energy went."""

    def __init__(
        self, source: ShowerSource, work: Work, progress: Progress | None, stop: StopRequest | None
    ) -> None:
        self.losses = Losses()
        self._where, self._work, self._progress, self._stop = _name(source), work, progress, stop

    def hits(self, source: ShowerSource) -> Iterator[Hits]:
        for showers in _checked(source, max(1, VOXELS_PER_CHUNK // source.geometry.n_voxels)):
            if self._stop is not None:
                self._stop.check("placement")
            hits, losses = self._work.carry_out(showers, self._where)
            self.losses += losses
            yield hits
            if self._progress is not None:
                self._progress(len(hits))

    def dense(self, source: ShowerSource, target: Geometry) -> Iterator[Showers]:
        return (hits.dense(target) for hits in self.hits(source))


def _write_shards(source: ShowerSource, work: Work, output: Path, stream: _Stream) -> None:
    """Shard for shard, in the splits that they have."""
    if not isinstance(source, ShardSource):
        raise ConfigError(
            "shards are made from shards, which have splits",
            hint="write -o placed.hdf5, then `caloray data ingest placed.hdf5` makes and splits shards",
        )
    target, units, entries = _dense_target(work), work.units(source.conditions), []
    with staging_directory(output) as temporary:
        for number, entry in enumerate(source.entries, start=source.first):
            part = ShardSource(source.directory, source.split, number, number + 1)
            path = temporary / entry.path
            with ShardWriter(path, target, work.extra, units) as writer:
                for showers in stream.dense(part, target):
                    writer.append(showers)
            size = path.stat().st_size
            from_shard = {"placed_from": entry.sha256}
            entries.append(
                ShardEntry(entry.path, writer.rows, size, sha256_file(path), entry.split, from_shard)
            )
        old = source.manifest
        created = {"caloray": caloray.__version__, "source_digest": source.digest, **work.extra}
        Manifest(
            kind=old.kind,
            geometry=target.to_dict(),
            geometry_digest=target.digest,
            shards=tuple(entries),
            created=created,
            sources=old.sources,
            split=old.split,
        ).save(temporary)


def _checked(source: ShowerSource, rows: int) -> Iterator[Showers]:
    """All showers; NaN, infinite and negative energies are refused."""
    first = 0
    for showers in source.chunks(rows):
        if isinstance(source, ShardSource):  # the others check by themselves
            apply_policy(showers, source.geometry, max_ratio=NO_LIMIT, where=_name(source), first_row=first)
        first += len(showers)
        yield showers


def _facts(source: ShowerSource, work: Work, losses: Losses) -> dict[str, Any]:
    shares = {f"{name}_share": losses.share(name) for name in ("kept", "outside", "uncovered", "cut")}
    target = work.target
    return {
        "input": _name(source),
        "from_geometry": source.geometry.name,
        "geometry": None if target is None else target.name,
        "dense_bytes_per_shower": None if target is None else 4 * target.n_voxels,
        **asdict(losses),
        **shares,
    }


def _dense_target(work: Work) -> Geometry:
    if work.target is None:
        raise ConfigError(
            "showers without a box cannot be written as dense arrays",
            hint="choose --box 30, or write hits: -o placed.parquet",
        )
    return work.target


def _require_free(source: ShowerSource, output: Path) -> None:
    """Refuse a taken place before any work.

    Raises:
        StorageError: Something is there.
    """
    if not output.exists():
        return
    if any(output.samefile(path) for path in _paths(source)):
        raise StorageError(f"{output}: is the input", hint="choose another output")
    raise StorageError(f"{output}: exists already", hint="choose another output, or remove it")


def _paths(source: ShowerSource) -> Iterator[Path]:
    if isinstance(source, FileSource | HitSource | MergedSource):
        yield source.path
    elif isinstance(source, ShardSource):
        yield source.directory


def _name(source: ShowerSource) -> str:
    return next((str(path) for path in _paths(source)), "showers")


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
