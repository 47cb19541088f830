"""Kernel physics distance: the maximum mean discrepancy of two clouds of features."""

from __future__ import annotations

__all__ = ["kpd", "kpd_value"]

from dataclasses import dataclass

import numpy as np

from caloray.evaluation.arrays import check_rows, scaled
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.pairs import PAIRS, Pair, matched_pairs
from caloray.evaluation.threads import in_threads
from caloray.rng import StreamKey

BATCH, BATCHES = 10_000, 10
DRAW_SEED, SEED_STEP = 42, 1000  # of the protocol: a published number is always made from these
FULL_SIZE = 50_000  # showers below which the value still falls visibly with their number
POOL = 10_000  # showers on either side of a pair
QUANTILES = (16.275, 83.725)
SQUARINGS = 2  # twice squared is the fourth power
ROWS, COLUMNS = 512, 512  # of a tile: it stays in the cache
SMALL = 8192  # rows up to which double precision costs nothing
TAME = 100.0  # |x|^2 / F beyond which the fourth power needs double precision


@dataclass(frozen=True)
class _Weighted:
    """Rows (n, F) with weights (n, K), one column per subset or draw of them."""

    rows: np.ndarray
    weights: np.ndarray

    @property
    def square(self) -> np.ndarray:
        """(K,) sum over rows i of w_i k(x_i, x_i)."""
        norms = np.einsum("nf,nf->n", self.rows, self.rows, dtype=np.float64)
        own: np.ndarray = (norms / self.rows.shape[1] + 1.0) ** 4 @ self.weights
        return own


def _forms(one: _Weighted, two: _Weighted) -> np.ndarray:
    """(K,) sums over i, j of w_ik v_jk k(x_i, y_j), k(x, y) = (x.y / F + 1)^4.

    Tile by tile, summed in double precision; ``one is two`` takes each unequal pair of tiles once.
    """
    kind: type[np.floating] = np.float64 if _needs_double(one.rows, two.rows) else np.float32
    left: np.ndarray = (one.rows / one.rows.shape[1]).astype(kind)
    right: np.ndarray = two.rows.astype(kind)
    symmetric = one is two
    step = COLUMNS if symmetric else ROWS

    def strip(start: int) -> np.ndarray:
        outer, weight = left[start : start + step], one.weights[start : start + step]
        total = np.zeros(weight.shape[1])
        for j in range(start if symmetric else 0, len(right), COLUMNS):
            kernel: np.ndarray = outer @ right[j : j + COLUMNS].T
            kernel += 1.0
            for _ in range(SQUARINGS):
                kernel *= kernel
            sums = (kernel.astype(np.float64, copy=False) @ two.weights[j : j + COLUMNS] * weight).sum(axis=0)
            total += 2.0 * sums if symmetric and j > start else sums
        return total

    return np.asarray(np.sum(in_threads(strip, range(0, len(left), step)), axis=0))


