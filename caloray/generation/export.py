"""A directory of generated shards as one file: for the CaloChallenge, for Parquet, point clouds or ROOT."""

from __future__ import annotations

__all__ = ["MergeFormat", "export_hdf5", "merge", "merge_format"]

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from caloray.atomic import sha256_file
from caloray.errors import ConfigError, DataError, IntegrityError, StorageError
from caloray.interrupt import StopRequest
from caloray.io.challenge import write_challenge
from caloray.io.manifest import Manifest, ShardEntry, check_shard
from caloray.io.root import write_root
from caloray.io.shards import READOUT, ShardReader, ShardWriter
from caloray.io.showerdata import write_showerdata
from caloray.io.sparse import SparseShowers

MergeFormat = Literal["hdf5", "parquet", "showerdata", "root", "rntuple"]

SUFFIXES: dict[str, MergeFormat] = {
    ".showerdata.h5": "showerdata",
    ".showerdata.hdf5": "showerdata",
    ".hdf5": "hdf5",
    ".h5": "hdf5",
    ".parquet": "parquet",
    ".root": "root",
}
_LIBRARIES = {"hdf5": "HDF5", "showerdata": "HDF5", "parquet": "Parquet", "root": "ROOT", "rntuple": "ROOT"}
AGAIN = "run the command that made the directory again: it makes the shard anew"


def merge_format(path: Path, wanted: str | None = None) -> MergeFormat:
    """The format of a merged file, by its name if not said.

    Raises:
        ConfigError: No such format, a name that tells none, or one that tells another.
    """
    known: tuple[MergeFormat, ...] = get_args(MergeFormat)
    found = [one for one in known if one == wanted]
    if wanted is None:
        found = [one for suffix, one in SUFFIXES.items() if path.name.lower().endswith(suffix)]
    told = next((one for suffix, one in SUFFIXES.items() if path.name.lower().endswith(suffix)), None)
    if found and told is not None and _LIBRARIES[told] != _LIBRARIES[found[0]]:
        raise ConfigError(
            f"{path}: its name says {told}, --format says {found[0]}",
            hint="give another name, or leave --format out",
        )
    if not found:
        raise ConfigError(
            f"{path}: format {wanted!r} is not known"
            if wanted is not None
            else f"{path}: its name does not tell a format",
            hint=f"formats: {', '.join(known)}; names end in {', '.join(SUFFIXES)}",
        )
    return found[0]


def merge(
    directory: Path,
    path: Path,
    format: MergeFormat | None = None,  # noqa: A002
    *,
    progress: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
    replace: bool = True,
) -> str:
    """Stream the showers of ``directory`` in id order into one file and return the file's sha256.

    Every shard is compared with the manifest before it is read; about one row group is in memory at a time
    (for ROOT some thousand showers). Nothing appears under ``path`` before the file is complete. Conditions
    and extra columns go along; a merged Parquet file is a sparse shard that carries its geometry.

    Args:
        directory: A complete directory of generated showers, dense or sparse.
        path: The file to make or replace.
        format: What to make; None goes by the name (:func:`merge_format`).
        progress: Called with the number of showers since the last call.
        stop: A request to stop between two row groups.
        replace: Whether a file that is there may be replaced.

    Raises:
        IntegrityError: A shard is missing, altered or not in order.
        DataError: The directory does not hold generated showers, or holds energies that are none.
        ConfigError: A format that is not known, or whose library is not installed.
        StorageError: The disk is full or not writable; something is at ``path`` that may not be replaced, or
            it is a place inside ``directory``.
        InterruptedRunError: ``stop`` was requested.
    """
    chosen = merge_format(path, format)
    _require_free(path, directory, replace=replace)
    source = _Generated.open(directory)
    showers = source.showers(progress, stop)
    match chosen:
        case "hdf5":
            return write_challenge(path, source.manifest.readout, showers, source.facts, source.conditions)
        case "parquet":
            return source.write_parquet(path, showers)
        case "showerdata":
            return write_showerdata(path, source.manifest.readout, showers, source.facts)
        case "root":
            return write_root(path, source.manifest.readout, showers, "tree", source.facts)
        case "rntuple":
            return write_root(path, source.manifest.readout, showers, "rntuple", source.facts)


