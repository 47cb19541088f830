"""Fréchet physics distance against jetnet's own numbers and against formulas for Gaussians."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import sqrtm

from caloray.errors import DataError
from caloray.evaluation.fpd import fpd, fpd_value, frechet_distance

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "fpd_kpd.json").read_text())["cases"]
MODULE = sys.modules["caloray.evaluation.fpd"]


def samples(case):
    """The arrays of which jetnet gave the golden values."""
    rng = np.random.default_rng(2024)
    features, shift = case["features"], case["shift"]
    mix = rng.normal(size=(features, features))
    reference = rng.normal(size=(case["reference"], features)) @ mix + 3.0
    generated = rng.normal(size=(case["generated"], features)) @ mix * (1 + shift) + 3.0 + shift
    return reference, generated


def gaussians(shift=0.0, size=1500):
    rng = np.random.default_rng(5)
    return rng.normal(size=(size, 4)), rng.normal(size=(size, 4)) + shift


@pytest.mark.parametrize("case", GOLDEN)
def test_value_and_error_are_those_of_jetnet(case):
    found = fpd_value(*samples(case), smallest=500, largest=2000, batches=3, points=5)
    assert found == pytest.approx(case["fpd"], rel=1e-6)


@pytest.mark.parametrize("case", GOLDEN)
def test_with_the_challenge_s_arguments_too(case):
    metric = fpd(*samples(case))[0]
    assert (metric.value, metric.error) == pytest.approx(case["fpd_challenge"], rel=1e-6)
    assert not metric.comparable
    assert "number of showers" in metric.note


@pytest.mark.parametrize("case", GOLDEN[1:])
def test_single_precision_changes_a_hundredth_of_the_error_at_most(case, monkeypatch):
    monkeypatch.setattr(MODULE, "SMALL", 0)
    value, error = fpd_value(*samples(case))
    assert value == pytest.approx(case["fpd_challenge"][0], rel=1e-6)
    assert error == pytest.approx(case["fpd_challenge"][1], rel=1e-3)


def test_distance_of_gaussians_with_a_common_frame():
    one, two = np.array([1.0, 4.0, 0.25]), np.array([2.25, 1.0, 0.25])
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    mean = np.array([0.5, 0.0, -1.0])
    expected = mean @ mean + np.sum((np.sqrt(one) - np.sqrt(two)) ** 2)
    found = frechet_distance(mean, turn * one @ turn.T, np.zeros(3), turn * two @ turn.T)
    assert found == pytest.approx(expected, rel=1e-12)


def test_distance_of_gaussians_that_do_not_commute():
    rng = np.random.default_rng(2)
    one, two = (np.cov(rng.normal(size=(200, 8)) @ rng.normal(size=(8, 8)), rowvar=False) for _ in range(2))
    expected = np.trace(one + two - 2 * sqrtm(one @ two).real)
    assert frechet_distance(np.ones(8), one, np.ones(8), two) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_are_no_obstacle():
    flat = np.diag([4.0, 1.0, 0.0])
    assert frechet_distance(np.zeros(3), flat, np.zeros(3), flat) == pytest.approx(0, abs=1e-7)
    other = np.diag([1.0, 1.0, 0.0])
    assert frechet_distance(np.zeros(3), flat, np.zeros(3), other) == pytest.approx(1.0, rel=1e-9)


def test_constant_and_repeated_features_change_nothing():
    reference, generated = gaussians(0.3)
    plain = fpd(reference, generated)[0]
    zeros = [np.zeros((len(rows), 1)) for rows in (reference, generated)]
    more = fpd(*(np.hstack([rows, zero]) for rows, zero in zip((reference, generated), zeros, strict=True)))[
        0
    ]
    assert more.value == pytest.approx(plain.value, rel=1e-5)
    assert more.matched == pytest.approx(plain.matched, rel=1e-5)
    twice = fpd_value(*(np.hstack([rows, rows]) for rows in (reference, generated)), batches=2)
    once = fpd_value(reference, generated, batches=2)
    assert twice[0] == pytest.approx(2 * once[0], abs=0.1 * once[1])  # the bounded fit is no more precise


def test_a_feature_in_which_only_the_generated_sample_differs_counts_in_full():
    reference, generated = gaussians()
    zeros, fives = np.zeros((1500, 1)), np.full((1500, 1), 5.0)
    value, _ = fpd_value(np.hstack([reference, zeros]), np.hstack([generated, fives]), batches=2)
    assert value == pytest.approx(25 + fpd_value(reference, generated, batches=2)[0], rel=1e-4)


def test_matched_value_is_the_distance_of_the_samples_themselves():
    reference, generated = gaussians(0.5, 400)
    metric = fpd(reference, generated)[0]
    assert metric.pair_showers == 200
    assert metric.value == pytest.approx(np.sum((0.5 / np.abs(reference).max(axis=0)) ** 2), rel=0.3)
    assert metric.matched == pytest.approx(metric.value, rel=0.1)


def test_a_shift_is_found_and_equal_samples_are_not():
    assert fpd(*gaussians(0.2))[0].significance > 10
    assert abs(fpd(*gaussians())[0].significance) < 3


def test_the_same_seed_gives_the_same_numbers():
    one, two = (fpd(*gaussians(), seed=4)[0] for _ in range(2))
    assert one.to_dict() == two.to_dict()
    assert fpd(*gaussians(), seed=5)[0].value == one.value


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:50], "generated sample has 50 showers, at least 100"),
        (lambda rows: rows[:, :3], r"generated sample has shape \(1500, 3\)"),
        (lambda rows: np.where(np.arange(4) == 2, np.nan, rows), "shower 0, column 2 is nan"),
    ],
)
def test_what_cannot_be_compared_is_refused(spoil, message):
    reference, generated = gaussians()
    with pytest.raises(DataError, match=message):
        fpd(reference, spoil(generated))
