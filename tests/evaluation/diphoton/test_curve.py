"""Pairs: which, where, and independent of how the work is cut."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import ConfigError, DataError
from caloray.evaluation.diphoton import PairSettings, readout
from caloray.evaluation.diphoton.bank import Bank, choose_candidates, gather
from caloray.evaluation.diphoton.bootstrap import binomial_errors, replicate, variances
from caloray.evaluation.diphoton.curve import Curve, Outcome, draw_pairs, resolve_block, split_rates, trace
from caloray.evaluation.diphoton.readout import Readout
from caloray.evaluation.diphoton.turn_on import TurnOn, fit_turn_on

ENERGIES = (20_000.0, 5_000.0)


@pytest.fixture(scope="module")
def test_bench(grid, photons, request):
    showers = photons(80, 3)
    bank = Bank.from_dense(showers.voxels, showers.incident_energies)
    (chosen,), _, _ = choose_candidates([bank], ["toy"], ENERGIES, 0.1)
    settings = PairSettings.of(distances=(0, 12.5), pairs=600)
    return bank, chosen, Readout.of(grid, settings), settings


def same(one, other):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one.outcomes, other.outcomes, strict=True)
        for name in ("first", "second", "resolved", "near")
    )


def test_batches_and_blocks_do_not_matter(test_bench, monkeypatch):
    bank, chosen, cells, settings = test_bench
    ways = [(chosen.first, chosen.second)]
    whole = trace("toy", bank, ways, cells, settings)
    assert same(whole, trace("toy", bank, ways, cells, settings))
    blocks = [resolve_block("toy", bank, ways, cells, settings, 12.5, block) for block in (2, 0, 1)]
    parts = Outcome.merged([blocks[1], blocks[2], blocks[0]])
    np.testing.assert_array_equal(parts.resolved, whole.outcomes[1].resolved)
    monkeypatch.setattr(readout, "CELLS_AT_ONCE", 1)
    assert same(whole, trace("toy", bank, ways, cells, settings))


def test_more_pairs_begin_with_the_same(test_bench):
    bank, chosen, cells, settings = test_bench
    ways = [(chosen.first, chosen.second)]
    few = trace("toy", bank, ways, cells, settings.model_copy(update={"pairs": 310}))
    many = trace("toy", bank, ways, cells, settings)
    np.testing.assert_array_equal(few.outcomes[1].resolved, many.outcomes[1].resolved[:310])
    other = trace("toy", bank, ways, cells, settings.model_copy(update={"seed": 1}))
    assert not np.array_equal(other.outcomes[1].first, many.outcomes[1].first)


def test_a_shower_is_never_paired_with_itself():
    identities = np.array([7, 3, 5, 3, 9, 7])  # rows 1 and 3, 0 and 5 are copies
    rows = np.arange(6)
    uniform = np.random.default_rng(0).random((6000, 3))
    first, second = draw_pairs(identities, [(rows, rows), (rows[:3], rows[3:])], uniform)
    assert np.all(identities[first] != identities[second])
    joint = np.zeros((6, 6))
    np.add.at(joint, (first, second), 1)
    expected = identities[:, None] != identities[None]
    assert np.array_equal(joint > 0, expected)
    only_all_ways = draw_pairs(identities, [(rows, rows)], uniform)
    counts = np.zeros((6, 6))
    np.add.at(counts, only_all_ways, 1)
    probability = expected / expected.sum(axis=1, keepdims=True) / 6
    assert np.all(np.abs(counts - 6000 * probability) < 5 * np.sqrt(6000 * probability) + 1e-9)
    with pytest.raises(DataError, match="no other shower"):
        draw_pairs(np.zeros(6), [(rows, rows)], uniform)


def test_distances_hold_on_average(test_bench, monkeypatch):
    bank, chosen, cells, settings = test_bench
    seen = []

    def spy(self, bank, rows, shifts):
        seen.append(shifts)
        return np.zeros(len(rows), dtype=int), np.zeros((len(rows), 2, 2))

    monkeypatch.setattr(Readout, "count", spy)
    resolve_block("toy", bank, [(chosen.first, chosen.second)], cells, settings, 12.5, 0)
    shifts = np.concatenate(seen)
    moved = (shifts[:, 1] - shifts[:, 0]) * 1.7
    assert set(np.unique(moved[:, 0]).round(6)) == {11.9, 13.6}
    assert moved[:, 0].mean() == pytest.approx(12.5, abs=3 * 0.85 / np.sqrt(250))
    assert np.all(moved[:, 1] == 0)
    assert set(np.unique(shifts[:, 0])) == {0, 1, 2}


def test_single_photons_split_more_often_where_they_are_faint(test_bench):
    bank, chosen, cells, _ = test_bench
    rates = split_rates(bank, chosen, cells)
    assert np.isfinite(rates).all()
    assert rates[chosen.second].mean() >= rates[chosen.first].mean()
    assert set(np.round(rates * 9, 6) % 1) == {0.0}


def test_windows_widen_and_say_so(source, grid, photons):
    bank = gather(source(photons(120, 5), grid), ENERGIES)
    (chosen,), windows, warnings = choose_candidates([bank], ["toy"], ENERGIES, 0.02)
    assert windows == (0.3, 0.3)
    assert len(chosen.first) == len(chosen.second) == 60
    assert warnings[1] == "photons of 5,000 MeV: showers within ±2% are too few; ±30% is used (60 of toy)"
    with pytest.raises(DataError, match=r"toy: 0 showers from 8,400 to 15,600 MeV, expected at least 20"):
        choose_candidates([bank], ["toy"], (12_000, 5_000), 0.1)


def test_a_bank_does_not_depend_on_chunks(source, grid, photons):
    showers = photons(60, 6)
    one = gather(source(showers, grid), ENERGIES)
    other = gather(source(showers, grid, rows=7), ENERGIES)
    for name in ("starts", "voxels", "energies", "incident", "identities"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert len(np.unique(one.identities)) == 60


def draw_experiment(rng, ones, others, pairs):
    """A toy in which the two showers and chance decide."""
    quality, luck = rng.standard_normal(ones), rng.standard_normal(others)
    first, second = rng.integers(0, ones, pairs), rng.integers(0, others, pairs)
    resolved = quality[first] + luck[second] + rng.standard_normal(pairs) > 0
    return Curve("toy", (10.0,), (Outcome(first, second + ones, resolved, resolved),))


@pytest.mark.parametrize(("ones", "others"), [(60, 30), (3000, 3000)])
def test_errors_are_those_of_repeated_experiments(ones, others):
    rng = np.random.default_rng(2)
    curves = [draw_experiment(rng, ones, others, 1000) for _ in range(300)]
    true = np.std([curve.probability[0] for curve in curves])
    stated = np.sqrt(np.mean([variances(curve, ones + others)[0] for curve in curves]))
    assert stated == pytest.approx(true, rel=0.15)
    samples = replicate({"toy": curves[0]}, ones + others, 0, 300)["toy"]
    assert samples.std() == pytest.approx(np.sqrt(variances(curves[0], ones + others)[0]), rel=0.15)


def test_points_and_curves_of_the_same_showers_move_together():
    """Two curves of the same few showers: their difference varies less than either."""
    rng = np.random.default_rng(3)
    ones, others, luck = 30, 30, rng.standard_normal(60)
    experiments = []
    for _ in range(300):
        rows = rng.integers(0, 60, 60)  # showers drawn anew
        quality, curves = luck[rows], {}
        for name in ("left", "right"):
            first, second = rng.integers(0, ones, 2000), ones + rng.integers(0, others, 2000)
            resolved = quality[first] + quality[second] + rng.standard_normal(2000) > 0
            curves[name] = Curve(name, (10.0,), (Outcome(first, second, resolved, resolved),))
        experiments.append(curves)
    left, right = (np.array([one[name].probability[0] for one in experiments]) for name in ("left", "right"))
    samples = [replicate(curves, 60, k, 100) for k, curves in enumerate(experiments[:30])]
    stated = np.mean([np.std(one["left"] - one["right"]) for one in samples])
    assert stated == pytest.approx((left - right).std(), rel=0.2)
    assert (left - right).std() < 0.5 * left.std()


def test_a_point_at_one_has_an_error():
    rows = np.arange(100)
    curve = Curve("sure", (10.0,), (Outcome(rows, rows + 100, rows >= 0, rows >= 0),))
    assert 0.005 < binomial_errors(curve)[0] < 0.02
    assert replicate({"sure": curve}, 200, 0, 100)["sure"].std() > 0.002


def test_the_fit_finds_what_was_put_in():
    distances = np.array([0, 5, 10, 12, 14, 16, 20, 30.0])
    true = TurnOn(13.2, 1.4, 0.93, 0.04)
    fit = fit_turn_on(distances, true(distances), 0.01)
    assert fit is not None
    for name in ("d50", "width", "plateau"):
        assert getattr(fit, name) == pytest.approx(getattr(true, name), rel=0.01)
    assert fit.residual < 1e-3
    assert fit_turn_on(distances, np.full(8, 0.5), 0.01) is None
    assert fit_turn_on(distances, np.zeros(8), 0.01) is None
    assert fit_turn_on(distances[:3], true(distances[:3]), 0.01) is None
    step = np.where(distances > 15, 1.0, 0.0)
    assert fit_turn_on(distances, step, 0.01) is None
    step[4] = 0.5
    steep = fit_turn_on(distances, step, 0.01)
    assert steep is not None
    assert (steep.d50, steep.plateau) == pytest.approx((14, 1), abs=0.01)
    zigzag = np.where(distances > 15, [0, 0, 0, 0, 0, 1, 0.3, 0.9], 0.0)
    assert fit_turn_on(distances, zigzag, 0.01) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"energies": (1, -2)}, "energies 1"),
        ({"distances": (5, 0)}, "must ascend"),
        ({"distances": (float("nan"),)}, "distances"),
        ({"pairs": 1}, "pairs"),
        ({"direction": "z"}, "direction"),
        ({"colour": 1}, "colour"),
    ],
)
def test_impossible_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        PairSettings.of(**wrong)
