"""Point clouds: what the ``showerdata`` library reads is what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.errors import DataError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.showerdata import write_showerdata
from caloray.io.sparse import SparseShowers
from caloray.showers import Showers

EDGES = (-4.0, -1.0, 3.0)
BOX = Geometry("box", "cartesian", (Layer(3, EDGES, (0.0, 2.0, 4.0, 6.0)), Layer(9, EDGES, EDGES)), "photon")
RING = Geometry("ring", "cylindrical", (Layer(0, (0.0, np.pi, 2 * np.pi), (0.0, 2.0, 6.0)),))


def sparse(rows: list[dict[int, float]], geometry: Geometry = BOX, **extras: Any) -> SparseShowers:
    """Showers with the given energies [MeV] in the given voxels."""
    voxels = np.zeros((len(rows), geometry.n_voxels), np.float32)
    for row, hits in enumerate(rows):
        for voxel, energy in hits.items():
            voxels[row, voxel] = energy
    showers = Showers(np.linspace(1e3, 2e3, len(rows)), voxels, np.arange(len(rows)) + 5)
    return SparseShowers.of(showers, {name: np.array(values) for name, values in extras.items()})


def test_the_library_reads_it(tmp_path: Path) -> None:
    library = pytest.importorskip("showerdata", reason="needs the extra showerdata")
    geometry = load_geometry("ds2")
    rng = np.random.default_rng(1)
    voxels = rng.exponential(3.0, (60, geometry.n_voxels)) * (rng.random((60, geometry.n_voxels)) < 0.01)
    voxels[7] = 0
    showers = SparseShowers.of(
        Showers(rng.uniform(1e3, 1e6, 60), voxels, np.arange(60) + 3), {"pdg": rng.choice([11, -11, 0], 60)}
    )
    path = tmp_path / "a.showerdata.h5"
    write_showerdata(path, geometry, [showers.select(slice(0, 25)), showers.select(slice(25, 60))])
    found = library.load(path)
    counts = np.diff(showers.starts)
    assert library.get_file_shape(path) == (60, counts.max(), 4)
    np.testing.assert_array_equal(found._num_points, counts)
    np.testing.assert_array_equal(found.shower_ids, showers.ids)
    np.testing.assert_allclose(found.energies[:, 0], showers.incident_energies / 1e3, rtol=1e-7)
    np.testing.assert_array_equal(found.directions, np.tile([0, 0, 1], (60, 1)))
    told = showers.extras["pdg"]
    np.testing.assert_array_equal(found.pdg, np.where(told == 0, 11, told))
    np.testing.assert_allclose(found.points[..., 3].sum(axis=1), voxels.sum(axis=1) / 1e3, rtol=1e-5)
    for row in (0, 59):
        (hit,) = np.nonzero(voxels[row])
        points = found.points[row, : counts[row]]
        np.testing.assert_array_equal(points[:, 2], geometry.layer_of_voxel[hit])
        np.testing.assert_allclose(points[:, 3], voxels[row, hit] / 1e3, rtol=1e-6)
        radius = np.concatenate([geometry.centres(layer)[1] for layer in range(45)])[hit]
        np.testing.assert_allclose(np.hypot(points[:, 0], points[:, 1]), radius, rtol=1e-5)
    with library.ShowerDataFile(path) as file:
        assert len(file) == 60
        np.testing.assert_array_equal(file[10:20].points, found.points[10:20])


@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [{}, {}],
        [{0: 1.0}],
        [{0: 1.0, 3: 2.0}, {1: 1.0, 2: 2.0}],
        [{}, {5: 1.0}, {0: 1.0, 9: 1.0}, {}],
    ],
)
def test_lists_of_any_lengths(tmp_path: Path, rows: list[dict[int, float]]) -> None:
    write_showerdata(tmp_path / "a.h5", BOX, [sparse(rows)])
    with h5py.File(tmp_path / "a.h5") as file:
        assert [len(cloud) // 4 for cloud in file["showers"]] == [len(hits) for hits in rows]
        assert file["shape"][()].tolist() == [len(rows), max(map(len, rows)), 4]


def test_the_schema_and_the_middles_of_voxels(tmp_path: Path) -> None:
    showers = sparse([{0: 1000.0, 5: 500.0, 6: 250.0}], run=[7])
    write_showerdata(tmp_path / "a.h5", BOX, [showers], {"bundle_digest": "b"})
    with h5py.File(tmp_path / "a.h5") as file:
        expected = {
            "showers",
            "energies",
            "directions",
            "pdg",
            "shower_ids",
            "num_points",
            "shape",
            "caloray",
        }
        assert set(file) == expected
        assert file["showers"].dtype == h5py.vlen_dtype(np.float32)
        assert (file["energies"].shape, file["energies"].dtype) == ((1, 1), np.float32)
        assert (file["directions"].shape, file["directions"].dtype) == ((1, 3), np.float32)
        assert {file[name].dtype for name in ("pdg", "shower_ids", "num_points", "shape")} == {np.dtype("i4")}
        assert file["pdg"][0] == 22
        assert (file.attrs["showerdata_version"], file.attrs["bundle_digest"]) == ("0.7.0", "b")
        assert {name: values[()].tolist() for name, values in file["caloray"].items()} == {
            "event_id": [5],
            "run": [7],
        }
        points = file["showers"][0].reshape(-1, 4)
    np.testing.assert_allclose(points, [[-2.5, 1, 0, 1], [1, 5, 0, 0.5], [-2.5, -2.5, 1, 0.25]])
    write_showerdata(tmp_path / "ring.h5", RING, [sparse([{0: 1.0, 3: 1.0}], RING)])
    with h5py.File(tmp_path / "ring.h5") as file:
        points = file["showers"][0].reshape(-1, 4)
        assert file["pdg"][0] == 0
    np.testing.assert_allclose(points[:, :2], [[0, 1], [0, -4]], atol=1e-6)


def test_directions_of_the_particles(tmp_path: Path) -> None:
    direction = np.array([[0.6, 0.0, 0.8]])
    showers = sparse([{1: 1.0}])
    named = {f"direction_{axis}": direction[:, i] for i, axis in enumerate("xyz")}
    tilted = SparseShowers(
        showers.incident_energies, showers.ids, showers.starts, showers.voxels, showers.energies, named
    )
    write_showerdata(tmp_path / "a.h5", BOX, [tilted])
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_allclose(file["directions"][()], direction, rtol=1e-6)


def test_no_point_without_energy(tmp_path: Path) -> None:
    """In GeV the smallest float32 numbers are zero, and a zero between points hides the last one."""
    write_showerdata(tmp_path / "a.h5", BOX, [sparse([{0: 1.0, 1: 1e-45, 2: -0.0, 3: 2.0}])])
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["num_points"][0] == 2
        np.testing.assert_allclose(file["showers"][0].reshape(-1, 4)[:, 3], [1e-3, 2e-3])


@pytest.mark.parametrize("energy", [np.nan, np.inf, -1.0])
def test_what_is_no_energy_is_refused(tmp_path: Path, energy: float) -> None:
    with pytest.raises(DataError, match="negative or not finite"):
        write_showerdata(tmp_path / "a.h5", BOX, [sparse([{0: 1.0}]), sparse([{1: energy}])])
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    far = sparse([{0: 1.0}])
    far.ids[0] = 2**31
    with pytest.raises(DataError, match="event id 2147483648 does not fit"):
        write_showerdata(tmp_path / "a.h5", BOX, [far])
    with pytest.raises(DataError, match="no showers"):
        write_showerdata(tmp_path / "a.h5", BOX, [sparse([])])
    with pytest.raises(DataError, match="the geometry has 4"):
        write_showerdata(tmp_path / "a.h5", RING, [sparse([{9: 1.0}])])
    assert list(tmp_path.iterdir()) == []


def test_same_showers_same_bytes(tmp_path: Path) -> None:
    rows = [{voxel: float(voxel + 1) for voxel in range(k % 10)} for k in range(40)]
    whole = sparse(rows)
    digests = {
        write_showerdata(tmp_path / f"{k}.h5", BOX, [whole.select(slice(0, k)), whole.select(slice(k, 40))])
        for k in (0, 40)
    }
    assert len(digests) == 1
