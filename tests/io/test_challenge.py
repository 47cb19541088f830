"""CaloChallenge HDF5: round trips, chunked reading, bounded memory, full disks."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.atomic import sha256_file
from caloray.errors import DataError, GeometryError, StorageError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io import challenge
from caloray.io.challenge import ChallengeFile, write_challenge
from caloray.io.patient import PatientFile
from caloray.showers import Showers, check_rows

REFERENCE = Path(os.environ.get("CALORAY_REFERENCE", Path(__file__).parents[3] / "shared"))
TOY = Geometry(
    "toy",
    "cylindrical",
    (Layer(0, (-1.0, 1.0), (0.0, 1.0, 2.0)), Layer(1, (-1.0, 0.0, 1.0), (0.0, 1.0, 2.0, 3.0))),
)


def toy(n: int, geometry: Geometry = TOY, seed: int = 1) -> Showers:
    rng = np.random.default_rng(seed)
    energies = rng.uniform(1e3, 1e5, n).astype(np.float32)
    voxels = rng.exponential(1.0, (n, geometry.n_voxels)) * (rng.random((n, geometry.n_voxels)) < 0.3)
    return Showers(energies, voxels, np.arange(n))


def cut(showers: Showers, *sizes: int) -> Iterator[Showers]:
    first = 0
    for size in [*sizes, len(showers)]:
        yield showers.select(slice(first, first + size))
        first += size


def same(one: Showers, other: Showers) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("incident_energies", "voxels", "ids")
    )


def test_round_trip_and_attributes(tmp_path: Path) -> None:
    path, showers = tmp_path / "new folder" / "a.hdf5", toy(50)
    digest = write_challenge(path, TOY, [showers], {"seed": 7, "note": "x"})
    assert len(digest) == 64
    with ChallengeFile.open(path, TOY) as file:
        assert (file.n_showers, len(file), file.geometry) == (50, 50, TOY)
        assert same(file.read(0, 50), showers)
        assert same(file.read(13, 20), showers.select(slice(13, 20)))
        assert len(file.read(5, 5)) == 0
        assert file.attrs["seed"] == 7
        assert file.attrs["note"] == "x"
        assert file.attrs["caloray_geometry_digest"] == TOY.digest
    assert [p.name for p in path.parent.iterdir()] == ["a.hdf5"], "no temporary file is left"


def test_plain_h5py_reads_the_challenge_layout(tmp_path: Path) -> None:
    path, ds2 = tmp_path / "a.hdf5", load_geometry("ds2")
    showers = toy(5, ds2)
    write_challenge(path, ds2, [showers])
    with h5py.File(path) as file:
        assert sorted(file) == ["incident_energies", "showers"]
        assert file["incident_energies"].shape == (5, 1)
        assert file["showers"].shape == (5, 6480)
        assert file["showers"].compression == "gzip"
        assert file["showers"].dtype == np.float32
        by_layer = file["showers"][:].reshape(5, 45, 16, 9).sum(axis=(2, 3))
    np.testing.assert_allclose(by_layer, showers.layer_energies(ds2), rtol=1e-4)


@pytest.mark.parametrize("name", ["ds1_photons", "ds1_pions", "ds2", "ds3", "ild_30x30x30"])
def test_geometry_is_recognised_by_its_size(tmp_path: Path, name: str) -> None:
    path, geometry = tmp_path / "a.hdf5", load_geometry(name)
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.ones((2, 1))
        file["showers"] = np.zeros((2, geometry.n_voxels))
    with ChallengeFile.open(path) as opened:
        assert opened.geometry == geometry


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 40),
    st.lists(st.integers(0, 15), max_size=4),
    st.integers(1, 9),
    st.lists(st.floats(0, 2.0**127, width=32), min_size=8, max_size=8),
)
def test_any_showers_in_any_cut_come_back(n: int, sizes: list[int], rows: int, first: list[float]) -> None:
    showers = toy(n)
    voxels = showers.voxels.copy()
    voxels[0] = first
    showers = Showers(showers.incident_energies, voxels, showers.ids)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.hdf5"
        digest = write_challenge(path, TOY, cut(showers, *sizes))
        with ChallengeFile.open(path, TOY) as file:
            parts = list(file.chunks(rows))
        assert [len(part) for part in parts[:-1]] == [rows] * (len(parts) - 1)
        assert same(Showers.concatenate(parts), showers)
        assert write_challenge(path, TOY, [showers]) == digest, "bytes do not depend on the cut"


def test_bytes_do_not_depend_on_the_cut_across_hdf5_chunks(tmp_path: Path) -> None:
    path, ds2 = tmp_path / "a.hdf5", load_geometry("ds2")
    showers = toy(300, ds2)
    written = {
        (write_challenge(path, ds2, cut(showers, *sizes), {"b": 1, "a": 2}), path.stat().st_size)
        for sizes in ([], [1, 2, 3, 200], [16] * 15, [299])
    }
    assert len(written) == 1
    with ChallengeFile.open(path, ds2) as file:
        assert same(file.read(0, 300), showers)


@pytest.mark.parametrize("sizes", [[], [1, 2, 3, 40], [16] * 6, [99]])
def test_hdf5_chunks_are_written_whole(sizes: list[int]) -> None:
    """HDF5 packs a chunk anew for every piece of it that arrives when the chunk does not fit its cache."""
    blocks = list(challenge._blocks(cut(toy(100), *sizes), TOY, 16))
    assert [len(block) for block in blocks] == [16] * 6 + [4]
    assert same(Showers.concatenate(blocks), toy(100))


def test_rows_outside_the_file_are_refused(tmp_path: Path) -> None:
    write_challenge(tmp_path / "a.hdf5", TOY, [toy(5)])
    with ChallengeFile.open(tmp_path / "a.hdf5", TOY) as file:
        for start, stop in ((0, 6), (-1, 3), (4, 3)):
            with pytest.raises(DataError, match=r"a\.hdf5: rows .* asked, the file has 5"):
                file.read(start, stop)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f4", "<f2"])
def test_shapes_and_dtypes_that_occur_in_the_wild(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    path = tmp_path / "a.hdf5"
    voxels = np.arange(6 * 368).reshape(6, 368) % 1000 / 8
    with h5py.File(path, "w") as file:
        file.create_dataset("incident_energies", data=np.arange(1.0, 7).reshape(shape), dtype=dtype)
        file.create_dataset("showers", data=voxels, dtype=dtype, chunks=(4, 100), compression="gzip")
    with ChallengeFile.open(path) as opened:
        assert opened.geometry.name == "ds1_photons"
        (showers,) = opened.chunks()
    assert showers.incident_energies.tolist() == [1, 2, 3, 4, 5, 6]
    assert np.array_equal(showers.voxels, voxels.astype(np.float32))


def test_grid_shaped_showers_are_flattened(tmp_path: Path) -> None:
    grid = np.arange(2 * 45 * 16 * 9, dtype=np.float32).reshape(2, 45, 16, 9)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["incident_energies"] = np.ones(2)
        file["showers"] = grid
    with ChallengeFile.open(tmp_path / "a.hdf5") as opened:
        assert opened.geometry.name == "ds2"
        assert np.array_equal(opened.read(1, 2).voxels, grid[1:].reshape(1, -1))


def test_each_hdf5_chunk_is_unpacked_once(tmp_path: Path) -> None:
    """Ten rows at a time, chunks of 64 rows: the file is read once, not seven times."""
    path = tmp_path / "a.hdf5"
    data = np.random.default_rng(1).random((320, 6480)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.ones(320)
        file.create_dataset("showers", data=data, chunks=(64, 6480), compression="gzip", compression_opts=1)
    code = f"""
