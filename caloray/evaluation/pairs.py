"""Pairs of samples of equal size: reference against reference for the floor, generated against reference."""

from __future__ import annotations

__all__ = ["PAIRS", "Pair", "matched_pairs"]

from dataclasses import dataclass

import numpy as np

from caloray.rng import StreamKey

PAIRS = 10


@dataclass(frozen=True)
class Pair:
    """Row numbers of one draw; all three (m,).

    Args:
        first: Rows of the reference.
        second: Other rows of the reference; first against second is the floor.
        generated: Rows of the generated sample; first against generated is the matched value.
    """

    first: np.ndarray
    second: np.ndarray
    generated: np.ndarray


def matched_pairs(
    n_reference: int, n_generated: int, seed: int, pairs: int = PAIRS, most: int | None = None
) -> list[Pair]:
    """Random disjoint parts of the reference and equally many generated showers, without replacement.

    m = min(n_reference // 2, n_generated, most) showers stand on either side. The spread of a metric from
    one reference-reference pair to the next is that of its permutation distribution under equal samples.

    Samples of equal size may be given in the order of their incident energies: the generated rows of a pair
    are those at the places of its second half, so that where both samples have the same energies the two
    comparisons of a pair differ in nothing but the showers.

    Args:
        n_reference: Showers of the reference.
        n_generated: Generated showers.
        seed: Seed of the draws; the same seed gives the same pairs to every metric.
        pairs: How many.
        most: Largest m, for metrics that cannot take more.
    """
    m = min(n_reference // 2, n_generated, n_reference if most is None else most)
    drawn = []
    for k in range(pairs):
        generator = StreamKey(seed, "evaluation", "pairs", block=k).generator()
        rows = generator.permutation(n_reference)
        second, same = rows[m : 2 * m], n_generated == n_reference
        drawn.append(Pair(rows[:m], second, second if same else generator.permutation(n_generated)[:m]))
    return drawn
