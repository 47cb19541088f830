"""Separation power, its floor, and the scaling between sample sizes."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.evaluation.separation import occupancy_growth, separation_power, size_factor


def test_formula() -> None:
    first, second = np.array([1, 3, 0, 4]), np.array([2, 0, 1, 1])
    p, q = first / 8, second / 4
    expected = 0.5 * sum((a - b) ** 2 / (a + b) for a, b in zip(p, q, strict=True) if a + b)
    assert separation_power(first, second) == pytest.approx(expected, rel=1e-12)
    assert separation_power(second, first) == pytest.approx(expected, rel=1e-12)


def test_limits() -> None:
    some, none = np.array([3, 1]), np.array([0, 0])
    assert separation_power(some, 7 * some) == pytest.approx(0.0, abs=1e-15)
    assert separation_power(np.array([5, 0]), np.array([0, 2])) == pytest.approx(1.0)
    assert separation_power(some, none) == 1.0
    assert separation_power(none, none) is None


@pytest.mark.parametrize("n_generated", [1000, 3000])
def test_two_toy_samples_lie_at_the_scaled_floor(n_generated: int) -> None:
    """Mean separation power of fresh pairs = halves of the reference, scaled; populated and sparse bins."""
    rng = np.random.default_rng(0)
    edges, n = np.linspace(-4, 4, 81), 1000

    def counts(values: np.ndarray) -> np.ndarray:
        return np.histogram(values, edges)[0]

    fresh, plain, corrected = [], [], []
    for _ in range(120):
        reference, other = rng.normal(size=n), rng.normal(size=n_generated)
        fresh.append(separation_power(counts(reference), counts(other)))
        total = counts(reference)
        halves = np.array([counts(rng.permutation(reference)[: n // 2]) for _ in range(5)])
        values = [separation_power(half, total - half) for half in halves]
        plain.append(np.mean(values) * size_factor(n // 2, n // 2, n, n_generated))
        corrected.append(plain[-1] * occupancy_growth(total, halves, n_generated / n))
    assert np.mean(corrected) == pytest.approx(np.mean(fresh), rel=0.04)
    assert np.mean(plain) < np.mean(corrected)


def test_scaling_alone_is_right_where_all_bins_are_full() -> None:
    rng = np.random.default_rng(1)
    p = np.full(20, 1 / 20)

    def pair(first: int, second: int) -> float:
        values = [separation_power(rng.multinomial(first, p), rng.multinomial(second, p)) for _ in range(400)]
        return float(np.mean([value for value in values if value is not None]))

    assert pair(4000, 1000) / pair(500, 500) == pytest.approx(size_factor(500, 500, 4000, 1000), rel=0.05)
