"""A directory of reference showers of the toy detector, split as after ingestion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caloray.io.manifest import Manifest, ShardEntry
from caloray.io.shards import write_shard
from caloray.showers import Showers

ROWS = {"train": 600, "validation": 200, "test": 200}


def write_shards(folder: Path, splits: dict[str, Showers], geometry: Any, **changes: Any) -> Path:
    """A directory of shards, one per split."""
    entries = []
    for split, showers in splits.items():
        path = f"{split}/part-0.parquet"
        digest = write_shard(folder / path, showers, geometry)
        entries.append(ShardEntry(path, len(showers), (folder / path).stat().st_size, digest, split))
    facts = {"kind": "geant4", "created": {}, **changes}
    Manifest(
        geometry=geometry.to_dict(), geometry_digest=geometry.digest, shards=tuple(entries), **facts
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def write():
    """The function :func:`write_shards`."""
    return write_shards


@pytest.fixture(scope="session")
def shards(toy, tmp_path_factory) -> Path:
    """600 + 200 + 200 showers."""
    splits = {split: toy.showers(rows, seed=i) for i, (split, rows) in enumerate(ROWS.items())}
    return write_shards(tmp_path_factory.mktemp("reference") / "shards", splits, toy.GEOMETRY)


@pytest.fixture(scope="session")
def silent():
    """Nobody to tell about progress."""
    return lambda *_: None


@pytest.fixture(scope="session")
def memory():
    """A source of showers that are in memory."""

    class Memory:
        def __init__(self, showers: Showers, geometry: Any) -> None:
            self.showers, self.geometry = showers, geometry
            self.n_showers, self.digest = len(showers), "m" * 64

        def chunks(self, rows: int = 1000):
            rows = min(rows, 150)
            return (self.showers.select(slice(i, i + rows)) for i in range(0, len(self.showers), rows))

    return Memory


@pytest.fixture(scope="session")
def geant4():
    """The sample of the repository: Geant4 showers of dataset 2's readout, in random order."""
    import h5py

    with h5py.File(Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5") as file:
        order = np.random.default_rng(1).permutation(len(file["showers"]))
        return Showers(file["incident_energies"][:, 0][order], file["showers"][:][order], order)
