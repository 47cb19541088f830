"""A directory of shards becomes one file: same showers in every format, verified on the way."""

from __future__ import annotations

import json
import resource
import sys
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from caloray.atomic import sha256_file
from caloray.errors import ConfigError, DataError, IntegrityError, InterruptedRunError, StorageError
from caloray.generation.export import MergeFormat, merge, merge_format
from caloray.geometry import Geometry, load_geometry
from caloray.interrupt import StopRequest
from caloray.io.manifest import Manifest, ShardEntry
from caloray.io.particle_files import file_particles
from caloray.io.particle_record import IDENTITY, ParticleRows
from caloray.io.shards import Layout, ShardReader, ShardWriter
from caloray.io.source import open_source
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

GEOMETRY = load_geometry("ds1_photons")
EXTRAS = {
    "run": "int64",
    "event": "int64",
    "particle": "int32",
    "pdg": "int32",
    "flags": "uint8",
    "attempts": "uint8",
    "log_prob": "float32",
}
ROWS = 700


def showers(rows: int = ROWS) -> SparseShowers:
    """Showers of a campaign that skipped every third particle."""
    rng = np.random.default_rng(5)
    voxels = rng.exponential(9.0, (rows, GEOMETRY.n_voxels)) * (rng.random((rows, GEOMETRY.n_voxels)) < 0.1)
    voxels[rows // 2 : rows // 2 + 1] = 0
    ids = np.arange(rows) * 3 // 2
    columns = {name: rng.integers(0, 100, rows).astype(dtype) for name, dtype in EXTRAS.items()}
    conditions = {"age": rng.random(rows)}
    return SparseShowers.of(Showers(rng.uniform(2e3, 5e4, rows), voxels, ids, conditions), columns)


def directory(
    path: Path, made: SparseShowers, cuts: tuple[int, ...] = (), layout: Layout = "sparse", **extras: str
) -> Path:
    """A finished directory with these showers, cut at these rows."""
    entries = []
    for index, (start, stop) in enumerate(pairwise((0, *cuts, len(made)))):
        shard = path / f"shards/shard-{index:05d}.parquet"
        kinds = extras or {name: EXTRAS[name] for name in made.extras}
        with ShardWriter(shard, GEOMETRY, {"seed": "3"}, {"age": "a"}, layout=layout, extras=kinds) as writer:
            if stop > start:
                part = made.select(slice(start, stop))
                writer.append(part, {name: part.extras[name] for name in kinds})
        size, name = shard.stat().st_size, shard.relative_to(path).as_posix()
        entries.append(ShardEntry(name, stop - start, size, sha256_file(shard), "generated"))
    described, created = GEOMETRY.to_dict(), {"bundle_digest": "b" * 64, "content_digest": "c" * 64}
    Manifest("generated", described, GEOMETRY.digest, tuple(entries), created).save(path)
    return path


def assert_same(found: SparseShowers, made: SparseShowers) -> None:
    for name in ("ids", "incident_energies", "starts", "voxels", "energies"):
        assert np.array_equal(getattr(found, name), getattr(made, name)), name
    for one, other in ((found.conditions, made.conditions), (found.extras, made.extras)):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
def test_hdf5(tmp_path: Path, layout: Layout) -> None:
    made = showers()
    source = directory(tmp_path / "d", made, (256, 256, 512), layout)
    seen: list[int] = []
    digest = merge(source, tmp_path / "all.hdf5", progress=seen.append)
    assert (sum(seen), digest) == (ROWS, sha256_file(tmp_path / "all.hdf5"))
    with h5py.File(tmp_path / "all.hdf5") as file:
        assert np.array_equal(file["showers"][()], made.dense(GEOMETRY.n_voxels).voxels)
        np.testing.assert_allclose(file["incident_energies"][:, 0], made.incident_energies, rtol=1e-7)
        assert np.array_equal(file["incident_age"][:, 0], made.conditions["age"])
        assert np.array_equal(file["event_id"][()], made.ids)
        for name, dtype in EXTRAS.items():
            assert file[name].dtype == dtype
            assert np.array_equal(file[name][()], made.extras[name])
        assert file.attrs["bundle_digest"] == "b" * 64
    again = open_source(tmp_path / "all.hdf5")
    assert (again.n_showers, again.conditions, again.geometry.digest) == (ROWS, {"age": "a"}, GEOMETRY.digest)


def test_parquet(tmp_path: Path) -> None:
    made = showers()
    digests = set()
    for number, (cuts, layout) in enumerate((((), "sparse"), ((0, 300, 300), "dense"), ((1, 699), "sparse"))):
        source = directory(tmp_path / f"{number}", made, cuts, layout)
        digests.add(merge(source, tmp_path / f"{number}.parquet"))
    assert len(digests) == 1, "the bytes depend on the shards"
    path = tmp_path / "0.parquet"
    with ShardReader(path, GEOMETRY) as reader:
        assert (reader.layout, reader.extras, reader.conditions) == ("sparse", EXTRAS, {"age": "a"})
        assert reader.extra["seed"] == "3"
        assert_same(reader.sparse(), made)
    table = pq.read_table(path)
    assert table.column("pdg").to_pylist() == made.extras["pdg"].tolist()
    assert table.column("voxel")[0].as_py() == made.voxels[: made.starts[1]].tolist()
    described = json.loads(table.schema.metadata[b"caloray.readout"])
    assert Geometry.from_dict(described) == GEOMETRY


def test_a_merged_parquet_file_is_a_source_of_showers(tmp_path: Path) -> None:
    made = showers()
    merge(directory(tmp_path / "d", made, (400,)), tmp_path / "all.parquet")
    source = open_source(tmp_path / "all.parquet")
    assert (source.n_showers, source.geometry, source.conditions) == (ROWS, GEOMETRY, {"age": "a"})
    pieces = list(source.chunks(256))
    assert [len(piece) for piece in pieces] == [256, 256, 188]
    dense = made.dense(GEOMETRY.n_voxels)
    assert np.array_equal(Showers.concatenate(pieces).voxels, dense.voxels)
    assert np.array_equal(source.incident()[1], dense.incident_energies)
    with pytest.raises(DataError, match="one shard of a directory"):
        open_source(tmp_path / "d/shards/shard-00000.parquet")


def test_point_clouds(tmp_path: Path) -> None:
    library = pytest.importorskip("showerdata", reason="needs the extra showerdata")
    made = showers(60)
    merge(directory(tmp_path / "d", made, (20,)), tmp_path / "all.showerdata.h5")
    found = library.load(tmp_path / "all.showerdata.h5")
    assert np.array_equal(found._num_points, np.diff(made.starts))
    assert np.array_equal(found.pdg, np.where(made.extras["pdg"] == 0, 22, made.extras["pdg"]))
    assert np.array_equal(found.shower_ids, made.ids)
    total = np.add.reduceat(np.append(made.energies, 0), made.starts[:-1]) * (np.diff(made.starts) > 0)
    np.testing.assert_allclose(found.points[..., 3].sum(axis=1), total / 1e3, rtol=1e-5)


@pytest.mark.parametrize("chosen", [None, "rntuple"])
def test_root(tmp_path: Path, chosen: MergeFormat | None) -> None:
    uproot = pytest.importorskip("uproot", reason="needs the extra root")
    awkward = pytest.importorskip("awkward", reason="needs the extra root")
    made = showers(60)
    merge(directory(tmp_path / "d", made, (20,)), tmp_path / "all.root", chosen)
    with uproot.open(tmp_path / "all.root") as file:
        assert type(file["showers"]).__name__.startswith("Model_ROOT" if chosen else "Model_TTree")
        found = file["showers"].arrays()
    for column, values in ({"event_id": made.ids} | dict(made.extras)).items():
        assert np.array_equal(awkward.to_numpy(found[column]), values)
    assert np.array_equal(awkward.to_numpy(awkward.flatten(found["voxel"])), made.voxels)
    assert np.array_equal(awkward.to_numpy(awkward.flatten(found["energy"])), made.energies)


FORMATS: tuple[MergeFormat, ...] = ("hdf5", "parquet", "showerdata", "root", "rntuple")


@pytest.mark.parametrize("chosen", FORMATS)
def test_damage_is_found_before_it_is_passed_on(tmp_path: Path, chosen: MergeFormat) -> None:
    source = directory(tmp_path / "d", showers(60), (20, 40))
    shard = source / "shards/shard-00002.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"shard-00002\.parquet"):
        merge(source, tmp_path / "all", chosen)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("chosen", FORMATS)
def test_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, chosen: MergeFormat) -> None:
    source = directory(tmp_path / "d", showers(), (300,))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(StorageError, match="all"):
            merge(source, tmp_path / "all", chosen)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_energies_that_are_none_are_refused(tmp_path: Path, value: float) -> None:
    made = showers(60)
    made.energies[made.starts[10]] = value
    with pytest.raises(DataError, match=r"shard-00000\.parquet: 1 showers .* \(ids 15\)"):
        merge(directory(tmp_path / "d", made), tmp_path / "all.parquet")


