"""The spectrum correction as a map: monotone, continued, bounded, and equal to scipy's interpolant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.interpolate import PchipInterpolator

from caloray.postprocess.spectrum import SpectrumCorrection


def correction(nodes, values, /, **changes) -> SpectrumCorrection:
    slopes = np.maximum(PchipInterpolator(nodes, values).derivative()(nodes), 0)
    facts: dict[str, object] = {"threshold": 0.1, "largest": 100.0, "ceiling": 1e3}
    facts |= {"nodes": tuple(nodes), "values": tuple(values), "slopes": tuple(slopes), **changes}
    return SpectrumCorrection.model_validate(facts)


STEPS = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0, 1)), min_size=1, max_size=20)


def curve(steps):
    nodes, values = np.cumsum([[0.0, 0.0], *steps], axis=0).T
    nodes = nodes / nodes[-1]
    nodes[-1] = 1.0
    return nodes.tolist(), (values / max(values[-1], 1.0)).tolist()


@given(STEPS)
def test_between_the_nodes_it_is_scipys_monotone_cubic(steps):
    nodes, values = curve(steps)
    u = np.linspace(0, 1, 301)
    found = correction(nodes, values).correct(0.1 * 1000.0**u)
    expected = 0.1 * 1000.0 ** PchipInterpolator(nodes, values)(u)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@given(STEPS)
def test_it_never_falls(steps):
    found = correction(*curve(steps)).correct(np.geomspace(0.1, 1e4, 1000))
    assert (np.diff(found) >= -1e-12 * found[1:]).all()


def test_the_identity_changes_nothing(ds2):
    step = correction([0, 0.3, 1], [0, 0.3, 1], ceiling=1e9)
    voxels = np.random.default_rng(0).lognormal(0, 3, (3, 50)).astype(np.float32)
    expected = np.where(voxels < 0.1, 0, voxels)
    np.testing.assert_allclose(step.apply(voxels, np.zeros((3, 1)), ds2), expected, rtol=2e-7)


def test_beyond_the_largest_energy_the_factor_stays_and_the_energy_is_bounded():
    step = correction([0, 0.5, 1], [0, 0.6, 1.1])
    factor = 1000.0**0.1
    np.testing.assert_allclose(step.correct(np.array([100.0, 150.0])), [100 * factor, 150 * factor])
    assert step.correct(np.array([1e6, 1e30])).tolist() == [1e3, 1e3]


def test_it_is_cut_before_and_after(ds2):
    step = correction([0, 0.5, 1], [0, 0.6, 1.1])
    lowered = correction([0, 0.5, 1], [-0.2, 0.4, 1.0])
    voxels = np.array([[0.0, 0.05, 0.0999, 0.1, 0.11, 1.0]], dtype=np.float32)
    found = step.apply(voxels, np.zeros((1, 1)), ds2)[0]
    assert (found[:3] == 0).all()
    assert (found[3:] >= 0.1).all()
    assert (lowered.apply(voxels, np.zeros((1, 1)), ds2)[0] > 0).tolist() == [False] * 5 + [True]


@pytest.mark.parametrize(
    "change",
    [
        {"values": (0.0, 0.8, 0.7)},
        {"nodes": (0.0, 0.0, 1.0)},
        {"nodes": (0.0, 0.5, 0.9)},
        {"slopes": (9.0, 1.0, 1.0)},
        {"slopes": (1.0, -0.1, 1.0)},
        {"slopes": (1.0, 1.0)},
        {"values": (0.0, float("nan"), 1.0)},
        {"largest": 0.1},
        {"ceiling": 50.0},
        {"threshold": 0.0},
        {"version": 2},
        {"extra": 1},
        {"nodes": (0.0,) * 129},
    ],
    ids=str,
)
def test_what_is_no_such_map_is_refused(change):
    with pytest.raises(ValidationError):
        correction([0, 0.5, 1], [0, 0.5, 1], **change)


def test_it_survives_json_to_the_last_bit():
    step = correction([0, 1 / 3, 1], [0, np.pi / 10, 1], fitted_on={"reference": "ab", "showers": 7})
    again = SpectrumCorrection.model_validate_json(step.model_dump_json())
    assert again == step
    energies = np.geomspace(0.1, 100, 100)
    assert again.correct(energies).tobytes() == step.correct(energies).tobytes()
