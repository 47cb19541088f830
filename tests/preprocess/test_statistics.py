"""Fitted extremes: the same whatever the order and the grouping, and from the rows that were given alone."""

from __future__ import annotations

import json
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.errors import DataError
from caloray.preprocess.statistics import TrainingStatistics

SEEDS = st.lists(st.integers(0, 2**32), min_size=3, max_size=6)


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 20))
    return rng.exponential(10, (count, 3)), rng.uniform(1e3, 1e5, count)


def of(seed: int) -> TrainingStatistics:
    return TrainingStatistics.of(*sample(seed))


@given(SEEDS)
def test_merging_is_associative_and_commutative_and_equals_fitting_at_once(seeds):
    parts = [of(seed) for seed in seeds]
    left = reduce(TrainingStatistics.merge, parts)
    right = reduce(lambda a, b: b.merge(a), reversed(parts))
    backward = reduce(TrainingStatistics.merge, reversed(parts))
    energies, incident = (np.concatenate(column) for column in zip(*map(sample, seeds), strict=True))
    assert left == right == backward == TrainingStatistics.of(energies, incident)


def test_what_is_gathered():
    found = TrainingStatistics.of(np.array([[10.0, 30.0], [5.0, 1.0]]), np.array([100.0, 10.0]))
    assert found == TrainingStatistics(2, 0.6, 30.0, 10.0, 100.0)


def test_nothing_to_learn_from():
    with pytest.raises(DataError, match="no showers"):
        TrainingStatistics.of(np.empty((0, 3)), np.empty(0))


def test_largest_voxels_of_both_sides_or_of_none():
    one, two = (TrainingStatistics.of(*sample(3), voxel_maxima=maxima) for maxima in ([1, 5], [2, 4]))
    assert one.merge(two).voxel_maxima == (2.0, 5.0)
    for left, right in ((one, of(3)), (of(3), one)):
        with pytest.raises(DataError, match="largest voxels of"):
            left.merge(right)


def test_only_the_stand_in_is_not_fitted():
    assert not TrainingStatistics.unfitted().fitted
    assert not TrainingStatistics.unfitted(("theta",)).fitted
    assert of(1).fitted


def test_json_round_trip():
    before = of(1)
    assert TrainingStatistics(**json.loads(json.dumps(before.to_dict()))) == before