def test_ids_in_disorder(tmp_path: Path) -> None:
    made = showers(60)
    made.ids[30:] -= 1
    made.ids[30] = made.ids[29]
    source = directory(tmp_path / "d", made, (30,))
    with pytest.raises(IntegrityError, match=r"shard-00001\.parquet: event ids are not ascending"):
        merge(source, tmp_path / "all.parquet")


def test_shards_of_two_kinds(tmp_path: Path) -> None:
    made = showers(60)
    one, other = directory(tmp_path / "a", made, (30,)), directory(tmp_path / "b", made, (30,), run="int64")
    stray = one / "shards/shard-00001.parquet"
    stray.write_bytes((other / "shards/shard-00001.parquet").read_bytes())
    manifest = Manifest.load(one)
    entry = ShardEntry(manifest.shards[1].path, 30, stray.stat().st_size, sha256_file(stray), "generated")
    Manifest(
        "generated", GEOMETRY.to_dict(), GEOMETRY.digest, (manifest.shards[0], entry), manifest.created
    ).save(one)
    with pytest.raises(IntegrityError, match="other columns than the first shard"):
        merge(one, tmp_path / "all.hdf5")


def test_a_directory_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no showers to write"):
        merge(directory(tmp_path / "d", showers(0)), tmp_path / "all.parquet")