import sys; from pathlib import Path; from caloray.io.challenge import ChallengeFile
with ChallengeFile.open(Path({str(path)!r})) as file:
    before = int(open('/proc/self/io').read().split()[1])
    sum(len(chunk) for chunk in file.chunks(10))
    print(int(open('/proc/self/io').read().split()[1]) - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.2 * path.stat().st_size


def test_writing_refuses_wrong_voxels_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="showers of 8 voxels, geometry ds2 has 6480"):
        write_challenge(tmp_path / "a.hdf5", load_geometry("ds2"), [toy(3)])
    with pytest.raises(DataError, match="no showers to write"):
        write_challenge(tmp_path / "a.hdf5", TOY, [])
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    digest = write_challenge(path, TOY, [toy(5)])

    def broken() -> Iterator[Showers]:
        yield toy(2000)
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        write_challenge(path, TOY, broken())
    assert sha256_file(path) == digest
    assert [p.name for p in tmp_path.iterdir()] == ["a.hdf5"]


def test_written_geometry_must_be_the_reading_one(tmp_path: Path) -> None:
    other = Geometry("other", "cartesian", TOY.layers)
    write_challenge(tmp_path / "a.hdf5", TOY, [toy(5)])
    with pytest.raises(GeometryError, match=r"a\.hdf5: written for a geometry of digest"):
        ChallengeFile.open(tmp_path / "a.hdf5", other)


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from caloray.geometry import load_geometry
from caloray.io.challenge import ChallengeFile, write_challenge
from caloray.showers import Showers, check_rows
path, ds3, n = Path(sys.argv[1]), load_geometry("ds3"), 3000
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def chunks():
    for first in range(0, n, 100):
        voxels = np.zeros((100, 40500), dtype=np.float32)
        voxels[:, ::997] = 1.0
        yield Showers(np.full(100, 1e3), voxels, np.arange(first, first + 100))
