"""Sources: the same showers from a file and from shards, in pieces of any size."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.atomic import sha256_file
from caloray.errors import DataError, IntegrityError
from caloray.geometry import load_geometry
from caloray.io.ingest import IngestConfig, ingest
from caloray.io.manifest import MANIFEST, Manifest
from caloray.io.source import FileSource, ShardSource, open_source
from caloray.io.split import event_ids
from caloray.io.summary import check_file, summarise, tally
from caloray.showers import Showers

ROWS = 1300


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "a.hdf5"
    rng = np.random.default_rng(0)
    voxels = rng.exponential(20, (ROWS, 368)) * (rng.random((ROWS, 368)) < 0.25)
    with h5py.File(path, "w") as out:
        out["showers"] = voxels.astype("f4")
        out["incident_energies"] = rng.uniform(2e3, 5e4, (ROWS, 1))
        out.attrs["cpu_s"] = 3.5
    return path


@pytest.fixture(scope="module")
def directory(file: Path) -> Path:
    ingest(IngestConfig(files=(file,), rows_per_shard=700), file.parent / "shards")
    return file.parent / "shards"


def everything(chunks: list[Showers]) -> Showers:
    whole = Showers.concatenate(chunks)
    return whole.select(np.argsort(whole.ids))


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 1500))
def test_pieces_of_any_size(file: Path, directory: Path, rows: int) -> None:
    for source in (open_source(file), open_source(directory)):
        lengths = [len(piece) for piece in source.chunks(rows)]
        assert lengths[:-1] == [rows] * (len(lengths) - 1)
        assert sum(lengths) == ROWS == source.n_showers
        assert 0 < lengths[-1] <= rows


def test_file_and_shards_agree(file: Path, directory: Path) -> None:
    one = everything(list(open_source(file).chunks()))
    other = everything(list(open_source(directory).chunks()))
    order = np.argsort(event_ids(sha256_file(file), 0, ROWS))
    assert np.array_equal(one.voxels[order], other.voxels)
    assert np.array_equal(one.incident_energies[order], other.incident_energies)
    assert np.array_equal(one.ids, np.arange(ROWS))
    assert open_source(file).geometry == open_source(directory).geometry == load_geometry("ds1_photons")


def test_splits_make_up_the_whole(directory: Path) -> None:
    parts = [open_source(directory, split) for split in ("train", "validation", "test")]
    assert sum(part.n_showers for part in parts) == ROWS
    ids = [np.concatenate([piece.ids for piece in part.chunks()]) for part in parts]
    assert len(set(np.concatenate(ids).tolist())) == ROWS
    assert [len(found) for found in ids] == [part.n_showers for part in parts]
    assert len({part.digest for part in (*parts, open_source(directory))}) == 4


def test_can_be_read_again(directory: Path) -> None:
    source = open_source(directory, "test")
    one, two = (everything(list(source.chunks(7))) for _ in range(2))
    assert np.array_equal(one.voxels, two.voxels)


def test_manifest_stands_for_its_directory(directory: Path) -> None:
    assert isinstance(open_source(directory / MANIFEST), ShardSource)
    assert open_source(directory / MANIFEST).digest == open_source(directory).digest


def test_digest_of_a_file_is_its_sha256(file: Path) -> None:
    source = open_source(file)
    assert isinstance(source, FileSource)
    assert source.digest == sha256_file(file)


def test_split_of_a_file_and_unknown_split(file: Path, directory: Path) -> None:
    with pytest.raises(DataError, match=r"a\.hdf5: a single file has no split 'train'"):
        open_source(file, "train")
    with pytest.raises(DataError, match="no split 'generated'"):
        open_source(directory, "generated")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.hdf5"):
        open_source(tmp_path / "no.hdf5")
    with pytest.raises(IntegrityError, match="not a complete directory"):
        open_source(tmp_path)


@pytest.mark.faults
def test_tampered_shard_is_refused_before_its_first_row(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "shards"
    ingest(IngestConfig(files=(file,)), out)
    entry = Manifest.load(out).of("test")[0]
    path = out / entry.path
    raw = bytearray(path.read_bytes())
    raw[-30] ^= 1  # in the footer, where no page checksum looks
    path.write_bytes(raw)
    assert len(list(open_source(out, "train").chunks())) > 0
    with pytest.raises(IntegrityError, match=r"test/part-00000\.parquet: sha256 .* expected"):
        next(iter(open_source(out, "test").chunks()))


def test_impossible_rows_of_a_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.hdf5"
    voxels = np.ones((30, 368), "f4")
    voxels[21, 4] = np.nan
    with h5py.File(path, "w") as out:
        out["showers"] = voxels
        out["incident_energies"] = np.full((30, 1), 10.0)  # E_tot is 36.8 x E_inc: allowed here
    pieces = open_source(path).chunks(10)
    assert len(next(pieces)) == len(next(pieces)) == 10
    with pytest.raises(DataError, match=r"bad\.hdf5.*not a number in 1 row \(21\)"):
        next(pieces)


# ------------------------------------------------------------------ summaries


def test_tally_against_plain_numpy(file: Path) -> None:
    with h5py.File(file) as raw:
        voxels, energies = raw["showers"][:].astype(float), raw["incident_energies"][:, 0]
    found = tally(open_source(file).chunks(170))
    assert found is not None
    ratio = voxels.sum(axis=1) / energies
    assert found.showers == ROWS
    assert (found.energy_min, found.energy_max) == (energies.min(), energies.max())
    assert found.ratio_mean == pytest.approx(ratio.mean(), rel=1e-12)
    assert found.ratio_std == pytest.approx(ratio.std(), rel=1e-12)
    assert found.hits_mean == pytest.approx((voxels > 0).sum(axis=1).mean())
    assert found.occupancy == pytest.approx((voxels > 0).mean())
    assert found.voxel_min == voxels[voxels > 0].min()
    assert found.voxel_max == voxels.max()


def test_tally_stops_at_its_limit(file: Path) -> None:
    read = []

    def watched() -> object:
        for piece in open_source(file).chunks(100):
            read.append(len(piece))
            yield piece

    found = tally(watched(), 250)
    assert found is not None
    assert (found.showers, read) == (250, [100, 100, 100])
    assert tally(iter(()), 10) is None


def test_summaries(file: Path, directory: Path) -> None:
    one, other = summarise(file), summarise(directory)
    assert one["kind"] == "CaloChallenge HDF5"
    assert (one["showers"], one["dtype"], one["attrs"]["cpu_s"]) == (ROWS, "float32", 3.5)
    assert one["sha256"] == sha256_file(file)
    assert one["path"] == str(file)
    assert other["kind"] == "shards (geant4)"
    assert sum(other["splits"].values()) == other["showers"] == ROWS
    for key in ("energy_min", "ratio_mean", "hits_mean", "voxel_max"):
        assert other["statistics"][key] == pytest.approx(one["statistics"][key], rel=1e-12)
    assert summarise(directory, "test")["showers"] == other["splits"]["test"]
    assert summarise(file, limit=10)["statistics"]["showers"] == 10


def test_check_file(file: Path) -> None:
    assert check_file(file) == (ROWS, [])
    rows, (found,) = check_file(file, max_ratio=1e-3)
    assert (rows, found.rule, found.count) == (ROWS, "deposit", ROWS)
