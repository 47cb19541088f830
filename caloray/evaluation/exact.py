"""Sums that do not depend on the order of their terms.

Floating-point addition is not associative, so a sum over shards would change in its last digits with the
order of the shards. Here every term is rounded once to a multiple of 2**-48, and the integers are added.
"""

from __future__ import annotations

__all__ = ["ExactSums"]

from fractions import Fraction

import numpy as np

from caloray.errors import NumericalError

SHIFT = 48
ROWS = 4096  # whole parts below 2**50 and 2**12 rows stay inside an int64
LIMIT = 2.0**50


class ExactSums:
    """Exact column sums of (N, K) arrays, to a resolution of 2**-48 per entry."""

    def __init__(self, columns: int) -> None:
        self._sums = np.zeros(columns, dtype=object)

    def add(self, values: np.ndarray) -> None:
        """Add the rows of ``values`` (N, K).

        Raises:
            NumericalError: An entry is not finite.
        """
        for start in range(0, len(values), ROWS):
            part = np.asarray(values[start : start + ROWS], dtype=np.float64)
            if not bool(np.all(np.isfinite(part))):
                raise NumericalError(
                    "a sum over showers met a value that is not finite",
                    hint="check the input for NaN and for absurd energies",
                )
            whole = np.rint(part)
            rest = np.rint((part - whole) * 2.0**SHIFT).astype(np.int64).sum(axis=0)
            self._sums += _integer_sums(whole) * (1 << SHIFT) + rest.astype(object)

    def merge(self, other: ExactSums) -> None:
        """Add the sums of another accumulator of the same width."""
        self._sums += other._sums

    def fractions(self) -> list[Fraction]:
        """The K sums as exact rational numbers."""
        return [Fraction(int(value), 1 << SHIFT) for value in self._sums]

    def floats(self) -> np.ndarray:
        """(K,) the sums, each rounded once to float64."""
        return np.array([float(value) for value in self.fractions()])


def _integer_sums(whole: np.ndarray) -> np.ndarray:
    """Column sums of whole numbers as Python integers; beyond 2**50 (absurd models) one by one."""
    if bool(np.all(np.abs(whole) < LIMIT)):
        sums: np.ndarray = whole.astype(np.int64).sum(axis=0).astype(object)
        return sums
    return np.array([sum(int(value) for value in column) for column in whole.T], dtype=object)
