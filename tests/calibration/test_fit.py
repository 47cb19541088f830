"""Steps by name, fitted in their order and judged on showers that the fit never saw."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from caloray.calibration.fit import fit_steps, parse_steps
from caloray.calibration.generated import FromSource
from caloray.calibration.judge import judge
from caloray.calibration.particles import Particles, is_held_out
from caloray.calibration.reference import read_reference
from caloray.errors import ConfigError, DataError
from caloray.evaluation.separation import separation_power
from caloray.geometry import load_geometry
from caloray.observables.lit import voxel_spectrum
from caloray.postprocess.fit import fit_spectrum
from caloray.postprocess.histogram import FineSpectrum
from caloray.postprocess.renormalise import Renormalise
from caloray.postprocess.steps import apply
from caloray.preprocess.condition_range import ConditionRange
from caloray.showers import Showers

THRESHOLD = 0.5e-3 / 0.033
DS2 = load_geometry("ds2")


@pytest.fixture(scope="module")
def samples(geant4, memory):
    """Half of the showers as reference, the other half with half as much energy again in bright voxels."""
    u = np.log(np.maximum(geant4.voxels, THRESHOLD) / THRESHOLD)
    bent = (geant4.voxels * np.exp(0.4 * u**2 / (4 + u**2))).astype(np.float32)
    first, second = slice(0, None, 2), slice(1, None, 2)
    generated = Showers(geant4.incident_energies[second], bent[second], geant4.ids[second])
    return memory(geant4.select(first), DS2), memory(generated, DS2)


@pytest.fixture(scope="module")
def reference(samples, silent):
    return read_reference(samples[0], THRESHOLD, silent)


def test_names_of_steps():
    assert parse_steps("renormalise, spectrum,renormalise") == ("renormalise", "spectrum", "renormalise")
    for text in ("", "renormalize", "spectrum,", "spectrum,renormalise,spectrum"):
        with pytest.raises(ConfigError, match="--steps"):
            parse_steps(text)


def test_the_reference_is_read_in_pieces_and_every_fourth_shower_is_left_out(samples, reference):
    showers = samples[0].showers
    away = np.arange(len(showers)) % 4 == 3
    assert np.array_equal(is_held_out(0, len(showers)), away)
    assert np.array_equal(is_held_out(5, 10), away[5:15])
    fine = FineSpectrum(THRESHOLD)
    fine.add(showers.voxels[~away])
    assert np.array_equal(fine.above()[1], reference.spectrum.above()[1])
    assert np.array_equal(reference.fit.energies, showers.incident_energies[~away])
    assert np.array_equal(reference.held_out.energies, showers.incident_energies[away])
    assert reference.largest == showers.voxels.max()


def test_too_few_showers(samples, memory, silent):
    for count in (0, 39):
        few = memory(samples[0].showers.select(slice(0, count)), DS2)
        with pytest.raises(DataError, match=f"{count} reference showers, at least 40"):
            read_reference(few, THRESHOLD, silent)


def test_particles_are_spread_evenly_or_repeated():
    particles = Particles(np.arange(10.0), {"theta": np.arange(10.0) / 10})
    assert particles.spread(5).energies.tolist() == [0, 2, 4, 6, 8]
    assert particles.spread(23).energies.tolist() == [*range(10), *range(10), 0, 1, 2]
    assert particles.spread(5).conditions["theta"].tolist() == [0, 0.2, 0.4, 0.6, 0.8]


def test_the_spectrum_is_fitted_to_what_the_steps_before_it_give(samples, reference, silent):
    made = FromSource(samples[1])
    facts = {"bundle": "b"}
    steps = fit_steps(("renormalise", "spectrum", "renormalise"), THRESHOLD, reference, made, facts, silent)
    cut = Renormalise(threshold=THRESHOLD)
    fine = FineSpectrum(THRESHOLD)
    for piece in made.pieces(held_out=False):
        fine.add(apply((cut,), piece.voxels, piece.layer_energies, DS2))
    expected = fit_spectrum(reference.spectrum, fine)
    assert steps[0] == steps[2] == cut
    assert steps[1].nodes == expected.nodes
    assert steps[1].values == expected.values
    assert steps[1].fitted_on == {
        "bundle": "b",
        "reference_showers": 563,
        "reference_voxels": reference.spectrum.total,
        "generated_showers": 563,
        "generated_voxels": fine.total,
    }


def test_particles_outside_the_trained_range_are_left_out_and_many_are_refused():
    theta = ConditionRange("theta", "rad", 0.0, 0.9)
    particles = Particles(
        np.linspace(1.0, 100.0, 100), {"theta": np.linspace(0, 1, 100), "other": np.ones(100)}
    )
    inside = particles.inside((3.0, 95.0), ())
    assert (inside.energies.min(), inside.energies.max()) == (3.0, 95.0)
    assert len(inside.conditions["theta"]) == 93
    with pytest.raises(ConfigError, match="10 of 100 reference showers lie outside the trained range"):
        particles.inside((1.0, 100.0), (theta,))
    with pytest.raises(ConfigError, match="needs a value of phi"):
        particles.inside((1.0, 100.0), (ConditionRange("phi", "rad", 0.0, 1.0),))


@pytest.mark.parametrize("names", [("spectrum",), ("spectrum", "renormalise")])
def test_held_out_showers_fall_to_the_floor(geant4, samples, reference, silent, names):
    undistorted = geant4.select(slice(1, None, 2))
    made = FromSource(samples[1])
    steps = fit_steps(names, THRESHOLD, reference, made, {}, silent)
    found = judge(steps, THRESHOLD, reference, made, silent)
    assert (found.reference_showers, found.generated_showers, found.invalid) == (187, 187, 0)
    assert found.before > 10 * found.floor
    assert found.energy_before > 1.2
    if names[-1] == "spectrum":
        assert found.after < 3 * found.floor
        plain = [s.voxels[is_held_out(0, len(s))].sum() for s in (undistorted, samples[0].showers)]
        off = [abs(e / (plain[0] / plain[1]) - 1) for e in (found.energy_before, found.energy_after)]
        assert off[0] > 0.2
        assert off[1] < 0.05
    else:
        # Layer energies are those that were generated, whatever the correction says.
        assert found.energy_after == pytest.approx(found.energy_before, rel=1e-3)
    assert set(found.to_dict()) == {item.name for item in dataclasses.fields(found)}


def test_the_judgement_is_that_of_plain_histograms(samples, reference, silent):
    showers, made = samples[0].showers, samples[1].showers
    found = judge((), THRESHOLD, reference, FromSource(samples[1]), silent)
    away = np.arange(len(showers)) % 4 == 3
    edges = np.geomspace(THRESHOLD, showers.voxels.max(), 50)
    counts = [voxel_spectrum(s.voxels[away], edges, THRESHOLD).sum(axis=0)[1:-1] for s in (showers, made)]
    assert found.before == found.after == pytest.approx(separation_power(*counts))
    assert 0 < found.spread < found.floor


def test_invalid_showers_are_left_out_and_counted(samples, reference, memory, silent):
    made = samples[1].showers
    wrong = made.voxels.copy()
    wrong[[3, 4, 7], 5] = np.nan  # two of them held out
    made = FromSource(memory(Showers(made.incident_energies, wrong, made.ids), DS2))
    steps = fit_steps(("spectrum",), THRESHOLD, reference, made, {}, silent)
    assert steps[0].fitted_on["generated_showers"] == 562
    found = judge(steps, THRESHOLD, reference, made, silent)
    assert (found.invalid, found.generated_showers) == (2, 185)
    assert found.after < found.before


def test_a_spectrum_without_showers_is_refused(reference, silent):
    with pytest.raises(ConfigError, match="fitted to reference showers"):
        fit_steps(("spectrum",), THRESHOLD, reference, None, {}, silent)
    assert fit_steps(("renormalise",), 0.5, None, None, {}, silent) == (Renormalise(threshold=0.5),)
