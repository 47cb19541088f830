"""chi2 per degree of freedom of two histograms, and the value that Geant4 has against itself.

The challenge's slides give chi2/NDF of E_tot / E_inc (1.17 for the photons, 1.55 for the pions), but not
how it was computed. Here it is the standard test of two histograms with unequal totals, summed over the
panels of the incident energies where those are discrete.
"""

from __future__ import annotations

__all__ = ["FEWEST", "chi2_average", "chi2_record", "e_ratio_metric", "two_sample_chi2"]

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caloray.evaluation.axes import PANEL, Axis
from caloray.evaluation.metric import Metric, matched
from caloray.evaluation.sample import Sample

FEWEST = 10
"""Entries that both samples together must have in a bin; neighbours are joined until they have."""
FEWEST_HALVES = 3
SKEWED = frozenset({"voxel_energy"})
"""Where bins go together so much that chi2/NDF has a long tail and spreads say little: ranks are given."""

JUDGED = ("chi2_per_ndf", "chi2_floor", "chi2_floor_spread", "chi2_significance", "chi2_rank")
KEYS = ("chi2", "ndf", *JUDGED)

Pair = tuple[float, int]


def two_sample_chi2(first: np.ndarray, second: np.ndarray, fewest: int = FEWEST) -> Pair | None:
    """Are two histograms of one distribution?

    chi2 = sum_i (sqrt(N2 / N1) a_i - sqrt(N1 / N2) b_i)^2 / (a_i + b_i) with N1, N2 the totals in range and
    (groups of bins - 1) degrees of freedom (Press et al., Numerical Recipes, 3rd ed., eq. 14.3.3;
    Gagunashvili, arXiv:physics/0605123). Neighbouring bins are joined until a_i + b_i >= ``fewest``.

    Args:
        first: (B,) counts without under- and overflow.
        second: (B,) counts of the other sample.
        fewest: Entries per group of bins.

    Returns:
        chi2 and degrees of freedom; None where a sample is empty or everything falls into one group.
    """
    if not first.sum() or not second.sum():
        return None
    a, b = _joined((first, second), first + second, fewest)
    ratio = np.sqrt(second.sum() / first.sum())
    return (float(np.sum((ratio * a - b / ratio) ** 2 / (a + b))), len(a) - 1) if len(a) > 1 else None


def _correlated_chi2(
    first: tuple[np.ndarray, np.ndarray, int],
    second: tuple[np.ndarray, np.ndarray, int],
    fewest: int = FEWEST,
) -> Pair | None:
    """chi2 of the mean number of voxels per shower, (counts, sums of squares per shower, showers) each.

    The voxels of one shower are not independent, so the variance of a count is measured from shower to
    shower. Bins are still taken one by one: their correlation leaves the mean of chi2/NDF at 1 and makes its
    spread larger, as the floor shows. As many degrees of freedom as bins: nothing is normalised away.
    Neighbouring bins are not joined (that would need their covariance); thin ones are left out.
    """
    (a, squares_a, n_a), (b, squares_b, n_b) = first, second
    use = a + b >= fewest
    if min(n_a, n_b) < 2 or not use.any():
        return None
    variance = (squares_a - a**2 / n_a) / (n_a * (n_a - 1.0)) + (squares_b - b**2 / n_b) / (n_b * (n_b - 1.0))
    use &= variance > 0
    difference = (a / n_a - b / n_b)[use]
    return (float(np.sum(difference**2 / variance[use])), int(use.sum())) if use.any() else None


def _joined(histograms: Sequence[np.ndarray], total: np.ndarray, fewest: int) -> tuple[np.ndarray, ...]:
    """Neighbouring bins added up until ``total`` has ``fewest`` entries; the rest joins the last group."""
    inside = np.cumsum(total)
    ends: list[int] = []
    reached = 0
    while (end := int(np.searchsorted(inside, reached + fewest))) < len(total):
        ends.append(end)
        reached = int(inside[end])
    starts = [0, *(end + 1 for end in ends[:-1])]
    return tuple(np.add.reduceat(one, starts).astype(np.float64) for one in histograms)


def _compare(first: Sample, second: Sample, axis: int) -> Pair | None:
    if first.axes[axis].observable != "voxel_energy":
        return two_sample_chi2(first.counts(axis)[1:-1], second.counts(axis)[1:-1])
    a, b = ((one.counts(axis)[1:-1], one.voxel_squares[1:-1], one.n) for one in (first, second))
    return _correlated_chi2(a, b)


