"""The watched numbers are those of the evaluation's observables, and do not depend on the batch."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.geometry import Geometry, Layer
from caloray.observables import observe
from caloray.quality.observables import BANDS, band_name, measure, names_of

EDGES = tuple(float(i) for i in range(6))
TWICE = tuple(2 * edge for edge in EDGES)
UNEVEN = Geometry("uneven", "cartesian", (Layer(0, EDGES, EDGES), Layer(1, EDGES, TWICE)))
RNG = np.random.default_rng(0)


def sparse(geometry: Geometry, count: int = 40) -> np.ndarray:
    """Voxels [MeV], half of them empty; one shower is."""
    shape = count, geometry.n_voxels
    voxels = RNG.lognormal(1, 2, shape) * (RNG.random(shape) > 0.5)
    voxels[3] = 0
    return voxels.astype(np.float32)


@pytest.fixture(params=["uniform", "ragged", "uneven", "grid"])
def geometry(request, toy, plain) -> Geometry:
    """Same layers, layers of other sizes, layers of other widths, a Cartesian readout."""
    return {"uniform": toy.GEOMETRY, "ragged": toy.RAGGED, "uneven": UNEVEN, "grid": plain.geometry}[
        request.param
    ]


def test_against_the_observables_of_the_evaluation(geometry):
    voxels = sparse(geometry)
    incident = RNG.uniform(1e3, 2e3, len(voxels))
    found, known = measure(voxels, incident, geometry), observe(voxels, geometry)
    names = names_of(geometry)
    columns = dict(zip(names.scalars, found.columns.T, strict=False))
    assert columns["response"] == pytest.approx(known.total / incident, rel=1e-5)
    assert columns["hits"] ** 2 == pytest.approx(known.total_hits)
    assert columns["depth"] == pytest.approx(known.depth_mean, rel=1e-5)
    assert columns["length"] == pytest.approx(known.depth_width, abs=1e-3)
    lit = known.total > 0
    brightest = voxels.max(axis=1)[lit] / known.total[lit]
    assert columns["brightest voxel"][lit] == pytest.approx(brightest, rel=1e-5)
    assert found.columns.shape == (len(voxels), names.n_scalars + names.n_profiles)
    shares, hits, bands = np.split(
        found.columns[:, names.n_scalars :], [geometry.n_layers, 2 * geometry.n_layers], axis=1
    )
    assert (shares**2 * known.total[:, None]) == pytest.approx(known.layer_energies, rel=1e-5, abs=1e-9)
    assert hits**2 == pytest.approx(known.hits)
    assert (bands**2).sum(axis=1) == pytest.approx(known.total_hits)
    assert np.array_equal(found.lit, (voxels > 0).sum(axis=0))
    assert np.isfinite(found.columns).all()


def test_centres_and_widths_of_the_whole_shower(plain):
    """By hand: two voxels of 3 and 1 MeV, 10 mm apart in x and y."""
    voxels = np.zeros((1, plain.geometry.n_voxels), dtype=np.float32)
    voxels[0, 36 * 2 + 6 * 3 + 3], voxels[0, 36 * 4 + 6 * 4 + 4] = 3, 1
    found = measure(voxels, np.array([8.0]), plain.geometry)
    columns = dict(zip(names_of(plain.geometry).scalars, found.columns[0], strict=False))
    assert columns["centre x"] == pytest.approx(5 + 10 / 4)
    assert columns["width y"] == pytest.approx(10 * np.sqrt(3) / 4)
    assert columns["depth"] == pytest.approx(2.5)
    assert columns["response"] == pytest.approx(0.5)


def test_bands_of_voxel_energies(plain):
    energies = [2.0**-13, 2.0**-10, 2.0**-8, 1.0, 3.999, 4.0, 2.0**40]
    voxels = np.zeros((1, plain.geometry.n_voxels), dtype=np.float32)
    voxels[0, : len(energies)] = energies
    found = measure(voxels, np.array([1.0]), plain.geometry).columns[0, -BANDS:] ** 2
    assert np.flatnonzero(found).tolist() == [0, 1, 5, 6, BANDS - 1]
    assert found[[0, 1, 5, 6, -1]] == pytest.approx([2, 1, 2, 1, 1])
    assert band_name(0) == "voxels below 0.00391 MeV"
    assert band_name(5) == "voxels of 1 to 4 MeV"
    assert band_name(BANDS - 1) == "voxels above 65536 MeV"


def test_no_shower_depends_on_the_others(geometry):
    voxels = sparse(geometry, 33)
    incident = RNG.uniform(1e3, 2e3, len(voxels))
    whole = measure(voxels, incident, geometry)
    for rows in (slice(0, 1), slice(5, 6), slice(7, 12), slice(2, 33), slice(None, None, -1)):
        part = measure(voxels[rows], incident[rows], geometry)
        assert part.columns.tobytes() == np.ascontiguousarray(whole.columns[rows]).tobytes()
        assert np.array_equal(part.prints, whole.prints[rows])


def test_fingerprints_tell_showers_apart(geometry):
    voxels = sparse(geometry)
    found = measure(voxels, np.ones(len(voxels)), geometry).prints
    filled = (voxels > 0).sum(axis=1) >= 4
    assert not filled.all()
    assert np.array_equal(found > 0, filled)
    assert len(set(found[filled].tolist())) == filled.sum()
    again = measure(voxels[::-1], np.full(len(voxels), 2.0), geometry).prints
    assert np.array_equal(again[::-1], found)
