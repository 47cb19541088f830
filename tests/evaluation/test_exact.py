"""Sums that forget the order of their terms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from caloray.errors import NumericalError
from caloray.evaluation.exact import ExactSums


def test_any_order_and_any_split_give_the_same_integers() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(0, 6, (10_000, 3)) * rng.choice([-1, 1], (10_000, 3))
    whole = ExactSums(3)
    whole.add(values)
    shuffled, first, second = ExactSums(3), ExactSums(3), ExactSums(3)
    shuffled.add(rng.permutation(values))
    first.add(values[:17])
    second.add(values[17:])
    second.merge(first)
    assert whole.fractions() == shuffled.fractions() == second.fractions()


def test_close_to_the_true_sum() -> None:
    values = np.random.default_rng(1).lognormal(0, 4, (5000, 1))
    sums = ExactSums(1)
    sums.add(values)
    true = sum(Fraction(float(value)) for value in values[:, 0])
    assert abs(sums.fractions()[0] - true) < Fraction(5000, 2**48)
    assert sums.floats()[0] == pytest.approx(float(true), rel=1e-14)


def test_many_large_terms_do_not_overflow() -> None:
    sums = ExactSums(1)
    sums.add(np.full((9000, 1), 2.0**49.9))
    assert sums.floats()[0] == pytest.approx(9000 * 2.0**49.9, rel=1e-14)


def test_absurd_terms_are_still_exact() -> None:
    """A hardly trained model gives absurd energies; its evaluation says how bad it is instead of failing."""
    sums = ExactSums(2)
    sums.add(np.array([[2.0**60, 1.0], [2.0**60 + 2**8, -0.5], [-(2.0**70), 2.0]]))
    assert sums.fractions() == [2**61 + 2**8 - 2**70, Fraction(5, 2)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refuses_what_it_cannot_add(bad: float) -> None:
    with pytest.raises(NumericalError, match="not finite"):
        ExactSums(2).add(np.array([[1.0, bad]]))
