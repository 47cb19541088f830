"""Exact sums per voxel."""

from __future__ import annotations

import numpy as np

from caloray.evaluation.exact_voxels import LARGEST, VoxelSums


def test_any_order_and_any_split_give_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 7, 5000)
    values = rng.lognormal(0, 4, 5000).astype(np.float32)
    whole, parts, second = VoxelSums(8), VoxelSums(8), VoxelSums(8)
    whole.add(columns, values)
    order = rng.permutation(5000)
    parts.add(columns[order[:99]], values[order[:99]])
    second.add(columns[order[99:]], values[order[99:]])
    parts.merge(second)
    assert whole.floats().tobytes() == parts.floats().tobytes()
    expected = [values[columns == i].sum(dtype=np.float64) for i in range(8)]
    np.testing.assert_allclose(whole.floats(), expected, rtol=1e-10)


def test_absurd_energies_do_not_overflow() -> None:
    sums = VoxelSums(1)
    sums.add(np.zeros(3, dtype=np.int64), np.array([1e38, 3e38, 1.0], dtype=np.float32))
    assert sums.floats()[0] == 2 * LARGEST + 1
