"""Wasserstein distances against scipy and against shifts of known size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from caloray.errors import DataError
from caloray.evaluation.wasserstein import wasserstein, wasserstein_distances


@pytest.mark.parametrize(("n", "m"), [(200, 200), (200, 150), (150, 200), (101, 37), (5, 1), (12, 8)])
def test_distances_are_those_of_scipy(n, m):
    rng = np.random.default_rng(n)
    first, second = rng.normal(size=(n, 4)), rng.exponential(size=(m, 4)).round(1)
    expected = [wasserstein_distance(first[:, i], second[:, i]) for i in range(4)]
    assert wasserstein_distances(first, second) == pytest.approx(expected, rel=1e-12)


def observables(size, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    layers = rng.normal(size=(size, 3)) * [1.0, 10.0, 100.0]
    layers[:, 1] += 10.0 * shift
    return {"width_r": layers, "e_ratio": rng.normal(size=size)}


def test_a_shift_of_one_layer_is_measured_in_its_standard_deviations():
    reference = observables(4000, 1)
    moved = {name: values.copy() for name, values in reference.items()}
    moved["width_r"][:, 1] += 5.0
    row, still = wasserstein(reference, moved)
    assert row.name == "wasserstein/width_r"
    assert row.value == pytest.approx(5.0 / reference["width_r"][:, 1].std() / 3, rel=1e-9)
    assert "layer 1" in row.note
    assert still.value == 0.0
    assert still.note == ""


def test_rows_have_floors():
    rows = wasserstein(observables(2000, 1), observables(1500, 2))
    assert [row.name for row in rows] == ["wasserstein/width_r", "wasserstein/e_ratio"]
    assert all(row.pair_showers == 1000 and abs(row.significance) < 3 for row in rows)
    draws = np.random.default_rng(3).normal(size=(2, 1000, 40))
    expected = np.mean([wasserstein_distance(draws[0, :, i], draws[1, :, i]) for i in range(40)])
    assert rows[1].floor == pytest.approx(expected, rel=0.5)
    shifted = wasserstein(observables(2000, 1), observables(1500, 2, shift=0.2))
    assert shifted[0].significance > 4
    assert abs(shifted[1].significance) < 3


def test_a_constant_feature_has_a_distance():
    flat = {"hits": np.zeros((200, 2))}
    raised = {"hits": np.zeros((200, 2))}
    raised["hits"][:, 0] = 3.0
    assert wasserstein(flat, flat)[0].value == 0
    assert wasserstein(flat, raised)[0].value == pytest.approx(1.0)  # 3 / standard deviation 1.5, mean of two


def test_the_number_of_showers_in_a_pair_can_be_limited():
    assert wasserstein(observables(900, 1), observables(900, 2), most=150)[0].pair_showers == 150


def test_bad_input_is_refused():
    good = observables(200, 1)
    with pytest.raises(DataError, match="observables"):
        wasserstein(good, {"e_ratio": good["e_ratio"]})
    with pytest.raises(DataError, match="wasserstein/width_r: generated sample has 30 showers"):
        wasserstein(good, observables(30, 2))
    with pytest.raises(DataError, match="wasserstein/e_ratio: generated sample, shower 0, column 0 is nan"):
        wasserstein(good, good | {"e_ratio": np.full(200, np.nan)})
