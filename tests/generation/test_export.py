from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.errors import ConfigError, DataError, IntegrityError, StorageError
from caloray.generation.export import export_hdf5, merge, merge_format
from caloray.generation.plan import make_plan
from caloray.generation.run import generate
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
    manifest = generate(model, make_plan(model, 9), tmp_path / "d")
    replace(manifest, kind="geant4").save(tmp_path / "d")
    with pytest.raises(DataError, match="geant4"):
        export_hdf5(tmp_path / "d", tmp_path / "showers.hdf5")


@pytest.fixture
def made(model: Any, tmp_path: Path) -> Path:
    generate(model, make_plan(model, 20, 7, blocks_per_shard=2), tmp_path / "d")
    return tmp_path / "d"


@pytest.mark.parametrize(
    "name", ["shards/shard-00000.parquet", "particles.parquet", "new.hdf5", "link/x.hdf5"]
)
def test_the_showers_own_directory_is_not_written_into(made: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(made / "shards")
    path = tmp_path / name if name.startswith("link") else made / name
    before = {p: p.read_bytes() for p in made.rglob("*") if p.is_file()}
    with pytest.raises(StorageError, match="lies inside") as caught:
        merge(made, path)
    assert caught.value.exit_code == 74
    assert {p: p.read_bytes() for p in made.rglob("*") if p.is_file()} == before


def test_only_plain_files_are_replaced(made: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.hdf5"
    os.mkfifo(pipe)
    (tmp_path / "folder.hdf5").mkdir()
    for path in (pipe, tmp_path / "folder.hdf5"):
        with pytest.raises(StorageError, match="no plain file"):
            merge(made, path)
    assert pipe.is_fifo()


def test_a_file_is_replaced_only_when_that_is_wanted(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.hdf5"
    path.write_text("precious")
    with pytest.raises(StorageError, match="is there already") as caught:
        merge(made, path, replace=False)
    assert "--force" in caught.value.hint
    assert path.read_text() == "precious"
    merge(made, path)
    assert h5py.is_hdf5(path)


def test_a_name_that_says_another_format_is_refused() -> None:
    for name, wanted in (("b.hdf5", "rntuple"), ("b.parquet", "hdf5"), ("b.root", "parquet")):
        with pytest.raises(ConfigError, match="its name says"):
            merge_format(Path(name), wanted)
    assert merge_format(Path("b.root"), "rntuple") == "rntuple"
    assert merge_format(Path("b.h5"), "showerdata") == "showerdata"
    assert merge_format(Path("B.HDF5")) == "hdf5"
    assert merge_format(Path("b.dat"), "root") == "root"
