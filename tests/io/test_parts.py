"""Parts of a source are the source, cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caloray.errors import DataError
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.ingest import IngestConfig, ingest
from caloray.io.parts import Part, parts_of
from caloray.io.source import FileSource, ShowerSource, open_source
from caloray.showers import Showers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    showers = Showers(rng.uniform(1e3, 2e3, 300), rng.random((300, 368)), np.arange(300))
    write_challenge(folder / "a.hdf5", load_geometry("ds1_photons"), [showers])
    ingest(IngestConfig(files=(folder / "a.hdf5",), rows_per_shard=40), folder / "shards")
    return folder


def everything(sources: list[ShowerSource]) -> Showers:
    return Showers.concatenate([chunk for source in sources for chunk in source.chunks(17)])


@pytest.mark.parametrize(("name", "split"), [("a.hdf5", None), ("shards", None), ("shards", "train")])
@pytest.mark.parametrize("rows", [1, 70, 1000])
def test_parts_make_up_the_whole(folder: Path, name: str, split: str | None, rows: int) -> None:
    source = open_source(folder / name, split)
    parts = parts_of(source, rows)
    opened = [part.open() for part in parts]
    assert [one.n_showers for one in opened] == [part.rows for part in parts]
    whole, joined = everything([source]), everything(opened)
    np.testing.assert_array_equal(whole.ids, joined.ids)
    np.testing.assert_array_equal(whole.voxels, joined.voxels)
    assert len(parts) > 1 or rows == 1000


def test_a_part_can_be_cut_again(folder: Path) -> None:
    source = FileSource(folder / "a.hdf5", 100, 200)
    assert parts_of(source, 60) == [
        Part(folder / "a.hdf5", None, 100, 160, 60),
        Part(folder / "a.hdf5", None, 160, 200, 40),
    ]


def test_showers_in_memory_have_no_parts() -> None:
    with pytest.raises(DataError, match="cannot be cut into parts"):
        parts_of(object(), 3)  # type: ignore[arg-type]
