"""Renormalise and cut, against the steps of the description taken one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caloray.preprocess.cut import renormalise_and_cut

VOXELS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 5), st.integers(1, 8)),
    elements=st.one_of(st.just(0.0), st.floats(1e-3, 100)),
)
TARGET = st.one_of(st.just(0.0), st.floats(1e-3, 500))
THRESHOLD = st.sampled_from([0.0, 0.015, 0.5, 5.0])


def slow(row: list[float], target: float, threshold: float) -> list[float]:
    """One layer: try to keep all voxels, then all but the smallest, and so on (L2LFlows)."""
    order = sorted(range(len(row)), key=lambda i: row[i])
    out = [0.0] * len(row)
    if target < threshold:
        return out
    for position, smallest in enumerate(order):
        kept = order[position:]
        total = sum(row[i] for i in reversed(kept))
        if total > 0 and row[smallest] * (target / total) >= threshold:
            for i in kept:
                out[i] = row[i] * (target / total)
            return out
    return out


def cut(voxels, target, threshold: float) -> np.ndarray:
    found = renormalise_and_cut(
        torch.as_tensor(voxels, dtype=torch.float64), torch.as_tensor(target, dtype=torch.float64), threshold
    )
    return found.numpy()


def close_call(row: list[float], target: float, threshold: float) -> bool:
    """Whether rounding decides if some voxel passes."""
    ordered = sorted(row, reverse=True)
    sums = np.cumsum(ordered)
    scaled = [v * target / s for v, s in zip(ordered, sums, strict=True) if s > 0]
    return any(math.isclose(v, threshold, rel_tol=1e-9) for v in scaled)


@given(VOXELS, st.lists(TARGET, min_size=5, max_size=5), THRESHOLD)
def test_equals_the_slow_way(voxels, targets, threshold):
    targets = targets[: len(voxels)]
    found = cut(voxels, targets, threshold)
    for row, target, result in zip(voxels.tolist(), targets, found, strict=True):
        if not close_call(row, target, threshold):
            np.testing.assert_allclose(result, slow(row, target, threshold), rtol=1e-9, atol=1e-12)


@given(VOXELS, st.lists(TARGET, min_size=5, max_size=5), THRESHOLD)
def test_sum_threshold_and_order(voxels, targets, threshold):
    """The layer sums to its target, nothing lies below the threshold, larger stays larger."""
    targets = targets[: len(voxels)]
    for before, target, after in zip(voxels, targets, cut(voxels, targets, threshold), strict=True):
        kept = after > 0
        assert (after >= 0).all()
        if target < threshold:
            assert not kept.any()
        if kept.any():
            assert after.sum() == pytest.approx(target, rel=1e-9)
            assert after[kept].min() >= threshold
            order = np.argsort(before, kind="stable")
            assert (np.diff(after[order]) >= -1e-12 * target).all()
            if (~kept).any():
                assert before[~kept].max() <= before[kept].min()


def test_a_worked_example():
    # All four: 0.1 * 10 / 10.1 < 1; without the 0.1: 1 * 10 / 10 = 1 passes.
    assert cut([[6.0, 0.1, 1.0, 3.0]], [10.0], 1.0).tolist() == [[6.0, 0.0, 1.0, 3.0]]
    # Without the 0.1 the 0.9 fails too: 0.9 * 10 / 9.9 < 1; the rest is scaled up.
    assert cut([[6.0, 0.1, 0.9, 3.0]], [10.0], 1.0)[0].tolist() == pytest.approx([60 / 9, 0, 0, 30 / 9])


def test_layers_that_cannot_be():
    voxels = [[0.0, 0.0], [1.0, 2.0], [1.0, 2.0], [5.0, 0.0]]
    found = cut(voxels, [10.0, 0.0, 0.9, 1.0], 1.0)
    assert found.tolist() == [[0, 0], [0, 0], [0, 0], [1, 0]]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_not_finite_is_told_and_harms_no_other(bad):
    """An invalid draw must not turn into an empty layer, which nothing downstream would notice."""
    rng = np.random.default_rng(1)
    voxels, targets = rng.exponential(1, (5, 12)), rng.uniform(5, 20, 5)
    alone = cut(voxels, targets, 0.1)
    voxels[1, 4] = bad
    targets[3] = bad
    found = cut(voxels, targets, 0.1)
    assert np.isnan(found[[1, 3]]).all()
    assert np.array_equal(found[[0, 2, 4]], alone[[0, 2, 4]])


def test_rows_are_independent_of_their_batch():
    rng = np.random.default_rng(2)
    voxels, targets = rng.exponential(1, (50, 12)), rng.uniform(5, 20, 50)
    together = cut(voxels, targets, 0.3)
    assert np.array_equal(
        together, np.concatenate([cut(voxels[i : i + 1], targets[i : i + 1], 0.3) for i in range(50)])
    )
