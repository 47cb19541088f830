"""Generated showers as one CaloChallenge HDF5 file."""

from __future__ import annotations

__all__ = ["export_hdf5"]

from collections.abc import Iterator
from pathlib import Path

from caloray.errors import DataError, IntegrityError
from caloray.io.challenge import write_challenge
from caloray.io.manifest import Manifest, check_shard
from caloray.io.shards import ShardReader
from caloray.showers import Showers


def export_hdf5(directory: Path, path: Path) -> str:
    """Stream the showers of ``directory`` in id order into ``path`` and return the file's sha256.

    The file has ``incident_energies`` (N, 1) and ``showers`` (N, n_voxels), MeV, float32, and the particles'
    directions and other conditions (:mod:`caloray.io.challenge_conditions`), float64. Every shard is
    compared with the manifest before it is read; one row group is in memory at a time.

    Raises:
        IntegrityError: A shard is missing or altered.
        DataError: The directory does not hold generated showers.
        StorageError: The disk is full or not writable.
    """
    manifest = Manifest.load(directory)
    if manifest.kind != "generated":
        raise DataError(f"{directory}: holds {manifest.kind} showers, expected generated ones")
    facts: dict[str, str | int | float] = {
        key: str(manifest.created.get(key, "")) for key in ("bundle_digest", "content_digest")
    }
    showers = _showers(manifest, directory)
    return write_challenge(path, manifest.readout, showers, attrs=facts, units=_units(manifest, directory))


def _units(manifest: Manifest, directory: Path) -> dict[str, str]:
    """Unit of each condition, as the first shard says."""
    for entry in manifest.shards[:1]:
        with ShardReader(directory / entry.path, manifest.readout) as reader:
            return dict(reader.conditions)
    return {}


def _showers(manifest: Manifest, directory: Path) -> Iterator[Showers]:
    for entry in manifest.shards:
        for problem in check_shard(directory, entry):
            raise IntegrityError(
                problem.message, hint="run `caloray generate` again: it makes the shard anew"
            )
        with ShardReader(directory / entry.path, manifest.readout) as reader:
            yield from reader.chunks()