def test_a_stop_leaves_nothing(tmp_path: Path) -> None:
    source, stop = directory(tmp_path / "d", showers(), (300,)), StopRequest()
    with pytest.raises(InterruptedRunError, match="merging stopped"):
        merge(source, tmp_path / "all.parquet", progress=lambda _: stop.request(), stop=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_formats_by_name() -> None:
    names = {
        "a.hdf5": "hdf5",
        "a.h5": "hdf5",
        "a.parquet": "parquet",
        "a.showerdata.h5": "showerdata",
        "a.root": "root",
    }
    assert {name: merge_format(Path(name)) for name in names} == names
    assert merge_format(Path("a.root"), "rntuple") == "rntuple"
    with pytest.raises(ConfigError, match="its name does not tell a format"):
        merge_format(Path("a.txt"))
    with pytest.raises(ConfigError, match="format 'lcio' is not known"):
        merge_format(Path("a.root"), "lcio")


def test_without_uproot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = directory(tmp_path / "d", showers(5))
    monkeypatch.setitem(sys.modules, "uproot", None)
    with pytest.raises(ConfigError, match="which is not installed") as caught:
        merge(source, tmp_path / "all.root")
    assert "caloray[root]" in caught.value.hint


def test_a_merged_hdf5_is_a_list_of_its_particles(tmp_path: Path) -> None:
    made = showers(20)
    merge(directory(tmp_path / "d", made, (7,)), tmp_path / "all.hdf5")
    rows = ParticleRows.concatenate(list(file_particles(tmp_path / "all.hdf5", ["age"])))
    np.testing.assert_array_equal(rows.energies, made.incident_energies.astype(np.float32))
    np.testing.assert_array_equal(rows.conditions["age"], made.conditions["age"])
    for name in IDENTITY:
        np.testing.assert_array_equal(rows.columns()[name], made.extras[name])
