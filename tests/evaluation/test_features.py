"""The feature vector: official order, scales and dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.evaluation.features import feature_names, feature_vector
from caloray.geometry import load_geometry
from caloray.observables import observe

DIMENSIONS = {"ds1_photons": 30, "ds1_pions": 46, "ds2": 362, "ds3": 362}


@pytest.mark.parametrize(("name", "dimension"), DIMENSIONS.items())
def test_dimensions(name: str, dimension: int) -> None:
    geometry = load_geometry(name)
    voxels = np.random.default_rng(1).gamma(0.2, 40.0, size=(3, geometry.n_voxels))
    found = feature_vector(observe(voxels, geometry, 1.0), np.array([1e3, 1e4, 1e5]), geometry)
    assert found.shape == (3, dimension)
    assert found.dtype == np.float64
    assert len(feature_names(geometry)) == len(set(feature_names(geometry))) == dimension
    assert np.all(np.isfinite(found))


def test_columns_are_what_their_names_say() -> None:
    geometry = load_geometry("ds1_pions")
    voxels = np.random.default_rng(2).gamma(0.3, 30.0, size=(5, geometry.n_voxels))
    energies = np.geomspace(300, 4e6, 5)
    seen = observe(voxels, geometry, 1.0)
    found = dict(zip(feature_names(geometry), feature_vector(seen, energies, geometry).T, strict=True))
    expected = {
        "incident_energy": np.log10(energies),
        "layer_energy/03": np.log10(seen.layer_energies[:, 3] + 1e-8),
        "centre_eta/01": seen.centres["eta"][:, 1] / 100,
        "centre_phi/05": seen.centres["phi"][:, 5] / 100,
        "width_eta/04": seen.widths["eta"][:, 4] / 100,
        "width_phi/02": seen.widths["phi"][:, 2] / 100,
        "total_energy": np.log10(voxels[...].sum(axis=1, where=voxels >= 1.0) + 1e-8),
        "sparsity/06": seen.sparsity[:, 6],
        "centre_r/00": seen.centres["r"][:, 0] / 100,
        "width_r/06": seen.widths["r"][:, 6] / 100,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12, err_msg=name)
    assert list(found)[:1] + list(found)[-1:] == ["incident_energy", "width_r/06"]


def test_an_empty_layer_is_minus_eight() -> None:
    geometry = load_geometry("ds1_photons")
    vector = feature_vector(observe(np.zeros((1, 368)), geometry), np.array([256.0]), geometry)
    column = feature_names(geometry).index("layer_energy/02")
    assert vector[0, column] == pytest.approx(-8.0)


def test_a_cartesian_readout_has_no_radius() -> None:
    names = feature_names(load_geometry("ild_30x30x30"))
    assert len(names) == 2 + 6 * 30
    assert not [name for name in names if name.startswith(("centre_r", "width_r"))]
