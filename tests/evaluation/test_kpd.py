"""Kernel physics distance against jetnet's own numbers and against a sum written out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from caloray.errors import DataError
from caloray.evaluation.kpd import kpd, kpd_value

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "fpd_kpd.json").read_text())["cases"]
MODULE = sys.modules["caloray.evaluation.kpd"]


def samples(case):
    """The arrays of which jetnet gave the golden values."""
    rng = np.random.default_rng(2024)
    features, shift = case["features"], case["shift"]
    mix = rng.normal(size=(features, features))
    reference = rng.normal(size=(case["reference"], features)) @ mix + 3.0
    generated = rng.normal(size=(case["generated"], features)) @ mix * (1 + shift) + 3.0 + shift
    return reference, generated


def gaussians(shift=0.0, size=600):
    rng = np.random.default_rng(6)
    return rng.normal(size=(size, 4)), rng.normal(size=(size, 4)) + shift


@pytest.mark.parametrize("case", GOLDEN)
def test_median_and_error_are_those_of_jetnet(case):
    found = kpd_value(*samples(case), batch=1500, batches=4)
    assert found == pytest.approx(case["kpd"], rel=1e-6)


def test_draw_by_draw_and_all_draws_at_once_agree():
    case = GOLDEN[1]
    apart = kpd_value(*samples(case), batch=1200, batches=4)  # fewer kernel values than all at once
    reference, generated = samples(case)
    values = []
    for k in range(4):
        rng = np.random.default_rng(42 + 1000 * k)
        scale = np.abs(reference).max(axis=0)
        one = (reference / scale)[rng.choice(3000, size=1200)]
        two = (generated / scale)[rng.choice(2500, size=1200)]
        kernels = [(a @ b.T / 6 + 1) ** 4 for a, b in ((one, one), (two, two), (one, two))]
        same = sum((kernel.sum() - np.trace(kernel)) / (1200 * 1199) for kernel in kernels[:2])
        values.append(same - 2 * kernels[2].mean())
    assert apart[0] == pytest.approx(np.median(values), rel=1e-9)


def test_single_precision_stays_within_a_billionth(monkeypatch):
    case = GOLDEN[1]
    expected = kpd_value(*samples(case), batch=1200, batches=4)
    monkeypatch.setattr(MODULE, "SMALL", 0)
    assert kpd_value(*samples(case), batch=1200, batches=4) == pytest.approx(expected, abs=1e-9)


def test_huge_values_do_not_overflow(monkeypatch):
    reference, generated = gaussians()
    generated[3] = 1e12
    expected = kpd_value(reference, generated, batch=500, batches=2)
    monkeypatch.setattr(MODULE, "SMALL", 0)
    assert kpd_value(reference, generated, batch=500, batches=2) == pytest.approx(expected, rel=1e-9)
    assert expected[0] > 1e60


def test_floor_and_matched_value_are_expectations_over_draws():
    reference, generated = gaussians(0.4, 200)
    metric = kpd(reference, generated)[0]
    scale = np.abs(reference).max(axis=0)

    def expectation(one, two):
        kernels = [(a @ b.T / 4 + 1) ** 4 for a, b in ((one, one), (two, two), (one, two))]
        return kernels[0].mean() + kernels[1].mean() - 2 * kernels[2].mean()

    pools = [MODULE.StreamKey(0, "evaluation", f"kpd-{name}") for name in ("reference", "generated")]
    one, two = (
        (rows / scale)[key.generator().permutation(200)]
        for rows, key in zip((reference, generated), pools, strict=True)
    )
    pairs = MODULE.matched_pairs(200, 200, 0)
    floors = [expectation(one[pair.first], one[pair.second]) for pair in pairs]
    values = [expectation(one[pair.first], two[pair.generated]) for pair in pairs]
    assert metric.floor == pytest.approx(np.mean(floors), rel=1e-9)
    assert metric.spread == pytest.approx(np.std(floors, ddof=1), rel=1e-9)
    assert metric.matched == pytest.approx(np.mean(values), rel=1e-9)


def test_tiles_add_up(monkeypatch):
    whole = kpd(*gaussians(0.1))[0].to_dict()
    monkeypatch.setattr(MODULE, "ROWS", 128)
    monkeypatch.setattr(MODULE, "COLUMNS", 100)
    tiled = kpd(*gaussians(0.1))[0].to_dict()
    for key in ("value", "error", "floor", "spread", "matched"):
        assert tiled[key] == pytest.approx(whole[key], rel=1e-9)


def test_a_shift_is_found_and_equal_samples_are_not():
    assert kpd(*gaussians(0.3))[0].significance > 5
    assert abs(kpd(*gaussians())[0].significance) < 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:50], "kpd: generated sample has 50 showers, at least 100"),
        (lambda rows: np.where(np.arange(4) == 1, np.inf, rows), "shower 0, column 1 is inf"),
    ],
)
def test_what_cannot_be_compared_is_refused(spoil, message):
    reference, generated = gaussians()
    with pytest.raises(DataError, match=message):
        kpd(reference, spoil(generated))