def _require_free(path: Path, directory: Path, *, replace: bool) -> None:
    """Refuse to write into the showers' own directory, over what is no plain file, or over a file unasked."""
    target = Path(os.path.realpath(path))
    if target.is_relative_to(os.path.realpath(directory)):
        raise StorageError(
            f"{path}: lies inside {directory}, whose files are its own", hint="choose a place outside of it"
        )
    if os.path.lexists(target) and not os.path.isfile(target):  # noqa: PTH113  (of any name)
        raise StorageError(f"{path}: is there and no plain file", hint="choose another name")
    if os.path.lexists(target) and not replace:
        raise StorageError(
            f"{path}: is there already", hint="choose another name, or replace it with --force"
        )


def export_hdf5(directory: Path, path: Path) -> str:
    """:func:`merge` into a CaloChallenge HDF5 file.

    The file has ``incident_energies`` (N, 1) and ``showers`` (N, n_voxels), MeV, float32, the particles'
    directions and other conditions (:mod:`caloray.io.challenge_conditions`), float64, and the extra columns
    of the shards under their own names.
    """
    return merge(directory, path, "hdf5")


@dataclass(frozen=True)
class _Generated:
    """The showers of a directory, and what its first shard says about all of them."""

    directory: Path
    manifest: Manifest
    conditions: dict[str, str]
    extras: dict[str, str]
    metadata: dict[str, str]

    @staticmethod
    def open(directory: Path) -> _Generated:
        manifest = Manifest.load(directory)
        if manifest.kind != "generated":
            raise DataError(f"{directory}: holds {manifest.kind} showers, expected generated ones")
        if not manifest.rows():
            raise DataError(f"{directory}: no showers to write", hint="generate or select at least one")
        with ShardReader(directory / manifest.shards[0].path, manifest.readout) as reader:
            return _Generated(directory, manifest, dict(reader.conditions), reader.extras, reader.extra)

    @property
    def facts(self) -> dict[str, str | int | float]:
        """Where the showers come from."""
        return {k: str(self.manifest.created.get(k, "")) for k in ("bundle_digest", "content_digest")}

    def showers(
        self, progress: Callable[[int], None] | None, stop: StopRequest | None
    ) -> Iterator[SparseShowers]:
        """All showers, one row group at a time, each shard verified before its first row."""
        last = -1
        for entry in self.manifest.shards:
            for part in self._shard(entry):
                if stop is not None:
                    stop.check("merging")
                if not len(part):
                    continue
                if part.ids[0] <= last or (np.diff(part.ids) <= 0).any():
                    raise IntegrityError(f"{entry.path}: event ids are not ascending", hint=AGAIN)
                last = int(part.ids[-1])
                _check_energies(part, self.directory / entry.path)
                yield part
                if progress is not None:
                    progress(len(part))

    def _shard(self, entry: ShardEntry) -> Iterator[SparseShowers]:
        for problem in check_shard(self.directory, entry):
            raise IntegrityError(problem.message, hint=AGAIN)
        with ShardReader(self.directory / entry.path, self.manifest.readout) as reader:
            found = (reader.n_rows, dict(reader.conditions), reader.extras)
            if found != (entry.rows, self.conditions, self.extras):
                raise IntegrityError(
                    f"{entry.path}: {reader.n_rows} rows with other columns than the first shard, or not the "
                    f"{entry.rows} rows of the manifest",
                    hint=AGAIN,
                )
            for group in range(reader.n_row_groups):
                yield reader.sparse(group)

    def write_parquet(self, path: Path, showers: Iterator[SparseShowers]) -> str:
        """One sparse shard of everything."""
        described = {READOUT: json.dumps(self.manifest.geometry, sort_keys=True)}
        with ShardWriter(
            path,
            self.manifest.readout,
            self.metadata | described,
            self.conditions,
            layout="sparse",
            extras=self.extras,
        ) as writer:
            for part in showers:
                writer.append(part)
        return sha256_file(path)


def _check_energies(showers: SparseShowers, path: Path) -> None:
    bad = ~np.isfinite(showers.incident_energies) | (showers.incident_energies <= 0)
    hits = ~np.isfinite(showers.energies) | (showers.energies < 0)
    bad[showers.rows[hits]] = True
    if bad.any():
        named = ", ".join(map(str, showers.ids[bad][:10].tolist()))
        raise DataError(
            f"{path}: {int(bad.sum())} showers with energies that are negative or not finite (ids {named})",
            hint="generate them again with on_invalid: resample",
        )
