"""How the energies of the layers go together: Pearson correlation matrices of both samples."""

from __future__ import annotations

__all__ = ["compare_correlations", "correlation_matrix"]

from typing import Any

import numpy as np

from caloray.evaluation.means import SHARE
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import PAIRS, matched_pairs
from caloray.evaluation.table import Table

FEWEST = 20


def correlation_matrix(energies: np.ndarray) -> np.ndarray:
    """(L, L) Pearson correlation of (N, L) layer energies; NaN where a layer is the same in all showers."""
    centred = energies - energies.mean(axis=0)
    covariance = centred.T @ centred
    spread = np.sqrt(np.diag(covariance))
    with np.errstate(divide="ignore", invalid="ignore"):
        matrix = covariance / spread[:, None] / spread[None, :]
    return np.asarray(np.where(spread[:, None] * spread[None, :] > 0, np.clip(matrix, -1.0, 1.0), np.nan))


def compare_correlations(
    reference: Table, generated: Table, seed: int = 0, pairs: int = PAIRS
) -> tuple[dict[str, Any], Metric | None]:
    """Both matrices as JSON values, and their mean absolute difference with its floor.

    The metric looks at the layers that hold more than 0.5 % of the energy: in the last ones a single shower
    decides a correlation. Layers that do not vary in one of the samples have none (null) and do not count.

    Args:
        reference: Geant4 showers.
        generated: The others.
        seed: Seed of the pairs.
        pairs: Reference-reference pairs of the floor.

    Returns:
        ``{"reference": L x L, "generated": L x L, "difference_floor": number or null}``, and the metric; None
        with fewer than 20 showers to a pair, or with fewer than two layers that vary.
    """
    first, second = reference.layered("layer_energy"), generated.layered("layer_energy")
    matrices = [correlation_matrix(energies) for energies in (first, second)]
    record: dict[str, Any] = {
        "reference": _nested(matrices[0]),
        "generated": _nested(matrices[1]),
        "difference_floor": None,
    }
    used = np.flatnonzero(first.sum(axis=0) > SHARE * first.sum())
    first, second = first[:, used], second[:, used]
    drawn = matched_pairs(len(first), len(second), seed, pairs)
    value = _difference(*(matrix[np.ix_(used, used)] for matrix in matrices))
    if value is None or len(drawn[0].first) < FEWEST:
        return record, None
    floors, values = [], []
    for pair in drawn:
        one, other = correlation_matrix(first[pair.first]), correlation_matrix(first[pair.second])
        model = correlation_matrix(second[pair.generated])
        floors.append(_difference(one, other))
        values.append(_difference(one, model))
    known = [(a, b) for a, b in zip(floors, values, strict=True) if a is not None and b is not None]
    if len(known) < pairs:
        return record, None
    metric = Metric(
        name="correlation",
        label="layer correlations, mean |difference|",
        value=value,
        showers=(len(first), len(second)),
        pair_showers=len(drawn[0].first),
        settings={"layers": len(used)},
        **matched([a for a, _ in known], [b for _, b in known]),
    )
    return record | {"difference_floor": metric.floor}, metric


def _difference(first: np.ndarray, second: np.ndarray) -> float | None:
    """Mean absolute difference above the diagonal."""
    above = np.triu_indices(len(first), k=1)
    differences = np.abs(first - second)[above]
    known = differences[np.isfinite(differences)]
    return float(known.mean()) if known.size else None


def _nested(matrix: np.ndarray) -> list[list[float | None]]:
    return [[float(value) if np.isfinite(value) else None for value in row] for row in matrix]
