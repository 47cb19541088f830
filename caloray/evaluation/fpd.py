"""Fréchet physics distance: how far apart two clouds of features are, as if both were Gaussian."""

from __future__ import annotations

__all__ = ["fpd", "fpd_value", "frechet_distance"]

from dataclasses import dataclass

import numpy as np

from caloray.evaluation.arrays import check_rows, scaled
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import PAIRS, Pair, matched_pairs
from caloray.evaluation.threads import in_threads

SMALLEST, LARGEST = 10_000, 50_000  # showers in a draw
BATCHES, POINTS = 20, 10
DRAW_SEED = 42  # of the protocol: a published number is always made from this one
FULL_SIZE = 50_000  # showers below which the value still falls visibly with their number
BLOCK = 4096
SMALL = 4096  # showers up to which double precision costs no time
RANK = 1e-14  # of the largest variance: what is below belongs to a feature that follows from the others


def frechet_distance(
    mean_1: np.ndarray, covariance_1: np.ndarray, mean_2: np.ndarray, covariance_2: np.ndarray
) -> float:
    """Squared Fréchet distance of two Gaussians, |m1 - m2|^2 + tr(C1 + C2 - 2 sqrt(C1 C2)).

    (Dowson and Landau, J. Multivariate Anal. 12 (1982) 450.) The eigenvalues of C1 C2 are those of the
    symmetric L1^T C2 L1 with C1 = L1 L1^T. Singular covariances are welcome.

    Args:
        mean_1: (F,).
        covariance_1: (F, F), symmetric, no negative eigenvalue but for rounding.
        mean_2: (F,).
        covariance_2: (F, F).
    """
    difference = mean_1 - mean_2
    overlap = _overlap(np.atleast_2d(covariance_1), np.atleast_2d(covariance_2))
    return float(difference @ difference + np.trace(covariance_1) + np.trace(covariance_2) - 2 * overlap)


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Trace of sqrt(C1 C2)."""
    try:
        root = np.linalg.cholesky(first)
        np.linalg.cholesky(second)
    except np.linalg.LinAlgError:
        return float(np.linalg.svd(_root(first).T @ _root(second), compute_uv=False).sum())
    squares = np.linalg.eigvalsh(root.T @ second @ root)
    return float(np.sqrt(np.maximum(squares, 0.0)).sum())


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R R^T = C, also for a singular C."""
    values, vectors = np.linalg.eigh(covariance)
    rooted: np.ndarray = vectors * np.sqrt(np.maximum(values, 0.0))
    return rooted


@dataclass(frozen=True)
class _Moments:
    """Mean (R,) and covariance (R, R) of a set of rows, in the frame of a :class:`_Cloud`."""

    mean: np.ndarray
    covariance: np.ndarray


class _Cloud:
    """Both samples in a frame in which their common covariance is the unit matrix.

    In that frame single precision loses nothing that matters (about 1e-7 of the distance): a rounding error
    is small against every direction's own variance, also against the smallest. Directions in which neither
    sample varies drop out.
    """

    def __init__(self, reference: np.ndarray, generated: np.ndarray) -> None:
        samples = scaled(reference, generated)
        centre = samples[0].mean(axis=0)
        for sample in samples:
            np.subtract(sample, centre, out=sample)
        common = sum(rows.T @ rows / len(rows) for rows in samples)
        values, vectors = np.linalg.eigh(common / 2)
        keep = values > RANK * max(values[-1], 0.0)
        self._back = vectors[:, keep] * np.sqrt(values[keep])
        frame = vectors[:, keep] / np.sqrt(values[keep])
        kind = np.float64 if max(len(rows) for rows in samples) <= SMALL else np.float32
        self.reference, self.generated = (_turn(rows, frame, kind) for rows in samples)

    def distance(self, one: _Moments, two: _Moments) -> float:
        """Squared Fréchet distance in the original features."""
        first, second = (self._back @ part.covariance @ self._back.T for part in (one, two))
        return frechet_distance(self._back @ one.mean, first, self._back @ two.mean, second)

    def floor_and_matched(self, pair: Pair) -> tuple[float, float]:
        """Distances of the reference rows from other reference rows, and from generated ones."""
        first, second = (_moments(self.reference, rows, 0) for rows in (pair.first, pair.second))
        generated = _moments(self.generated, pair.generated, 0)
        return self.distance(first, second), self.distance(first, generated)


def _turn(rows: np.ndarray, frame: np.ndarray, kind: type) -> np.ndarray:
    """(N, R) the rows in another frame, block by block."""
    turned: np.ndarray = np.empty((len(rows), frame.shape[1]), dtype=kind)
    for start in range(0, len(rows), BLOCK):
        turned[start : start + BLOCK] = rows[start : start + BLOCK] @ frame
    return turned


