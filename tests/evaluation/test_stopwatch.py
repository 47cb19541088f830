"""The arithmetic of timings, with a clock that is moved by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caloray.evaluation.stopwatch import Clock, Plan, measure


class Model:
    """Takes ``fixed`` seconds per call and ``each`` per shower; half of that is CPU time."""

    def __init__(self, fixed=0.0, each=0.0, first=0.0, factors=()):
        self.fixed, self.each, self.first = fixed, each, first
        self.factors = list(factors)
        self.now = 100.0
        self.calls = []

    def __call__(self, rows, index):
        factor = self.factors.pop(0) if self.factors else 1.0
        self.now += factor * (self.fixed + self.each * rows) + (0 if self.calls else self.first)
        self.calls.append((rows, index))

    @property
    def clock(self):
        return Clock(lambda: self.now, lambda: 0.5 * self.now)


def test_per_shower_median_and_spread():
    # First call and one more to warm up, then four repetitions of one batch of 10.
    model = Model(fixed=1.0, first=7.0, factors=[1, 1, 1, 2, 3, 4])
    found = measure(model, Plan(10, at_once=10, repetitions=4), model.clock, known=(1, 0.1))
    assert found["first_s"] == pytest.approx(8.0)
    assert found["first_rows"] == 10
    times = np.array([100.0, 200.0, 300.0, 400.0])  # ms per shower
    assert found["ms"]["median"] == pytest.approx(250.0)
    assert found["ms"]["low"] == pytest.approx(np.percentile(times, 16))
    assert found["ms"]["high"] == pytest.approx(np.percentile(times, 84))
    assert found["ms"]["mean"] == pytest.approx(250.0)
    assert found["ms"]["std"] == pytest.approx(times.std(ddof=1))
    assert found["ms"]["least"] == pytest.approx(100.0)
    assert found["cpu_ms"]["median"] == pytest.approx(125.0)
    assert (found["repetitions"], found["calls"], found["showers"]) == (4, 1, 40)
    assert found["note"] == ""
    assert found["skipped"] is None
    assert [index for _, index in model.calls] == list(range(6))


def test_short_calls_fill_a_tenth_of_a_second():
    model = Model(fixed=0.004)
    found = measure(model, Plan(1, at_once=256, repetitions=3), model.clock)
    assert found["calls"] == 25
    assert found["showers"] == 75
    assert found["ms"]["median"] == pytest.approx(4.0)


def test_large_batches_are_drawn_in_pieces():
    model = Model(each=0.001)
    found = measure(model, Plan(1000, at_once=256, repetitions=2), model.clock, known=(100, 0.1))
    assert [rows for rows, _ in model.calls] == [256, 256, *(2 * [256, 256, 256, 232])]
    assert found["showers"] == 2000
    assert found["ms"]["median"] == pytest.approx(1.0)


def test_what_does_not_fit_is_timed_on_fewer_showers_and_says_so():
    model = Model(each=0.01)
    found = measure(model, Plan(10_000, at_once=100, repetitions=5, limit=20), model.clock, known=(10, 0.1))
    assert found["note"] == "400 of 10,000 showers timed, in pieces of 100; 4 of 5 repetitions within 20 s"
    assert found["showers"] == 1600
    assert found["ms"]["median"] == pytest.approx(10.0)
    assert model.now - 100 <= 20


def test_fewer_repetitions_within_the_limit():
    model = Model(fixed=4.0)
    found = measure(model, Plan(1, at_once=1, repetitions=10, limit=20), model.clock)
    assert found["repetitions"] == 3
    assert found["note"] == "3 of 10 repetitions within 20 s"


def test_a_single_repetition_has_no_spread():
    model = Model(fixed=4.0)
    found = measure(model, Plan(1, at_once=1, repetitions=1), model.clock)
    assert found["ms"]["low"] is found["ms"]["std"] is None
    assert found["ms"]["median"] == pytest.approx(4000.0)


def test_too_slow_is_skipped_with_the_reason():
    model = Model(fixed=30.0)
    found = measure(model, Plan(1, at_once=1, limit=20), model.clock)
    assert found["ms"] is None
    assert found["skipped"] == "a call of 1 takes 30 s, the limit is 20 s"
    assert found["first_s"] == pytest.approx(30.0)
    assert len(model.calls) == 1


def test_hopeless_is_skipped_before_it_begins():
    model = Model(each=10.0)
    found = measure(model, Plan(100, at_once=256, limit=20), model.clock, known=(1, 10.0))
    assert model.calls == []
    assert found["skipped"] == "a call of 100 may take longer than the limit of 20 s (one of 1 took 10 s)"


def test_calls_of_growing_size_find_out_whether_a_large_one_is_affordable():
    model = Model(fixed=1.0, each=0.001)
    found = measure(model, Plan(256, at_once=256, limit=60, repetitions=3), model.clock)
    assert [rows for rows, _ in model.calls[:4]] == [1, 4, 16, 256]
    assert found["ms"]["median"] == pytest.approx(1e3 * 1.256 / 256)


def test_out_of_memory_is_a_reason():
    def draw(rows, index):
        raise torch.OutOfMemoryError("no")

    assert measure(draw, Plan(1, at_once=1))["skipped"] == "out of memory with 1 showers at once"
