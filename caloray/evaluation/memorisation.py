"""Is the generated sample a copy of the training set? Duplicates, and showers that are suspiciously close."""

from __future__ import annotations

__all__ = ["Training", "closeness", "copies", "duplicates", "marks", "memorisation"]

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from caloray.evaluation.arrays import FEWEST, check_rows
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import PAIRS, matched_pairs
from caloray.rng import StreamKey

MOST_PROBES = 2_000
MOST_BASE = 4_000
ROWS = 2048  # of a block


@dataclass(frozen=True)
class Training:
    """What a model was trained on.

    Args:
        voxels: (T, V) [MeV] of some of its showers after the threshold, a fair choice.
        marks: :func:`marks` of all of its showers that hold energy.
        showers: How many there are.
    """

    voxels: np.ndarray
    marks: frozenset[bytes]
    showers: int

    @staticmethod
    def of(voxels: np.ndarray) -> Training:
        """A training set that is known whole, (T, V) [MeV]."""
        return Training(voxels, frozenset(marks(voxels)) - {b""}, len(voxels))


def memorisation(
    training: Training | None,
    reference: np.ndarray,
    generated: np.ndarray,
    seed: int = 0,
    pairs: int = PAIRS,
) -> list[Metric]:
    """``duplicates``, and with the training set at hand ``copies`` and ``closeness``.

    Args:
        training: The training showers, or None.
        reference: (N, V) voxels [MeV] after the threshold of showers that the model has not seen.
        generated: (M, V).
        seed: Of the choice of showers and of the pairs.
        pairs: Number of pairs.

    Raises:
        DataError: See :func:`caloray.evaluation.arrays.check_rows`.
    """
    found = [duplicates(reference, generated, seed, pairs)]
    if training is not None:
        found += [
            copies(training, reference, generated, seed, pairs),
            closeness(training, reference, generated, seed, pairs),
        ]
    return found


def duplicates(reference: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = PAIRS) -> Metric:
    """Fraction of showers that repeat, voxel by voxel, another shower of the same sample.

    Energies are compared as float32; empty showers are no repetitions. A spread below one shower counts as
    one shower, here and in :func:`copies`.
    """
    check_rows("duplicates", reference, generated)
    known, made = marks(reference), marks(generated)
    chosen = matched_pairs(len(known), len(made), seed, pairs)
    floors = [_repeated([known[i] for i in pair.second]) for pair in chosen]
    values = [_repeated([made[i] for i in pair.generated]) for pair in chosen]
    size = len(chosen[0].first)
    return Metric(
        name="duplicates",
        label="Repeated showers within the sample",
        value=_repeated(made),
        **_resolved(floors, values, size),
        showers=(len(known), len(made)),
        pair_showers=size,
        note=f"of the reference: {_repeated(known):.3g}",
    )


def copies(
    training: Training, reference: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = PAIRS
) -> Metric:
    """Fraction of generated showers that equal a training shower voxel by voxel; floor: of held-out ones."""
    check_rows("copies", reference, generated)
    seen = training.marks
    known, made = (np.array([mark in seen for mark in marks(rows)]) for rows in (reference, generated))
    chosen = matched_pairs(len(known), len(made), seed, pairs)
    size = len(chosen[0].first)
    return Metric(
        name="copies",
        label="Copies of training showers",
        value=float(made.mean()),
        **_resolved(
            [float(known[pair.second].mean()) for pair in chosen],
            [float(made[pair.generated].mean()) for pair in chosen],
            size,
        ),
        showers=(len(known), len(made)),
        pair_showers=size,
        settings={"training_showers": training.showers},
        note=f"of the reference: {known.mean():.3g}",
    )


def _resolved(floors: list[float], values: list[float], size: int) -> dict[str, Any]:
    """Floor, spread and matched value of fractions that are usually all zero."""
    found = matched(floors, values)
    return found | {"spread": max(found["spread"], 1.0 / size)}


def marks(rows: np.ndarray) -> list[bytes]:
    """A digest per shower; an empty one for a shower without energy."""
    found = []
    for row in rows:
        plain = np.ascontiguousarray(row, dtype=np.float32) + np.float32(0.0)  # -0 becomes 0
        found.append(hashlib.blake2b(plain.data, digest_size=16).digest() if plain.any() else b"")
    return found


def _repeated(found: list[bytes]) -> float:
    filled = [mark for mark in found if mark]
    return (len(filled) - len(set(filled))) / len(found)


