"""Geometries that travel with their showers."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from caloray.errors import DataError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.io.challenge import ChallengeFile, write_challenge
from caloray.showers import Showers

EDGES = tuple(float(edge) for edge in np.linspace(-45.795, 45.795, 28))
BOX = Geometry("box", "cartesian", tuple(Layer(n, EDGES, EDGES, 5.0 * n) for n in range(30)))


def write(path, geometry):
    voxels = np.ones((2, geometry.n_voxels), "f4")
    write_challenge(path, geometry, [Showers(np.full(2, 1e5), voxels, np.arange(2))])
    return path


def test_a_geometry_without_a_name_comes_back(tmp_path):
    with ChallengeFile.open(write(tmp_path / "box.hdf5", BOX)) as found:
        assert found.geometry == BOX


def test_known_geometries_add_nothing_to_the_challenges_format(tmp_path):
    with h5py.File(write(tmp_path / "ds1.hdf5", load_geometry("ds1_photons"))) as file:
        assert sorted(file) == ["incident_energies", "showers"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([b"{"]), "not a geometry"),
        (np.array([b'{"name": "x"}']), "malformed"),
        (np.array([b"[1]"]), "not a geometry"),
        (np.zeros(3), "expected one string"),
        (h5py.ExternalLink("other.hdf5", "x"), "a link"),
    ],
)
def test_a_damaged_geometry_is_told_in_one_line(tmp_path, value, words):
    path = write(tmp_path / "box.hdf5", BOX)
    with h5py.File(path, "r+") as file:
        del file["caloray_geometry"]
        file["caloray_geometry"] = value
    with pytest.raises(DataError, match=words) as refused:
        ChallengeFile.open(path)
    assert "\n" not in refused.value.message
    assert str(path) in refused.value.message
    with ChallengeFile.open(path, BOX) as found:  # a geometry given outright needs none in the file
        assert found.geometry == BOX