def _needs_double(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether single precision would cost digits, or double precision no time."""
    reach = max(float(np.einsum("nf,nf->n", rows, rows).max()) / rows.shape[1] for rows in (left, right))
    return max(len(left), len(right)) <= SMALL or reach > TAME


def _discrepancies(one: _Weighted, two: _Weighted, size: int) -> np.ndarray:
    """(K,) unbiased quadratic MMD^2 of draws of ``size`` rows a side (Gretton et al., JMLR 13 (2012) 723)."""
    first, second = (_forms(side, side) - side.square for side in (one, two))
    return np.asarray((first + second) / (size * (size - 1)) - 2.0 * _forms(one, two) / size**2)


def kpd_value(
    reference: np.ndarray, generated: np.ndarray, batch: int = BATCH, batches: int = BATCHES
) -> tuple[float, float]:
    """KPD as jetnet 0.2.5 defines it (Kansal et al., arXiv:2211.10295, sec. III; CaloChallenge arguments).

    Features in units of the reference's largest absolute value; ``batches`` draws with replacement of
    ``batch`` showers on either side; unbiased MMD^2 with the kernel (x.y / F + 1)^4 of each.

    Args:
        reference: (N, F) features.
        generated: (M, F).
        batch: Showers in a draw.
        batches: Number of draws.

    Returns:
        Median over the draws, and half the width of their central 67.45 %. The median can be negative.

    Raises:
        DataError: See :func:`check_rows`.
    """
    check_rows("kpd", reference, generated)
    return _median(*scaled(reference, generated), batch, batches)


def _median(reference: np.ndarray, generated: np.ndarray, batch: int, batches: int) -> tuple[float, float]:
    counts = [np.zeros((len(rows), batches)) for rows in (reference, generated)]
    for k in range(batches):
        generator = np.random.default_rng(DRAW_SEED + SEED_STEP * k)
        for table in counts:
            table[:, k] = np.bincount(generator.choice(len(table), size=batch), minlength=len(table))
    one, two = (_Weighted(*pair) for pair in zip((reference, generated), counts, strict=True))
    together = max(len(reference), len(generated)) ** 2 < batches * batch**2
    groups = [slice(None)] if together else [slice(k, k + 1) for k in range(batches)]
    parts = [_discrepancies(_drawn(one, group), _drawn(two, group), batch) for group in groups]
    values = np.concatenate(parts)
    low, high = np.percentile(values, QUANTILES)
    return float(np.median(values)), float(high - low) / 2


def _drawn(sample: _Weighted, draws: slice) -> _Weighted:
    """The rows that some of the draws contain."""
    weights = sample.weights[:, draws]
    used = np.flatnonzero(weights.any(axis=1))
    return _Weighted(sample.rows[used], weights[used])


def kpd(reference: np.ndarray, generated: np.ndarray, seed: int = 0, pairs: int = PAIRS) -> list[Metric]:
    """KPD with its floor.

    The value is :func:`kpd_value`. Over its draws with replacement from n rows the expectation of MMD^2 is
    the same expression with every row once, the diagonal included: floor and matched value are this
    expectation, free of the noise of draws. All pairs come from at most 20,000 reference and 10,000 generated
    showers.

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
    check_rows("kpd", reference, generated)
    samples = scaled(reference, generated)
    value, error = _median(*samples, BATCH, BATCHES)
    pools = [
        rows[StreamKey(seed, "evaluation", f"kpd-{name}").generator().permutation(len(rows))[:most]]
        for name, rows, most in zip(("reference", "generated"), samples, (2 * POOL, POOL), strict=True)
    ]
    chosen = matched_pairs(len(pools[0]), len(pools[1]), seed, pairs)
    floors, values = _expectations(pools[0], pools[1], chosen)
    showers = len(reference), len(generated)
    full = min(showers) >= FULL_SIZE
    note = "" if full else f"falls with the number of showers; published values have {FULL_SIZE} or more"
    return [
        Metric(
            name="kpd",
            label="Kernel physics distance",
            value=value,
            error=error,
            **matched(floors.tolist(), values.tolist()),
            showers=showers,
            pair_showers=len(chosen[0].first),
            comparable=full,
            settings={
                "features": reference.shape[1],
                "batch": BATCH,
                "batches": BATCHES,
                "draw_seed": DRAW_SEED,
                "printed_times": 1000,
            },
            note=note,
        )
    ]


def _expectations(
    reference: np.ndarray, generated: np.ndarray, chosen: list[Pair]
) -> tuple[np.ndarray, np.ndarray]:
    """(K,) MMD^2, diagonals included, of each reference-reference and each generated-reference pair."""
    first, second = (
        _indicators(len(reference), [getattr(pair, name) for pair in chosen]) for name in ("first", "second")
    )
    one = _Weighted(reference, first)
    two = _Weighted(generated, _indicators(len(generated), [pair.generated for pair in chosen]))
    differences = _Weighted(reference, np.concatenate([first - second, first], axis=1))
    floors, own = np.split(_forms(differences, differences), 2)
    values = own + _forms(two, two) - 2.0 * _forms(one, two)
    size = len(chosen[0].first)
    return floors / size**2, values / size**2


def _indicators(total: int, chosen: list[np.ndarray]) -> np.ndarray:
    """(total, K) ones where a row is in a subset."""
    table = np.zeros((total, len(chosen)))
    for k, rows in enumerate(chosen):
        table[rows, k] = 1.0
    return table
