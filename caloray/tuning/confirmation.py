"""Repetitions compared: is the best told from the baseline, or is that the scatter of seeds?"""

from __future__ import annotations

__all__ = ["LEVEL", "Difference", "difference", "mean_error"]

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05
"""Probability below which a difference is told from noise."""


@dataclass(frozen=True)
class Difference:
    """Best minus baseline; negative is a gain, because everything is minimised.

    Args:
        value: Difference of the means.
        error: Its standard error, from both scatters.
        t: Welch's statistic; None where there is no scatter or a single value.
        dof: Its degrees of freedom (Welch-Satterthwaite).
        p: Two-sided probability of such a difference between equal settings.
        paired: Mean and standard error of the differences seed by seed, and how many; None below two pairs.
        words: What all that says.
        told: Whether the difference is told from noise, either way.
    """

    value: float
    error: float | None
    t: float | None
    dof: float | None
    p: float | None
    paired: tuple[float, float, int] | None
    words: str
    told: bool = False


def mean_error(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and its standard error; None for a single value."""
    known = np.array(values, dtype=np.float64)
    error = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else None
    return float(known.mean()), error


def difference(best: Mapping[int, float], baseline: Mapping[int, float], compared: int = 1) -> Difference:
    """Compare two groups of repetitions with Welch's test (Welch, Biometrika 34, 1947).

    The repetitions differ by the seed of everything: weights, shuffles, noise. The scatter of the data that
    they are measured on is not in it, since all are measured on the same showers.

    Args:
        best: Value of each seed.
        baseline: Value of each seed.
        compared: How many comparisons are made, one for each group and objective; the level is divided by it
            (Bonferroni).
    """
    (one, error), (other, other_error) = mean_error(list(best.values())), mean_error(list(baseline.values()))
    value = one - other
    seeds = sorted(best.keys() & baseline.keys())
    pairs = mean_error([best[seed] - baseline[seed] for seed in seeds]) if len(seeds) > 1 else None
    paired = None if pairs is None or pairs[1] is None else (pairs[0], pairs[1], len(seeds))
    if error is None or other_error is None:
        words = "One repetition on a side: nothing can be said about noise."
        return Difference(value, None, None, None, None, paired, words)
    both = math.hypot(error, other_error)
    if both == 0:
        words = "The repetitions do not scatter at all: their seeds change nothing."
        return Difference(value, 0.0, None, None, None, paired, words)
    test = stats.ttest_ind(list(best.values()), list(baseline.values()), equal_var=False)
    p = float(test.pvalue)
    words = _words(value, p, compared, min(len(best), len(baseline)))
    told = p < LEVEL / compared
    return Difference(value, both, float(test.statistic), float(test.df), p, paired, words, told)


def _words(value: float, p: float, compared: int, repetitions: int) -> str:
    chance = f"p = {p:.2g} for a difference by chance, at least {repetitions} repetitions on each side"
    chance += "" if compared == 1 else f", told below {LEVEL / compared:.2g} for {compared} comparisons"
    if p >= LEVEL / compared:
        return f"Not told from noise: {chance}."
    return (
        f"The gain is told from noise: {chance}."
        if value < 0
        else f"The settings that were found are worse than the baseline, and that is no noise: {chance}."
    )
