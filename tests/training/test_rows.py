"""Which rows make up which batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloray.errors import DataError
from caloray.training.rows import RowPlan


@pytest.fixture
def store(toy):
    return toy.store_of(toy.showers())


def plan(toy, store, **changes) -> RowPlan:
    part = toy.scheme().component("next_layer")
    return RowPlan(part, store, **{"batch": 64, "seed": 1, **changes})


def epoch(rows: RowPlan, number: int) -> list[tuple[int, int]]:
    return [tuple(row) for step in range(rows.steps_per_epoch) for row in rows.select(number, step).tolist()]


def test_every_row_at_most_once_per_epoch_and_another_order_in_the_next(toy, store):
    rows = plan(toy, store)
    assert len(rows.rows) == 380
    assert (rows.batch_rows, rows.steps_per_epoch) == (64, 5)
    first, second = epoch(rows, 0), epoch(rows, 1)
    assert len(set(first)) == len(first) == 320
    assert set(first) <= {tuple(row) for row in rows.rows.tolist()}
    assert first != second
    # The remainder that is left out is another one in every epoch.
    assert set(first) != set(second)


def test_the_same_batch_after_a_rebuild_in_any_order(toy, store):
    one, other = plan(toy, store), plan(toy, store)
    for number, step in [(3, 2), (0, 0), (3, 1), (7, 4)]:
        list(epoch(other, 5))
        for a, b in zip(one.training_batch(number, step), other.training_batch(number, step), strict=True):
            assert torch.equal(a, b)
        assert np.array_equal(one.select(number, step), other.select(number, step))


def test_noise_is_fresh_in_every_step(toy, store):
    rows = plan(toy, store)
    rows.select = lambda *_: rows.rows[:30]
    targets = [rows.training_batch(*at)[0] for at in [(0, 0), (0, 1), (1, 0), (1, 1)]]
    assert not any(torch.equal(targets[i], targets[j]) for i in range(4) for j in range(i))
    assert len({rows.dropout_seed(e, 0) for e in range(50)}) == 50


def test_ranks_divide_a_batch(toy, store):
    whole = plan(toy, store)
    ranks = [plan(toy, store, rank=rank, world=3) for rank in range(3)]
    for number, step in [(0, 0), (2, 4)]:
        parts = [tuple(row) for rank in ranks for row in rank.select(number, step).tolist()]
        assert len(parts) == 64
        assert sorted(parts) == sorted(tuple(row) for row in whole.select(number, step).tolist())
    assert len({rank.dropout_seed(0, 0) for rank in ranks}) == 3
    fills = [rank.training_batch(0, 0)[0] for rank in ranks]
    assert not torch.equal(fills[0][:20], fills[1][:20])


def test_the_validation_subsample_is_fixed(toy, store):
    rows = plan(toy, store)
    pieces = rows.fixed_batches(150)
    assert [len(piece) for piece, _ in pieces] == [64, 64, 22]
    assert len({tuple(row) for piece, _ in pieces for row in piece.tolist()}) == 150
    again = plan(toy, store).fixed_batches(150)
    for (piece, key), (other, other_key) in zip(pieces, again, strict=True):
        for a, b in zip(rows.fixed_batch(piece, key), rows.fixed_batch(other, other_key), strict=True):
            assert torch.equal(a, b)
    assert sum(len(piece) for piece, _ in rows.fixed_batches(10**6)) == 380


def test_seed_and_component_change_the_order(toy, store):
    one = plan(toy, store).select(0, 0)
    assert not np.array_equal(plan(toy, store, seed=2).select(0, 0), one)
    parts = [
        RowPlan(toy.scheme().component(name), store, 64, 1) for name in ("layer_energies", "first_layer")
    ]
    assert not np.array_equal(parts[0].select(0, 0)[:, 0], parts[1].select(0, 0)[:, 0])


def test_fewer_rows_than_a_batch_are_one_step(toy):
    rows = plan(toy, toy.store_of(toy.showers(5)), batch=1000)
    assert rows.steps_per_epoch == 1
    assert len(epoch(rows, 0)) == rows.batch_rows == len(rows.rows)


def test_nothing_to_train_on(toy):
    empty = toy.showers(4)
    empty.voxels[:] = 0
    with pytest.raises(DataError, match="next_layer: no rows to train on in 4 showers"):
        plan(toy, toy.store_of(empty))
