from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.errors import DataError, IntegrityError
from caloray.generation.export import export_hdf5
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
from caloray.io.manifest import Manifest
from caloray.showers import Showers


def test_the_file_holds_all_showers_in_id_order(
    model: Any, tmp_path: Path, read_all: Callable[[Path], Showers]
) -> None:
    manifest = generate(model, make_plan(model, 100, 7, blocks_per_shard=2), tmp_path / "d")
    sha256 = export_hdf5(tmp_path / "d", tmp_path / "showers.hdf5")
    showers = read_all(tmp_path / "d")
    with h5py.File(tmp_path / "showers.hdf5") as file:
        assert {"incident_energies", "showers", "caloray_geometry"} == set(file)
        assert file["incident_energies"].shape == (100, 1)
        np.testing.assert_array_equal(file["showers"][()], showers.voxels)
        np.testing.assert_allclose(file["incident_energies"][:, 0], showers.incident_energies, rtol=1e-7)
        assert file.attrs["content_digest"] == manifest.created["content_digest"]
    assert export_hdf5(tmp_path / "d", tmp_path / "again.hdf5") == sha256


def test_other_layouts_give_the_same_file(model: Any, tmp_path: Path) -> None:
    made = []
    for k in (1, 13):
        generate(model, make_plan(model, 100, 7, blocks_per_shard=k), tmp_path / str(k))
        made.append(export_hdf5(tmp_path / str(k), tmp_path / f"{k}.hdf5"))
    assert made[0] == made[1]


def test_an_altered_shard_is_not_exported(model: Any, tmp_path: Path) -> None:
    manifest = generate(model, make_plan(model, 100, 7, blocks_per_shard=2), tmp_path / "d")
    shard = tmp_path / "d" / manifest.shards[3].path
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"shard-00003\.parquet"):
        export_hdf5(tmp_path / "d", tmp_path / "showers.hdf5")
    assert not list(tmp_path.glob("showers.hdf5*"))


def test_reference_showers_are_not_taken_for_generated_ones(model: Any, tmp_path: Path) -> None:
    generate(model, make_plan(model, 9), tmp_path)
    manifest = Manifest.load(tmp_path)
    replace(manifest, kind="geant4").save(tmp_path)
    with pytest.raises(DataError, match="geant4"):
        export_hdf5(tmp_path, tmp_path / "showers.hdf5")