def closeness(
    training: Training, reference: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = PAIRS
) -> Metric:
    """Probability that a generated shower is nearer to the training set than a held-out one is; 1/2 is fair.

    Distances are Euclidean between square roots of voxel energies, which makes the fluctuations of all voxels
    about equally large. A shower's distance to its nearest training shower is divided by that to its nearest
    shower of a part of the held-out reference: showers that are too smooth, or from another spectrum, are
    near to or far from both and raise no alarm. Mann-Whitney probability of the ratios (compare Meehan et
    al., arXiv:2004.05675, who take the distance to the training set alone).

    Args:
        training: The training showers.
        reference: (N, V) of showers that the model has not seen; at most 2,000 are compared, at most 4,000
            others measured from.
        generated: (M, V); at most 2,000.
        seed: Of the choice of showers and of the pairs.
        pairs: Number of pairs.

    Raises:
        DataError: See :func:`caloray.evaluation.arrays.check_rows`.
    """
    check_rows("closeness", reference, generated, 2 * FEWEST)
    check_rows("closeness (training set)", training.voxels, generated)
    order = _order(len(reference), seed, "reference")
    n_probes = min(MOST_PROBES, len(order) // 2)
    known = _roots(reference[order[:n_probes]])
    made = _roots(generated[_order(len(generated), seed, "generated")[:MOST_PROBES]])
    base = reference[order[n_probes : n_probes + MOST_BASE]]
    seen = training.voxels
    ratios = [_ratio(probes, seen, base) for probes in (known, made)]
    chosen = matched_pairs(len(known), len(made), seed, pairs)
    floors = [_probability(ratios[0][pair.second], ratios[0][pair.first]) for pair in chosen]
    values = [_probability(ratios[1][pair.generated], ratios[0][pair.first]) for pair in chosen]
    part = len(seen) / training.showers
    return Metric(
        name="closeness",
        label="Closeness to the training set",
        value=_probability(ratios[1], ratios[0]),
        **matched(floors, values),
        showers=(len(known), len(made)),
        pair_showers=len(chosen[0].first),
        settings={"training_showers": len(seen), "base_showers": len(base), "distance": "sqrt(E)"},
        note="1/2 is fair, 1 a copy" + ("" if part == 1 else f"; {part:.0%} of the training set looked at"),
    )


def _order(number: int, seed: int, name: str) -> np.ndarray:
    return StreamKey(seed, "evaluation", f"memorisation-{name}").generator().permutation(number)


def _roots(voxels: np.ndarray) -> np.ndarray:
    """Square roots of energies, float32, new."""
    return np.asarray(np.sqrt(np.maximum(voxels, 0.0), dtype=np.float32))


def _ratio(probes: np.ndarray, seen: np.ndarray, base: np.ndarray) -> np.ndarray:
    """(P,) squared distance to the nearest of ``seen`` over that to the nearest of ``base``."""
    near, usual = _nearest(probes, seen), _nearest(probes, base)
    both_zero = (near == 0) & (usual == 0)
    return np.where(both_zero, 1.0, near / np.maximum(usual, np.finfo(np.float64).tiny))


def _nearest(probes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(P,) smallest squared distance from each probe (square roots) to the rows of ``others`` (energies).

    The nearest row is found with single-precision products; its distance is then taken without cancellation.
    """
    best = np.full(len(probes), np.inf, dtype=np.float32)
    which = np.zeros(len(probes), dtype=np.int64)
    for start in range(0, len(others), ROWS):
        block = _roots(others[start : start + ROWS])
        halves = 0.5 * np.einsum("nv,nv->n", block, block)
        scores = halves[None, :] - probes @ block.T
        nearest = scores.argmin(axis=1)
        score = scores[np.arange(len(probes)), nearest]
        better = score < best
        best[better] = score[better]
        which[better] = start + nearest[better]
    distances = np.empty(len(probes))
    for start in range(0, len(probes), ROWS):
        part = probes[start : start + ROWS].astype(np.float64)
        part -= np.sqrt(np.maximum(others[which[start : start + ROWS]], 0.0), dtype=np.float32)
        distances[start : start + ROWS] = np.einsum("nv,nv->n", part, part)
    return distances


def _probability(one: np.ndarray, two: np.ndarray) -> float:
    """P(one < two) + P(one = two) / 2 for independent draws (Mann and Whitney, Ann. Math. Stat. 18, 50)."""
    ordered = np.sort(two)
    above = len(two) - np.searchsorted(ordered, one, side="right")
    not_below = len(two) - np.searchsorted(ordered, one, side="left")
    return float((above + not_below).mean()) / (2 * len(two))
