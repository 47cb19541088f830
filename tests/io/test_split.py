"""Splits: shares that hold, ids and parts that never change."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.io.ingest import (
    SplitFractions,
)
from caloray.io.split import SPLITS, assign_splits, event_ids


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    shares=st.tuples(*[st.integers(0, 10)] * 3).filter(lambda s: sum(s) > 0),
    sha=st.binary(min_size=32, max_size=32),
)
def test_splits_follow_the_shares(seed: int, shares: tuple[int, int, int], sha: bytes) -> None:
    total = sum(shares)
    fractions = SplitFractions(**{n: s / total for n, s in zip(SPLITS, shares, strict=True)})
    ids = event_ids(sha.hex(), 0, 4000)
    assert (ids >= 0).all()
    assert len(set(ids.tolist())) == 4000
    assert np.array_equal(event_ids(sha.hex(), 1234, 1300), ids[1234:1300])
    parts = assign_splits(ids, fractions, seed)
    order = np.random.default_rng(seed).permutation(4000)
    assert np.array_equal(assign_splits(ids[order], fractions, seed), parts[order])
    for position, share in enumerate(shares):
        count = int((parts == position).sum())
        expected = share / total
        assert abs(count / 4000 - expected) <= 6 * (expected * (1 - expected) / 4000) ** 0.5


def test_split_is_the_published_one() -> None:
    """Frozen values: a change here would mix training and test data of existing directories."""
    ids = event_ids("ab" * 32, 0, 12)
    assert ids[:2].tolist() == [3535591275665178948, 7800278605129020846]
    parts = assign_splits(ids, SplitFractions(train=0.5, validation=0.25, test=0.25), 7)
    assert parts.tolist() == [0, 0, 2, 2, 0, 2, 0, 0, 0, 0, 1, 0]


def test_seed_matters_but_ids_do_not_depend_on_it() -> None:
    ids = event_ids("0" * 64, 0, 2000)
    one, two = (assign_splits(ids, SplitFractions(), seed) for seed in (0, 1))
    assert 0.2 < np.mean(one != two) < 0.5
    assert not np.array_equal(ids, event_ids("1" * 64, 0, 2000))
