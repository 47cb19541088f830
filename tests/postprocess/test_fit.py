"""The fit: a known distortion of real Geant4 showers is found and undone on showers that it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import DataError
from caloray.evaluation.separation import separation_power
from caloray.observables.lit import voxel_spectrum
from caloray.postprocess.fit import FEWEST, fit_spectrum
from caloray.postprocess.histogram import FineSpectrum
from caloray.postprocess.renormalise import Renormalise
from caloray.postprocess.steps import apply


def spectrum(voxels, threshold) -> FineSpectrum:
    fine = FineSpectrum(threshold)
    fine.add(voxels)
    return fine


def fitted(reference, generated, threshold, **options):
    return fit_spectrum(spectrum(reference, threshold), spectrum(generated, threshold), **options)


@pytest.fixture(scope="module")
def fit(geant4, distort, threshold):
    """A fit of the distorted second quarter to the first one, and the other half of the showers."""
    return fitted(geant4[:375], distort(geant4[375:750]), threshold), geant4[750:]


def test_the_known_map_is_found(fit, distort, threshold):
    step, _ = fit
    energies = np.geomspace(threshold, 100.0, 200).astype(np.float32)
    found = step.correct(distort(energies))
    factors = distort(energies) / energies
    assert factors.min() < 0.85
    assert factors.max() > 1.15
    # Within the accuracy of 375 showers.
    np.testing.assert_allclose(found, energies, rtol=0.06)


@pytest.mark.parametrize("exact", [False, True], ids=["spectrum", "renormalised"])
def test_the_spectrum_of_other_showers_falls_to_the_floor(fit, distort, geant4, ds2, threshold, exact):
    """Also where a renormalisation at the end gives every layer the energy that was sampled for it."""
    step, rest = fit
    edges = np.geomspace(threshold, geant4.max(), 50)

    def histogram(voxels):
        return voxel_spectrum(voxels, edges, threshold).sum(axis=0)[1:-1]

    reference, plain = histogram(rest[:375]), rest[375:]
    steps = (step, Renormalise(threshold=threshold)) if exact else (step,)
    corrected = apply(steps, distort(plain), layer_sums(plain, ds2), ds2)
    floor = np.mean([separation_power(histogram(h), histogram(rest[o])) for h, o in _halvings(rest)])
    before = separation_power(reference, histogram(distort(plain)))
    after = separation_power(reference, histogram(corrected))
    assert before > 15 * floor
    # The noise of the fit's own two samples comes on top of that of these two.
    assert after < 3 * floor


def _halvings(voxels):
    rng = np.random.default_rng(3)
    for _ in range(10):
        order = rng.permutation(len(voxels))
        yield voxels[order[: len(voxels) // 2]], order[len(voxels) // 2 :]


def layer_sums(voxels, geometry):
    return np.add.reduceat(voxels.astype(np.float64), list(geometry.offsets[:-1]), axis=1)


def test_layer_energies_stay_exact_with_a_renormalisation_at_the_end(fit, distort, ds2, threshold):
    step, rest = fit
    made, sampled = distort(rest), layer_sums(rest, ds2)
    assert (sampled > 0).mean() > 0.5
    without = layer_sums(apply((step,), made, sampled, ds2), ds2)
    found = layer_sums(apply((step, Renormalise(threshold=threshold)), made, sampled, ds2), ds2)
    assert np.median(np.abs(without / np.maximum(sampled, 1e-9) - 1)[sampled > 0]) > 0.001
    kept = found > 0
    np.testing.assert_allclose(found[kept], sampled[kept], rtol=1e-6)
    assert (kept == (sampled >= threshold)).mean() > 0.999


def test_equal_spectra_need_no_correction(geant4, threshold):
    step = fitted(geant4[:100], geant4[:100], threshold)
    np.testing.assert_allclose(step.values, step.nodes, atol=1e-9)
    np.testing.assert_allclose(step.slopes, 1, atol=1e-6)


def test_the_fit_does_not_depend_on_order_or_pieces(geant4, distort, threshold):
    whole = fitted(geant4[:100], distort(geant4[100:200]), threshold)
    pieces = FineSpectrum(threshold)
    for i in range(199, 99, -1):
        pieces.add(distort(geant4[i : i + 1]))
    assert fit_spectrum(spectrum(geant4[:100][::-1], threshold), pieces) == whole


@pytest.mark.parametrize("most", [2, 16, 128])
def test_number_of_nodes(geant4, threshold, most):
    step = fitted(geant4[:300], geant4[300:600], threshold, most_nodes=most)
    assert most * 0.6 <= len(step.nodes) <= most
    assert (step.nodes[0], step.values[0], step.nodes[-1]) == (0, 0, 1)


def test_a_few_huge_voxels_do_not_bend_the_map(geant4, threshold):
    """Nodes need voxels: above the last well-filled one the factor stays the same."""
    wild = geant4[:200].copy()
    wild[0, :5] = 1e6
    step = fitted(geant4[200:400], wild, threshold)
    assert step.largest == 1e6
    u, value = step.nodes[-2], step.values[-2]
    assert step.values[-1] == pytest.approx(value + 1 - u)
    plain = fitted(geant4[200:400], geant4[:200], threshold)
    energies = np.geomspace(threshold, 20, 100)
    np.testing.assert_allclose(step.correct(energies), plain.correct(energies), rtol=0.05)


def test_too_few_voxels_are_told(threshold):
    few = np.full(2 * FEWEST - 1, 1.0)
    with pytest.raises(DataError, match=f"{2 * FEWEST - 1} generated voxels above"):
        fitted(np.full(1000, 1.0), few, threshold)
    with pytest.raises(DataError, match="0 reference voxels"):
        fitted(np.zeros(9), np.full(1000, 1.0), threshold)
    with pytest.raises(DataError, match="reference above 1 MeV, generated above 0"):
        fit_spectrum(spectrum(np.full(1000, 1.0), 1.0), spectrum(np.full(1000, 1.0), 0.5))
    with pytest.raises(DataError, match="no generated voxel is above"):
        fitted(np.full(1000, 1.0), np.full(1000, 0.5), 0.5)


def test_what_it_was_fitted_on_is_kept(geant4, threshold):
    step = fitted(geant4[:50], geant4[50:100], threshold, fitted_on={"reference": "abc", "showers": 50})
    assert step.fitted_on == {"reference": "abc", "showers": 50}