def _halves(reference: Sample, axis: int) -> list[Pair | None]:
    """chi2 of one half of the reference against the other, for each halving."""
    total, halves = reference.counts(axis)[1:-1], reference.half_counts(axis)[:, 1:-1]
    if reference.axes[axis].observable != "voxel_energy":
        return [two_sample_chi2(half, total - half) for half in halves]
    squares, some = reference.voxel_squares[1:-1], reference.histograms.half_voxel_squares[:, 1:-1]
    return [
        _correlated_chi2((half, part, int(n)), (total - half, squares - part, reference.n - int(n)))
        for half, part, n in zip(halves, some, reference.n_half, strict=True)
    ]


def chi2_record(reference: Sample, generated: Sample, axis: int) -> dict[str, Any]:
    """JSON values: chi2, ndf, chi2_per_ndf, and mean and spread of chi2/NDF between halves of the reference.

    chi2/NDF of two samples of one distribution is 1 whatever their sizes, so the floor needs no scaling.
    ``chi2_rank`` is [halvings with a smaller value, halvings]. The voxel spectrum has no significance:
    between equal samples its chi2/NDF has a long tail towards large values, and only the rank means much.
    All values are None where one of the two cannot be had.
    """
    found = _compare(reference, generated, axis)
    floors = np.array([pair[0] / pair[1] for pair in _halves(reference, axis) if pair is not None])
    if found is None or len(floors) < 2:
        return dict.fromkeys(KEYS)
    skewed = reference.axes[axis].observable in SKEWED
    return {"chi2": found[0], "ndf": found[1], **_judged(found[0] / found[1], floors, skewed=skewed)}


def chi2_average(reference: Sample, records: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """chi2/NDF averaged over several histograms, and its floor: averaged as well, halving by halving.

    The mean over 45 layers scatters much less than one layer, by how much depends on how the layers go
    together; the halvings know.

    Args:
        reference: The reference's counts and halvings.
        records: Records from :func:`chi2_record` by their axis.

    Returns:
        ``chi2_per_ndf``, ``chi2_floor``, ``chi2_floor_spread``, ``chi2_significance``, ``chi2_rank``, all
        None where no histogram has them.
    """
    known = {axis: record for axis, record in records.items() if record["chi2_per_ndf"] is not None}
    if len(known) < 2:
        only = next(iter(known.values()), dict.fromkeys(JUDGED))
        return {key: only[key] for key in JUDGED}
    halves = zip(*(_halves(reference, axis) for axis in known), strict=True)
    ratios = ([pair[0] / pair[1] for pair in pairs if pair is not None] for pairs in halves)
    floors = np.array([np.mean(found) for found in ratios if found])
    value = float(np.mean([record["chi2_per_ndf"] for record in known.values()]))
    return _judged(value, floors, skewed=False)


def _judged(value: float, floors: np.ndarray, *, skewed: bool) -> dict[str, Any]:
    mean, spread = float(np.mean(floors)), float(np.std(floors, ddof=1))
    significance = (value - mean) / spread if spread > 0 and not skewed else None
    rank = [int(np.sum(floors < value)), len(floors)]
    return dict(zip(JUDGED, (value, mean, spread, significance, rank), strict=True))


def e_ratio_metric(axes: Sequence[Axis], reference: Sample, generated: Sample) -> Metric | None:
    """chi2/NDF of E_tot / E_inc: of all panels together for dataset 1, else of the one histogram.

    The distribution of chi2/NDF under equal samples does not depend on their sizes, so the value of all
    showers is what is compared with the floor.

    Returns:
        None where a sample has no shower in range or the reference too few for its halves.
    """
    panels = [i for i, axis in enumerate(axes) if axis.observable == PANEL]
    chosen = panels or [i for i, axis in enumerate(axes) if axis.observable == "e_ratio"]
    value = _pooled([_compare(reference, generated, i) for i in chosen])
    halves = zip(*(_halves(reference, i) for i in chosen), strict=True)
    floors = [found for found in map(_pooled, halves) if found is not None]
    if value is None or len(floors) < FEWEST_HALVES:
        return None
    return Metric(
        name="chi2/e_ratio",
        label="χ²/NDF of E_tot / E_inc",
        value=value,
        showers=(reference.n, generated.n),
        pair_showers=reference.n // 2,
        settings={"panels": len(chosen), "entries_per_bin": FEWEST, "bins": axes[chosen[0]].n_bins},
        note="the challenge's slides show 1.17 (photons) and 1.55 (pions); their exact recipe is not public",
        **matched(floors, [value] * len(floors)),
    )


def _pooled(pairs: Sequence[Pair | None]) -> float | None:
    """Sum of chi2 over sum of degrees of freedom."""
    known = [pair for pair in pairs if pair is not None]
    return sum(chi2 for chi2, _ in known) / sum(ndf for _, ndf in known) if known else None
