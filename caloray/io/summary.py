"""What a file or a directory of showers holds, in a few numbers, without loading it whole."""

from __future__ import annotations

__all__ = ["Tally", "check_file", "summarise", "tally"]

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloray.geometry import Geometry
from caloray.io.challenge import ChallengeFile
from caloray.io.ingest_plan import describe_file
from caloray.io.manifest import MANIFEST, Manifest
from caloray.io.source import open_source
from caloray.showers import MAX_RATIO, Showers, Violation, check_rows, merge_violations

CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class Tally:
    """Plain statistics of some showers.

    Args:
        showers: How many were looked at.
        energy_min: Smallest incident energy [MeV].
        energy_max: Largest incident energy [MeV].
        ratio_mean: Mean of E_tot / E_inc.
        ratio_std: Its standard deviation.
        hits_mean: Mean number of voxels above zero.
        occupancy: Mean share of voxels above zero.
        voxel_min: Smallest voxel energy above zero [MeV].
        voxel_max: Largest voxel energy [MeV].
    """

    showers: int
    energy_min: float
    energy_max: float
    ratio_mean: float
    ratio_std: float
    hits_mean: float
    occupancy: float
    voxel_min: float
    voxel_max: float


def tally(chunks: Iterable[Showers], limit: int | None = None) -> Tally | None:
    """Statistics of at most ``limit`` showers, chunk by chunk; None when there are none."""
    ratios, energies, hits, low, high, voxels = [], [], 0, np.inf, 0.0, 1
    for showers in _first(chunks, limit):
        positive = showers.voxels > 0
        energies.append(showers.incident_energies)
        ratios.append(showers.voxels.sum(axis=1, dtype=np.float64) / showers.incident_energies)
        hits += int(positive.sum())
        low = min(low, float(np.min(showers.voxels, where=positive, initial=np.inf)))
        high = max(high, float(showers.voxels.max(initial=0.0)))
        voxels = showers.voxels.shape[1]
    if not energies:
        return None
    ratio, energy = np.concatenate(ratios), np.concatenate(energies)
    return Tally(
        showers=len(energy),
        energy_min=float(energy.min()),
        energy_max=float(energy.max()),
        ratio_mean=float(ratio.mean()),
        ratio_std=float(ratio.std()),
        hits_mean=hits / len(energy),
        occupancy=hits / len(energy) / voxels,
        voxel_min=low if np.isfinite(low) else 0.0,
        voxel_max=high,
    )


def summarise(path: Path, split: str | None = None, limit: int | None = 10_000) -> dict[str, Any]:
    """Describe a CaloChallenge file or a directory of shards.

    Args:
        path: The file or directory.
        split: Only this split of a directory.
        limit: Showers that are read for the statistics, from the front; None for all.

    Returns:
        JSON-able facts: what, geometry, number of showers, statistics, hashes, attributes, origin.

    Raises:
        DataError: As :func:`caloray.io.source.open_source`.
        IntegrityError: As :func:`caloray.io.source.open_source`.
    """
    source = open_source(path, split)
    geometry = source.geometry
    facts: dict[str, Any] = {
        "path": str(path),
        "showers": source.n_showers,
        "geometry": _geometry_facts(geometry),
    }
    directory = path.parent if path.name == MANIFEST else path
    facts |= _directory_facts(directory) if directory.is_dir() else _file_facts(path, geometry)
    statistics = tally(source.chunks(_rows(geometry)), limit)
    return facts | {"statistics": None if statistics is None else vars(statistics)}


def check_file(path: Path, max_ratio: float = MAX_RATIO) -> tuple[int, list[Violation]]:
    """Read a whole CaloChallenge file and check every row: (rows, broken rules).

    Raises:
        DataError: The file cannot be read or has the wrong layout.
    """
    with ChallengeFile.open(path) as file:
        step = _rows(file.geometry)
        found = [
            violation
            for start in range(0, file.n_showers, step)
            for violation in check_rows(
                file.read(start, min(start + step, file.n_showers)),
                file.geometry,
                max_ratio=max_ratio,
                where=str(path),
                first_row=start,
            )
        ]
        return file.n_showers, merge_violations(found)


def _geometry_facts(geometry: Geometry) -> dict[str, Any]:
    facts = {"name": geometry.name, "digest": geometry.digest, "particle": geometry.particle}
    return {**facts, "layers": geometry.n_layers, "voxels": geometry.n_voxels}


def _file_facts(path: Path, geometry: Geometry) -> dict[str, Any]:
    described = describe_file(path, geometry)[0].described()
    with ChallengeFile.open(path, geometry) as file:
        dtype = file.dtype
    return {"kind": "CaloChallenge HDF5", "dtype": dtype, **described}


def _directory_facts(directory: Path) -> dict[str, Any]:
    manifest = Manifest.load(directory)
    return {
        "kind": f"shards ({manifest.kind})",
        "dtype": "float32",
        "digest": manifest.digest,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "splits": manifest.counts,
        "split": manifest.split,
        "dropped": manifest.dropped,
        "created": manifest.created,
        "sources": list(manifest.sources),
    }


def _rows(geometry: Geometry) -> int:
    return max(1, min(1000, CHUNK_BYTES // (4 * geometry.n_voxels)))


def _first(chunks: Iterable[Showers], limit: int | None) -> Iterator[Showers]:
    left = limit
    for showers in chunks:
        if left is None:
            yield showers
            continue
        yield showers.select(slice(0, left))
        left -= min(left, len(showers))
        if left == 0:
            return
