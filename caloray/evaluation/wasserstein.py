"""Wasserstein distances of single observables: by how much generated values have to be moved, on average."""

from __future__ import annotations

__all__ = ["wasserstein", "wasserstein_distances"]

from collections.abc import Mapping

import numpy as np

from caloray.errors import DataError
from caloray.evaluation.arrays import check_rows
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import PAIRS, matched_pairs

MOST = 10_000  # showers on either side of a pair


def wasserstein_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """First Wasserstein distance of each column, the area between the two cumulative distributions.

    W = integral over q from 0 to 1 of |x(q) - y(q)|, x and y the inverse cumulative distributions (Vallender,
    Theory Probab. Appl. 18 (1974) 784). The steps of both depend on the sample sizes alone.

    Args:
        first: (N, C) values.
        second: (M, C) values.

    Returns:
        (C,) distances in the unit of the values.
    """
    one, two = (np.sort(np.ascontiguousarray(values.T, dtype=np.float64)) for values in (first, second))
    n, m = one.shape[1], two.shape[1]
    if n == m:
        return np.asarray(np.abs(one - two).mean(axis=1))
    # In units of 1 / (n m) the steps lie at whole numbers: no rounding decides which comes first.
    steps = np.union1d(np.arange(1, n + 1, dtype=np.int64) * m, np.arange(1, m + 1, dtype=np.int64) * n)
    shares = np.diff(steps, prepend=0) / (n * m)
    left, right = (steps - 1) // m, (steps - 1) // n
    return np.array([np.abs(x[left] - y[right]) @ shares for x, y in zip(one, two, strict=True)])


def wasserstein(
    reference: Mapping[str, np.ndarray],
    generated: Mapping[str, np.ndarray],
    seed: int = 0,
    most: int = MOST,
    pairs: int = PAIRS,
) -> list[Metric]:
    """One number per observable: the distance in standard deviations of the reference, averaged over layers.

    Args:
        reference: Per observable (N,) or (N, L) values.
        generated: The same observables, (M,) or (M, L).
        seed: Of the pairs.
        most: Showers on either side of a pair.
        pairs: Number of pairs.

    Raises:
        DataError: Other observables or shapes, too few showers, or a value that is not a number.
    """
    if list(reference) != list(generated):
        raise DataError(
            f"wasserstein: reference has observables {list(reference)}, generated {list(generated)}",
            hint="compute the observables of both samples with the same geometry",
        )
    return [
        _metric(name, _columns(reference[name]), _columns(generated[name]), seed, most, pairs)
        for name in reference
    ]


def _columns(values: np.ndarray) -> np.ndarray:
    return values[:, None] if values.ndim == 1 else values


def _metric(
    name: str, reference: np.ndarray, generated: np.ndarray, seed: int, most: int, pairs: int
) -> Metric:
    check_rows(f"wasserstein/{name}", reference, generated)
    unit = _unit(reference, generated)
    value = wasserstein_distances(reference, generated) / unit
    chosen = matched_pairs(len(reference), len(generated), seed, pairs, most)
    floors, values = [], []
    for pair in chosen:
        first = reference[pair.first]
        floors.append(float(np.mean(wasserstein_distances(first, reference[pair.second]) / unit)))
        values.append(float(np.mean(wasserstein_distances(first, generated[pair.generated]) / unit)))
    layers = len(value)
    worst = int(np.argmax(value))
    note = f"largest in layer {worst}: {value[worst]:.3g}" if layers > 1 else ""
    return Metric(
        name=f"wasserstein/{name}",
        label=f"Wasserstein distance of {name.replace('_', ' ')}",
        value=float(value.mean()),
        **matched(floors, values),
        showers=(len(reference), len(generated)),
        pair_showers=len(chosen[0].first),
        settings={"unit": "standard deviation of the reference", "layers": layers, "most": most},
        note=note,
    )


def _unit(reference: np.ndarray, generated: np.ndarray) -> np.ndarray:
    """(C,) standard deviation of the reference; of both together where the reference is constant, or 1."""
    unit = reference.std(axis=0)
    for column in np.flatnonzero(unit == 0):
        unit[column] = np.concatenate([reference[:, column], generated[:, column]]).std() or 1.0
    return np.asarray(unit)