base = peak()
write_challenge(path, ds3, chunks())
wrote = peak()
with ChallengeFile.open(path) as file:
    for chunk in file.chunks(100):
        assert not check_rows(chunk, ds3)
print(base, wrote - base, peak() - base)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 486 MB of voxels, 16 MB at a time: well under 150 MB on top of the imports."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "a.hdf5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, writing, reading = map(float, done.stdout.split())
    assert writing < 150
    assert reading < 150


def fill_up(monkeypatch: pytest.MonkeyPatch, room: int, number: int) -> None:
    """Let files take ``room`` bytes in all, then fail as a full disk does."""
    used = 0
    store = io.FileIO.write

    def write(self: PatientFile, view: memoryview) -> int:
        nonlocal used
        used += len(view)
        if used > room:
            raise OSError(number, os.strerror(number))
        return store(self, view)

    monkeypatch.setattr(PatientFile, "_store", write)


@pytest.mark.parametrize("room", [0, 100, 5_000, 60_000, 150_000])
@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "no space left"), (errno.EFBIG, "cannot be written")]
)
def test_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, number: int, message: str
) -> None:
    fill_up(monkeypatch, room, number)
    with pytest.raises(StorageError, match=message) as caught:
        write_challenge(
            tmp_path / "a.hdf5", load_geometry("ds1_photons"), [toy(500, load_geometry("ds1_photons"))]
        )
    assert caught.value.exit_code == 74
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_stops_the_source_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_up(monkeypatch, 100_000, errno.ENOSPC)
    made = 0

    def source() -> Iterator[Showers]:
        nonlocal made
        for _ in range(20):
            made += 1
            yield toy(128, load_geometry("ds2"))

    with pytest.raises(StorageError, match="no space left"):
        write_challenge(tmp_path / "a.hdf5", load_geometry("ds2"), source())
    assert made < 6, "a few chunks may wait in the cache of HDF5"


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from caloray.errors import StorageError
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.showers import Showers
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
ds2, voxels = load_geometry("ds2"), np.random.default_rng(1).random((400, 6480))
try:
    write_challenge(Path(sys.argv[1]), ds2, [Showers(np.ones(400), voxels, np.arange(400))])
except StorageError as error:
    print(error)
"""


def test_hdf5_does_not_crash_the_process_after_a_failed_write(tmp_path: Path) -> None:
    """A plain h5py.File ends such a process with a segmentation fault at exit."""
    command = [sys.executable, "-c", FULL, str(tmp_path / "a.hdf5")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "cannot be written (File too large)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_space_is_asked_for_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge, "MARGIN_BYTES", 10**18)
    with pytest.raises(StorageError, match=r"need .* GB, have .* GB free"):
        write_challenge(tmp_path / "a.hdf5", TOY, [toy(5)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pattern", "geometry"),
    [
        ("par04_1-50GeV/electrons_ds2_00.hdf5", "ds2"),
        ("par04_1-50GeV/electrons_ds3_00.hdf5", "ds3"),
        ("ild_photons/photons_0deg_00.hdf5", "ild_30x90x90"),
    ],
)
def test_real_geant4_showers(pattern: str, geometry: str) -> None:
    path = REFERENCE / "data" / pattern
    if not path.is_file():
        pytest.skip(f"{pattern} is not here (CALORAY_REFERENCE)")
    with ChallengeFile.open(path) as file:
        assert file.geometry.name == geometry
        showers = file.read(0, 100)
        assert check_rows(showers, file.geometry, where=str(path)) == []
        layers = showers.layer_energies(file.geometry)
    # An electromagnetic shower peaks inside the calorimeter, not at its ends: the layer axis is the slow one.
    assert 3 < layers.sum(axis=0).argmax() < 25
    np.testing.assert_allclose(layers.sum(axis=1), showers.voxels.sum(axis=1, dtype=float))
