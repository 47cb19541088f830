"""Steps in a row: order, independence of rows, faults that stay faults, and steps of the future."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from caloray.errors import BundleError
from caloray.postprocess.fit import fit_spectrum
from caloray.postprocess.histogram import FineSpectrum
from caloray.postprocess.record import to_float32
from caloray.postprocess.renormalise import Renormalise
from caloray.postprocess.steps import VERSIONS, PostProcessing, apply, require_known
from caloray.preprocess.cut import renormalise_and_cut


@pytest.fixture(scope="module")
def block(geant4, distort, ds2):
    """40 generated showers and the layer energies they were drawn for, not quite those of their voxels."""
    voxels = distort(geant4[:40])
    energies = np.add.reduceat(geant4[:40].astype(np.float64), list(ds2.offsets[:-1]), axis=1)
    return voxels, energies


@pytest.fixture(scope="module")
def steps(geant4, distort, threshold):
    """Renormalise, spectrum, renormalise."""
    spectra = []
    for voxels in (geant4[100:200], distort(geant4[200:300])):
        spectra.append(FineSpectrum(threshold))
        spectra[-1].add(voxels)
    cut = Renormalise(threshold=threshold)
    return (cut, fit_spectrum(*spectra), cut)


def orders(steps):
    return [steps[:1], steps[1:2], steps[:2], steps[1:], steps]


def test_no_steps_change_nothing(block, ds2):
    assert apply((), *block, ds2) is block[0]


def test_renormalise_is_the_cut_of_every_layer(block, ds2, threshold):
    voxels, energies = block
    found = apply((Renormalise(threshold=threshold),), voxels, energies, ds2)
    for layer in (0, 7, 44):
        part = torch.as_tensor(voxels[:, ds2.span(layer)], dtype=torch.float64)
        expected = renormalise_and_cut(part, torch.as_tensor(energies[:, layer]), threshold)
        np.testing.assert_allclose(found[:, ds2.span(layer)], expected, rtol=1e-6)


def test_check_a9_after_rounding_to_float32(block, ds2, threshold):
    """The layer sum is the target where anything is left, and nothing lies between zero and the threshold."""
    voxels, energies = block
    found = apply((Renormalise(threshold=threshold),), voxels, energies, ds2).astype(np.float64)
    assert found[found > 0].min() >= threshold
    sums = np.add.reduceat(found, list(ds2.offsets[:-1]), axis=1)
    lit = voxels.reshape(40, 45, 144).any(axis=2)
    np.testing.assert_allclose(sums[sums > 0], energies[sums > 0], rtol=1e-6)
    assert ((sums > 0) == (lit & (energies >= threshold))).mean() > 0.99


def test_the_order_is_the_users(block, steps, ds2):
    results = [apply(chosen, *block, ds2).tobytes() for chosen in orders(steps)]
    assert len(set(results)) == len(results)
    one_by_one = block[0]
    for step in steps:
        one_by_one = apply((step,), one_by_one, block[1], ds2)
    assert one_by_one.tobytes() == results[-1]


@pytest.mark.parametrize("chosen", range(5))
def test_a_row_depends_on_itself_alone_to_the_last_bit(block, steps, ds2, chosen):
    voxels, energies = block
    chosen = orders(steps)[chosen]
    whole = apply(chosen, voxels, energies, ds2)
    for rows in (slice(0, 1), slice(3, 10), slice(39, 40), slice(None, None, -3)):
        alone = apply(chosen, voxels[rows], energies[rows], ds2)
        assert alone.tobytes() == np.ascontiguousarray(whole[rows]).tobytes()
    other = np.random.default_rng(5).permutation(voxels.ravel()).reshape(voxels.shape)
    other[17] = voxels[17]
    assert apply(chosen, other, energies, ds2)[17].tobytes() == whole[17].tobytes()


def test_the_input_is_left_alone_and_equal_calls_give_equal_bytes(block, steps, ds2):
    before = [array.tobytes() for array in block]
    first, second = (apply(steps, *block, ds2) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.dtype == np.float32
    assert [array.tobytes() for array in block] == before


@pytest.mark.parametrize("chosen", range(5))
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, -1.0])
def test_faults_stay_faults_and_harm_no_other_row(block, steps, ds2, chosen, fault):
    chosen = orders(steps)[chosen]
    sound = apply(chosen, *block, ds2)
    voxels, energies = (array.copy() for array in block)
    voxels[3, 1000] = fault
    energies[5, 2] = np.nan
    voxels[8] = np.nan
    found = apply(chosen, voxels, energies, ds2)
    bad = [3, 5, 8]
    assert np.isnan(found[bad]).all()
    assert np.delete(found, bad, axis=0).tobytes() == np.delete(sound, bad, axis=0).tobytes()


def test_a_slightly_negative_layer_energy_gives_an_empty_layer(block, ds2, threshold):
    voxels, energies = (array.copy() for array in block)
    energies[2, 10] = -1e-9
    found = apply((Renormalise(threshold=threshold),), voxels, energies, ds2)
    assert (found[2, ds2.span(10)] == 0).all()
    assert np.isfinite(found).all()


def test_no_rows(steps, ds2):
    empty = np.empty((0, ds2.n_voxels), np.float32)
    assert apply(steps, empty, np.empty((0, ds2.n_layers)), ds2).shape == empty.shape


def test_rounding_to_float32_keeps_the_threshold():
    threshold = 0.1 - 2e-9  # its float32 is rounded up or down: both must do
    for value in (threshold, 0.1, np.float64(np.float32(0.1)) - 1e-10):
        for least in (threshold, 0.1):
            found = to_float32(np.array([value, 0.0, np.nan]), least)
            assert found[0] == 0 if value < least else float(found[0]) >= least
            assert found[1] == 0
            assert np.isnan(found[2])


def test_they_are_a_union_over_kind(steps):
    union = TypeAdapter(PostProcessing)
    assert union.validate_python([step.model_dump(mode="json") for step in steps]) == steps
    for wrong in ([{"kind": "blur"}], [{"threshold": 1}], [{"kind": "renormalise", "threshold": -1}]):
        with pytest.raises(ValidationError):
            union.validate_python(wrong)
    assert {step.kind: step.version for step in steps} == VERSIONS


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"kind": "blur", "version": 1}, "'blur' 1"),
        ({"kind": "renormalise", "version": 2, "threshold": 1}, "'renormalise' 2"),
        ({"version": 1}, "'None' 1"),
        ("text", "'None'"),
        ({"kind": ["x"]}, "x"),
    ],
    ids=str,
)
def test_steps_of_a_newer_caloray_are_refused_in_one_line(step, said):
    with pytest.raises(BundleError, match="post-processing step 2") as caught:
        require_known([{"kind": "spectrum", "version": 1}, step], "b/bundle.json")
    assert said in caught.value.message
    assert caught.value.message.startswith("b/bundle.json: ")
    assert "\n" not in caught.value.message
    assert caught.value.hint == "update caloray"
    require_known([{"kind": "renormalise", "version": 1}], "b")
    require_known([], "b")
    require_known(None, "b")
