"""Separation power of two histograms, and the value that two samples of one distribution would give."""

from __future__ import annotations

__all__ = ["occupancy_growth", "separation_power", "size_factor"]

import numpy as np

GUARD = 1e-16


def separation_power(first: np.ndarray, second: np.ndarray) -> float | None:
    """How different two histograms of the same bins are: 0 when equal, 1 when they never overlap.

    S = 1/2 sum_i (p_i - q_i)^2 / (p_i + q_i + 1e-16), p and q normalised inside the plotted range
    (Diefenbacher et al., arXiv:2009.03796, eq. 15, as used in the CaloChallenge).

    Args:
        first: (B,) counts without under- and overflow.
        second: (B,) counts of the other sample.

    Returns:
        None where neither sample has an entry in range; 1 where only one has.
    """
    totals = float(first.sum()), float(second.sum())
    if not any(totals):
        return None
    if not all(totals):
        return 1.0
    p, q = first / totals[0], second / totals[1]
    return float(0.5 * np.sum((p - q) ** 2 / (p + q + GUARD)))


def size_factor(n_a: int, n_b: int, n_reference: int, n_generated: int) -> float:
    """What turns the separation power of samples of n_a and n_b showers into that of the real sizes.

    For two samples of one distribution a bin of probability p has E[(p1 - p2)^2] = p (1 - p) (1/n1 + 1/n2),
    so that the expected separation power is proportional to 1/n1 + 1/n2 wherever a bin holds several showers.
    For the bins that fill up only in the larger samples see :func:`occupancy_growth`.
    """
    return (1 / n_reference + 1 / n_generated) / (1 / n_a + 1 / n_b)


def occupancy_growth(total: np.ndarray, halves: np.ndarray, generated_per_reference: float) -> float:
    """How many more bins are filled in reference and generated together than in the reference alone.

    With equal sizes n and m_i entries of both samples in bin i, E[(c1 - c2)^2 | m_i] = m_i, and the expected
    separation power is (number of filled bins) / (2 n): a new bin in the tail adds as much as any other. Two
    halves of the reference fill only the bins that the reference fills, hence this factor. The number of
    bins that another sample would add is extrapolated from those that one half adds to the other, taking
    equal growth for each doubling, which is what tails that fall exponentially or faster give or exceed.

    Args:
        total: (B,) counts of the reference.
        halves: (K, B) counts of one half for each of K halvings.
        generated_per_reference: Ratio of the sample sizes.
    """
    full = np.count_nonzero(total)
    if not full or not len(halves):
        return 1.0
    half = 0.5 * (np.count_nonzero(halves, axis=1) + np.count_nonzero(total - halves, axis=1)).mean()
    grown = full + (full - half) * np.log2(1 + generated_per_reference)
    return float(min(grown, len(total)) / full)