def _moments(rows: np.ndarray, chosen: np.ndarray, freedom: int) -> _Moments:
    """Mean and covariance of ``rows[chosen]``; a row that was chosen more than once is read once.

    Args:
        rows: (N, R).
        chosen: (n,) row numbers.
        freedom: 1 for the unbiased covariance, 0 for that of these rows as a distribution.
    """
    counts = np.bincount(chosen, minlength=len(rows))
    distinct = np.flatnonzero(counts)
    weights = np.sqrt(counts[distinct]).astype(rows.dtype)
    total = np.zeros(rows.shape[1])
    products = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(distinct), BLOCK):
        weight = weights[start : start + BLOCK]
        part = rows[distinct[start : start + BLOCK]]
        part *= weight[:, None]
        products += part.T @ part
        total += weight @ part
    mean = total / len(chosen)
    covariance = (products - len(chosen) * np.outer(mean, mean)) / (len(chosen) - freedom)
    return _Moments(mean, covariance)


def fpd_value(
    reference: np.ndarray,
    generated: np.ndarray,
    smallest: int = SMALLEST,
    largest: int = LARGEST,
    batches: int = BATCHES,
    points: int = POINTS,
) -> tuple[float, float]:
    """FPD as jetnet 0.2.5 defines it (Kansal et al., arXiv:2211.10295, sec. III; CaloChallenge arguments).

    Features in units of the reference's largest absolute value; draws with replacement of ``points`` sizes,
    regular in 1/n from ``smallest`` to ``largest``; per size the mean distance of ``batches`` draws; straight
    line in 1/n with both coefficients >= 0. Agrees with jetnet to about 1e-7 where the covariances are
    regular. Where they are singular (constant features) jetnet adds 1e-6 to every variance, this does not.

    Args:
        reference: (N, F) features.
        generated: (M, F).
        smallest: Showers in the smallest draw.
        largest: Showers in the largest draw.
        batches: Draws per size.
        points: Number of sizes.

    Returns:
        The intercept and its fit error.

    Raises:
        DataError: See :func:`check_rows`.
    """
    check_rows("fpd", reference, generated)
    return _extrapolate(_Cloud(reference, generated), smallest, largest, batches, points)


def _extrapolate(
    cloud: _Cloud, smallest: int, largest: int, batches: int, points: int
) -> tuple[float, float]:
    from scipy.optimize import curve_fit

    sizes = (1 / np.linspace(1.0 / smallest, 1.0 / largest, points)).astype(np.int32)
    generator = np.random.default_rng(DRAW_SEED)
    samples = cloud.reference, cloud.generated
    draws = [
        [generator.choice(len(rows), size=size) for rows in samples] for size in sizes for _ in range(batches)
    ]

    def distance(drawn: list[np.ndarray]) -> float:
        one, two = (_moments(rows, chosen, 1) for rows, chosen in zip(samples, drawn, strict=True))
        return cloud.distance(one, two)

    heights = np.reshape(in_threads(distance, draws), (points, batches)).mean(axis=1)
    bounds = ([0, 0], [np.inf, np.inf])
    best, covariance = curve_fit(lambda x, a, b: a + b * x, 1 / sizes, heights, bounds=bounds)
    return float(best[0]), float(np.sqrt(covariance[0, 0]))


def fpd(reference: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = PAIRS) -> list[Metric]:
    """FPD with its floor.

    The value is :func:`fpd_value`. Draws with replacement have the moments of the rows from which they are
    drawn, so that the limit of large draws is the Fréchet distance of the samples themselves: floor and
    matched value are that limit, free of the noise of draws.

    It is ``comparable`` where both samples are large enough for the protocol; whether they are the
    challenge's is for :func:`caloray.evaluation.published.data_reasons` to say.

    Args:
        reference: (N, F) features, see :func:`caloray.evaluation.features.feature_vector`.
        generated: (M, F).
        seed: Of the pairs; the value does not depend on it.
        pairs: Number of pairs.

    Raises:
        DataError: See :func:`check_rows`.
    """
    check_rows("fpd", reference, generated)
    cloud = _Cloud(reference, generated)
    value, error = _extrapolate(cloud, SMALLEST, LARGEST, BATCHES, POINTS)
    chosen = matched_pairs(len(reference), len(generated), seed, pairs)
    floors, values = zip(*in_threads(cloud.floor_and_matched, chosen), strict=True)
    showers = len(reference), len(generated)
    full = min(showers) >= FULL_SIZE
    note = "" if full else f"falls with the number of showers; published values have {FULL_SIZE} or more"
    return [
        Metric(
            name="fpd",
            label="Fréchet physics distance",
            value=value,
            error=error,
            **matched(floors, values),
            showers=showers,
            pair_showers=len(chosen[0].first),
            comparable=full,
            settings={
                "features": reference.shape[1],
                "draws": [SMALLEST, LARGEST],
                "batches": BATCHES,
                "points": POINTS,
                "draw_seed": DRAW_SEED,
                "printed_times": 1000,
            },
            note=note,
        )
    ]
