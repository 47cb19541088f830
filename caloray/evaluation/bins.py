"""Bins of a scalar that hold equally many reference showers, and means in them at equal energies."""

from __future__ import annotations

__all__ = ["FEWEST", "MOST", "PER_BIN", "BinMeans", "adjusted", "bin_means", "equal_bins", "places_in"]

from dataclasses import dataclass

import numpy as np

MOST = 10
PER_BIN = 100
"""Reference showers that a bin shall hold."""
FEWEST = 10
"""Showers of a sample below which a bin says nothing."""
PER_COVARIATE = 8
FLAT = 1e-6
"""Relative range below which a scalar is constant."""


@dataclass(frozen=True)
class BinMeans:
    """Means of Q quantities in B bins.

    Args:
        values: (Q, B), NaN in a bin of fewer than ten showers.
        errors: (Q, B) standard errors.
        counts: (B,) showers.
    """

    values: np.ndarray
    errors: np.ndarray
    counts: np.ndarray


def equal_bins(values: np.ndarray) -> np.ndarray | None:
    """(B + 1,) edges of up to ten bins with 100 showers or more each; one per value where there are few.

    Args:
        values: (N,) of the reference.

    Returns:
        None for a constant, and where there are too few showers for two bins.
    """
    distinct = np.unique(values)
    number = min(MOST, len(values) // PER_BIN)
    if number < 2 or np.ptp(distinct) <= FLAT * np.abs(distinct).max():
        return None
    if len(distinct) <= MOST:
        inner = 0.5 * (distinct[1:] + distinct[:-1])
        ends = 1.5 * distinct[0] - 0.5 * distinct[1], 1.5 * distinct[-1] - 0.5 * distinct[-2]
        return np.array([ends[0], *inner, ends[1]])
    return np.unique(np.quantile(values, np.linspace(0.0, 1.0, number + 1)))


def places_in(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(N,) bin of each value, the last bin closed; -1 outside."""
    places = np.searchsorted(edges, values, side="right") - 1
    places[values == edges[-1]] = len(edges) - 2
    return np.where((values >= edges[0]) & (values <= edges[-1]), places, -1)


def adjusted(
    reference: tuple[np.ndarray, np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    """Quantities as they would be, had every shower of a bin the reference's mean energy, angle, ...

    In every bin the quantities of the reference are fitted with a linear function of the covariates, and what
    that function says is taken off (the control-variate estimate, as for the means of the evaluation). The
    mean over the reference stays, its error loses what only follows the energy, and means of samples with
    other draws of the same spectrum become comparable.

    Args:
        reference: Quantities (N, Q), covariates (N, P) and bins (N,).
        other: The same of the showers to adjust, (M, ...).

    Returns:
        (M, Q); showers outside the bins are left as they are.
    """
    values, factors, places = reference
    found = np.array(other[0], dtype=np.float64)
    for place in np.unique(places[places >= 0]):
        here, there = places == place, other[2] == place
        rows = factors[here]
        centre, spread = rows.mean(axis=0), rows.std(axis=0)
        used = spread > FLAT * (np.abs(centre) + spread)
        if not used.any() or len(rows) < PER_COVARIATE * used.sum():
            continue
        scaled = (rows[:, used] - centre[used]) / spread[used]
        fitted = np.linalg.lstsq(scaled, values[here] - values[here].mean(axis=0), rcond=1e-6)[0]
        found[there] -= (other[1][there][:, used] - centre[used]) / spread[used] @ fitted
    return found


def bin_means(values: np.ndarray, widened: np.ndarray, places: np.ndarray, n_bins: int) -> BinMeans:
    """Means with errors of all quantities, and as one more row the standard deviation of ``widened``.

    The error of a standard deviation s is sqrt((m4 - s^4) / (4 s^2 n)), m4 the fourth central moment.

    Args:
        values: (N, Q), adjusted.
        widened: (N,) the quantity whose spread is asked for, as it is.
        places: (N,) bins; -1 does not count.
        n_bins: B.
    """
    shape = values.shape[1] + 1, n_bins
    means, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    counts = np.bincount(places[places >= 0], minlength=n_bins)
    for place in np.flatnonzero(counts >= FEWEST):
        here = places == place
        rows, n = values[here], int(counts[place])
        means[:-1, place], errors[:-1, place] = rows.mean(axis=0), rows.std(axis=0, ddof=1) / n**0.5
        deviations = widened[here] - widened[here].mean()
        second, fourth = np.mean(deviations**2), np.mean(deviations**4)
        means[-1, place] = second**0.5
        errors[-1, place] = max(0.0, (fourth - second**2) / (4 * second * n)) ** 0.5 if second > 0 else 0.0
    return BinMeans(means, errors, counts)
