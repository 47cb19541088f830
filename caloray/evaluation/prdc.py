"""Precision, recall, density and coverage: are generated showers where Geant4's are, and everywhere there?"""

from __future__ import annotations

__all__ = ["prdc", "prdc_values"]

from dataclasses import dataclass

import numpy as np

from caloray.errors import ConfigError
from caloray.evaluation.arrays import check_rows
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import PAIRS, matched_pairs
from caloray.rng import StreamKey

NEIGHBOURS = 5
MOST = 5_000
EMPTY = 0.1  # MeV that stand for an empty voxel in the logarithm
COLUMNS = 4096  # voxels per block
LABELS = {"precision": "Precision", "recall": "Recall", "density": "Density", "coverage": "Coverage"}
NOTES = {
    "precision": "fraction of generated showers inside the reference's neighbourhoods",
    "recall": "fraction of reference showers inside the generated sample's neighbourhoods",
    "density": "reference neighbourhoods around a generated shower, divided by k; can exceed 1",
    "coverage": "fraction of reference showers with a generated one in their neighbourhood",
}


@dataclass(frozen=True)
class _Squares:
    """Squared distances in the reference (N, N), in the generated sample (M, M), and between them (N, M)."""

    reference: np.ndarray
    generated: np.ndarray
    between: np.ndarray


def prdc_values(reference: np.ndarray, generated: np.ndarray, k: int = NEIGHBOURS) -> dict[str, float]:
    """The four numbers of the package prdc, with all showers given.

    Precision and recall: Kynkäänniemi et al., arXiv:1904.06991, eqs. 1-3; density and coverage: Naeem et al.,
    arXiv:2002.09797, sec. 3. As the CaloChallenge takes them: Euclidean distance of log10 of the voxel
    energies in MeV, 0.1 MeV in the place of an empty voxel; the radius of a shower is the distance to its
    k-th neighbour in its own sample, itself not counted; inside is strictly closer.

    Args:
        reference: (N, V) voxels [MeV] after the threshold.
        generated: (M, V).
        k: Which neighbour makes the radius.

    Raises:
        DataError: See :func:`caloray.evaluation.arrays.check_rows`.
        ConfigError: k < 1.
    """
    check_rows("prdc", reference, generated, _fewest(k))
    squares = _squares(reference, generated)
    return _fractions(squares.reference, squares.generated, squares.between, k)


def prdc(
    reference: np.ndarray,
    generated: np.ndarray,
    seed: int = 0,
    k: int = NEIGHBOURS,
    most: int = MOST,
    pairs: int = PAIRS,
) -> list[Metric]:
    """Precision, recall, density and coverage with their floors, in this order.

    Distances are computed once among at most ``most`` showers a side, all pairs are subsets of these.

    Args:
        reference: (N, V) voxels [MeV] after the threshold, float32.
        generated: (M, V).
        seed: Of the choice of showers and of the pairs.
        k: Which neighbour makes the radius.
        most: Showers a side (time and memory grow with its square).
        pairs: Number of pairs.

    Raises:
        DataError: See :func:`caloray.evaluation.arrays.check_rows`.
        ConfigError: k < 1.
    """
    fewest = 2 * _fewest(k)
    check_rows("prdc", reference, generated, fewest)
    chosen = [
        _choose(rows, most, seed, name) for name, rows in (("reference", reference), ("generated", generated))
    ]
    squares = _squares(*chosen)
    value = _fractions(squares.reference, squares.generated, squares.between, k)
    floors: dict[str, list[float]] = {name: [] for name in LABELS}
    values: dict[str, list[float]] = {name: [] for name in LABELS}
    size = 0
    for pair in matched_pairs(len(chosen[0]), len(chosen[1]), seed, pairs):
        own = squares.reference[np.ix_(pair.first, pair.first)]
        other = squares.reference[np.ix_(pair.second, pair.second)]
        floor = _fractions(own, other, squares.reference[np.ix_(pair.first, pair.second)], k)
        other = squares.generated[np.ix_(pair.generated, pair.generated)]
        found = _fractions(own, other, squares.between[np.ix_(pair.first, pair.generated)], k)
        for name in LABELS:
            floors[name].append(floor[name])
            values[name].append(found[name])
        size = len(pair.first)
    return [
        Metric(
            name=f"prdc/{name}",
            label=label,
            value=value[name],
            **matched(floors[name], values[name]),
            showers=(len(chosen[0]), len(chosen[1])),
            pair_showers=size,
            better="higher",
            settings={"k": k, "most": most, "empty_voxel_mev": EMPTY},
            note=NOTES[name],
        )
        for name, label in LABELS.items()
    ]


def _fewest(k: int) -> int:
    if k < 1:
        raise ConfigError(f"prdc: neighbour number {k}, expected 1 or more", hint="5 is the usual choice")
    return 2 * k + 2


def _choose(rows: np.ndarray, most: int, seed: int, name: str) -> np.ndarray:
    """At most ``most`` random rows, in their order."""
    if len(rows) <= most:
        return rows
    generator = StreamKey(seed, "evaluation", f"prdc-{name}").generator()
    return rows[np.sort(generator.permutation(len(rows))[:most])]


def _squares(reference: np.ndarray, generated: np.ndarray) -> _Squares:
    """All squared distances, float32, from products of the centred logarithms block by block of voxels."""
    own = np.zeros((len(reference), len(reference)), dtype=np.float32)
    other = np.zeros((len(generated), len(generated)), dtype=np.float32)
    between = np.zeros((len(reference), len(generated)), dtype=np.float32)
    for start in range(0, reference.shape[1], COLUMNS):
        left, right = (_logarithm(rows[:, start : start + COLUMNS]) for rows in (reference, generated))
        centre = left.mean(axis=0)
        left -= centre
        right -= centre
        own += left @ left.T
        other += right @ right.T
        between += left @ right.T
    norms = own.diagonal().copy(), other.diagonal().copy()
    _to_squares(between, *norms)
    for products, norm in zip((own, other), norms, strict=True):
        _to_squares(products, norm, norm)
        np.fill_diagonal(products, np.inf)
    return _Squares(own, other, between)


def _logarithm(voxels: np.ndarray) -> np.ndarray:
    """log10 of energies [MeV], a new float32 array."""
    filled = np.where(voxels > 0, voxels, EMPTY).astype(np.float32)
    return np.asarray(np.log10(filled, out=filled))


def _to_squares(products: np.ndarray, left: np.ndarray, right: np.ndarray) -> None:
    """Turn x.y into |x - y|^2, in place."""
    products *= -2.0
    products += left[:, None]
    products += right[None, :]
    np.maximum(products, 0.0, out=products)


def _fractions(own: np.ndarray, other: np.ndarray, between: np.ndarray, k: int) -> dict[str, float]:
    """The four numbers from squared distances whose diagonals are infinite."""
    radius = np.partition(own, k - 1, axis=1)[:, k - 1]
    other_radius = np.partition(other, k - 1, axis=1)[:, k - 1]
    inside = between < radius[:, None]
    return {
        "precision": float(inside.any(axis=0).mean()),
        "recall": float((between < other_radius[None, :]).any(axis=1).mean()),
        "density": float(inside.sum(axis=0).mean()) / k,
        "coverage": float(inside.any(axis=1).mean()),
    }
