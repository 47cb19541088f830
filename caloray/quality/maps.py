"""How mean and spread of every observable follow the particle, and observables freed from that."""

from __future__ import annotations

__all__ = ["LIMIT", "PullMap", "fit_pulls"]

from dataclasses import dataclass

import numpy as np

from caloray.quality.basis import Basis

LIMIT = 8.0
"""Pulls are cut here, so that no single shower counts for many."""
FLOORS = (0.05, 0.2)
"""Least spread of scalars and of profiles' entries, in units of that over all energies; absolute for what is
constant. An entry that is hardly ever filled at low energies must not make much of a single shower."""
GAUSSIAN = float(np.sqrt(np.pi / 2))  # standard deviation over mean absolute deviation


@dataclass(frozen=True)
class PullMap:
    """Mean and spread of T observables as sums of K functions of the particle.

    Args:
        mean: (K, T) coefficients.
        spread: (K, T) coefficients.
        floor: (T,) least spread.
    """

    mean: np.ndarray
    spread: np.ndarray
    floor: np.ndarray

    def pulls(self, columns: np.ndarray, basis: Basis) -> np.ndarray:
        """(n, T) how many spreads each observable is above its mean, cut at +-:data:`LIMIT`."""
        spread = np.maximum(basis.combine(self.spread), self.floor)
        return np.asarray(np.clip((columns - basis.combine(self.mean)) / spread, -LIMIT, LIMIT))


def fit_pulls(columns: np.ndarray, n_scalars: int, basis: Basis) -> PullMap:
    """Fit means, and then mean absolute deviations, by least squares.

    Args:
        columns: (n, T) observables of the reference showers.
        n_scalars: How many of them are scalars; they come first.
        basis: Of their particles.
    """
    dense = basis.dense()
    inverse = np.linalg.pinv(dense)
    mean = inverse @ columns
    spread = GAUSSIAN * (inverse @ np.abs(columns - basis.combine(mean)))
    overall = columns.std(axis=0)
    floor = np.where(overall > 0, overall, 1.0) * FLOORS[1]
    floor[:n_scalars] *= FLOORS[0] / FLOORS[1]
    return PullMap(mean, spread, floor)
