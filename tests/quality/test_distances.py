"""Shifts are what they are called, and their errors are what chance gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.quality.counts import BINS, POSITIONS
from caloray.quality.distances import _bridge, histogram_shifts
from caloray.quality.drift import drift
from caloray.quality.samples import Moments, Pair

STEPS = np.diff(POSITIONS)


def histogram(values: np.ndarray) -> np.ndarray:
    return np.bincount(np.clip(np.floor(4 * values).astype(int) + BINS // 2, 0, BINS - 1), minlength=BINS)


def pair(made: np.ndarray, known: np.ndarray, leverage: float = 0.0) -> Pair:
    """One place and one scalar."""
    shapes = np.stack([histogram(values) / len(values) for values in (made, known)])[:, None, None]
    none = Moments(*(np.zeros((1, 0)),) * 3)
    sizes = np.array([len(made)]), np.array([len(known)])
    return Pair(("here",), *sizes, np.array([leverage]), shapes, (none, none))


@pytest.mark.parametrize("shape", ["normal", "skewed"])
@pytest.mark.parametrize("sizes", [(400, 400), (2000, 500)])
def test_mean_and_spread_of_chance(shape, sizes):
    rng = np.random.default_rng(1)
    draw = rng.standard_normal if shape == "normal" else lambda n: rng.exponential(1.0, n) - 1
    distances = []
    for _ in range(400):
        below = [np.cumsum(histogram(draw(n)) / n)[:-1] for n in sizes]
        distances.append((np.abs(below[0] - below[1]) * STEPS).sum())
    truth = np.cumsum(histogram(draw(200_000)) / 200_000)[:-1]
    mean, variance = _bridge(truth.clip(0, 1), STEPS)
    size = sum(1 / n for n in sizes)
    assert np.mean(distances) == pytest.approx(mean * np.sqrt(size), rel=0.08)
    assert np.std(distances) == pytest.approx(np.sqrt(variance * size), rel=0.15)


@given(shift=st.floats(0.3, 2.0), scale=st.floats(0.6, 1.5))
def test_a_shifted_distribution_is_as_far_as_it_was_shifted(shift, scale):
    rng = np.random.default_rng(2)
    known, made = scale * rng.standard_normal(4000), scale * (rng.standard_normal(4000) + shift)
    found = histogram_shifts(pair(made, known))
    assert found.shift[0, 0] == pytest.approx(shift, abs=0.1)
    assert found.shift[0, 0] > 5 * found.error[0, 0]


def test_other_widths_and_collapsed_distributions_are_seen():
    rng = np.random.default_rng(3)
    known = rng.standard_normal(4000)
    wide = histogram_shifts(pair(1.5 * rng.standard_normal(4000), known))
    assert wide.shift[0, 0] == pytest.approx(0.5 * np.sqrt(2 / np.pi), abs=0.06)
    point = histogram_shifts(pair(np.zeros(4000), known))
    assert point.shift[0, 0] == pytest.approx(np.sqrt(2 / np.pi), abs=0.1)


def test_the_error_of_the_fitted_means_counts():
    rng = np.random.default_rng(4)
    samples = rng.standard_normal(4000), rng.standard_normal(4000)
    without, with_it = (histogram_shifts(pair(*samples, leverage=h)).error[0, 0] for h in (0.0, 0.01))
    assert with_it == pytest.approx(np.hypot(without, 0.1))


def test_chance_alone_seldom_gives_five_sigma(plain, reference, count):
    """Of 40 honest productions of 1000 showers no observable comes near."""
    known = reference(plain)
    worst = [
        max(
            row.significance
            for row in drift(count(plain.showers(1000, seed=100 + i), known), known, min_showers=0).rows
        )
        for i in range(40)
    ]
    assert max(worst) < 5.5
    assert 1.5 < np.median(worst) < 4.5
