"""Copies of the training set are found, also noisy ones, and honest samples are not accused."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import DataError
from caloray.evaluation.memorisation import Training, closeness, copies, duplicates, memorisation
from caloray.rng import StreamKey


def showers(size, seed, smooth=1.0):
    rng = np.random.default_rng(seed)
    shape = np.exp(-np.arange(40) / 10)
    scale = rng.lognormal(0, 0.5, size=(size, 1))
    energies = scale * shape * rng.gamma(smooth, 1 / smooth, size=(size, 40))
    return np.where(energies < 0.02, 0, energies).astype(np.float32)


TRAINING, HELD_OUT = showers(3000, 1), showers(800, 2)
SEEN = Training.of(TRAINING)


def nearest(probe, rows):
    return min(float(((np.sqrt(probe) - np.sqrt(row)) ** 2).sum()) for row in rows.astype(np.float64))


def test_exact_copies_are_counted():
    generated = np.concatenate([showers(300, 3), TRAINING[:100]])
    row = copies(SEEN, HELD_OUT, generated)
    assert row.value == pytest.approx(0.25)
    assert row.floor == 0
    assert row.significance > 50
    clean = copies(SEEN, HELD_OUT, showers(400, 3))
    assert (clean.value, clean.significance) == (0, 0)


def test_a_tiny_difference_is_no_copy_and_minus_zero_is_zero():
    changed = TRAINING[:200].copy()
    changed[:, 0] = np.nextafter(changed[:, 0], np.float32(np.inf))
    assert copies(SEEN, HELD_OUT, changed).value == 0
    negative = TRAINING[:200].copy()
    negative[negative == 0] = -0.0
    assert copies(SEEN, HELD_OUT, negative).value == 1


def test_repetitions_within_the_sample_are_counted():
    generated = np.repeat(showers(200, 3), 2, axis=0)
    row = duplicates(HELD_OUT, generated)
    assert row.value == pytest.approx(0.5)
    assert row.significance > 10
    assert duplicates(HELD_OUT, showers(400, 3)).value == 0


def test_empty_showers_are_neither_copies_nor_repetitions():
    empty = np.zeros((200, 40), dtype=np.float32)
    assert duplicates(HELD_OUT, empty).value == 0
    assert copies(Training.of(empty), HELD_OUT, empty).value == 0


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_noisy_copies_are_close(noise):
    rng = np.random.default_rng(7)
    generated = TRAINING[:500] * (1 + noise * rng.normal(size=(500, 40))).astype(np.float32)
    row = closeness(SEEN, HELD_OUT, generated)
    assert row.value > 0.99
    assert row.significance > 10


def test_a_tenth_of_copies_is_found():
    generated = np.concatenate([showers(1800, 3), TRAINING[:200]])
    row = closeness(SEEN, showers(3000, 2), generated)
    assert row.value == pytest.approx(0.55, abs=0.02)
    assert row.significance > 2


@pytest.mark.parametrize("smooth", [1.0, 3.0])
def test_honest_samples_are_not_accused_even_when_they_are_too_smooth(smooth):
    row = closeness(SEEN, HELD_OUT, showers(800, 3, smooth))
    assert row.floor == pytest.approx(0.5, abs=0.03)
    assert row.value == pytest.approx(0.5, abs=0.06)
    assert abs(row.significance) < 3


def test_value_is_that_of_a_plain_loop():
    training, reference, generated = showers(120, 1), showers(210, 2), showers(220, 3)
    row = closeness(Training.of(training), reference, generated)
    order = StreamKey(0, "evaluation", "memorisation-reference").generator().permutation(210)
    probes, base = reference[order[:105]], reference[order[105:]]
    one, two = (
        [nearest(probe, training) / nearest(probe, base) for probe in rows] for rows in (generated, probes)
    )
    wins = np.mean([[(a < b) + 0.5 * (a == b) for b in two] for a in one])
    assert row.value == pytest.approx(wins, abs=1e-3)
    assert row.showers == (105, 220)


def test_without_a_training_set_only_repetitions_are_looked_for():
    assert [row.name for row in memorisation(None, HELD_OUT, showers(200, 3))] == ["duplicates"]
    names = [row.name for row in memorisation(SEEN, HELD_OUT, showers(200, 3))]
    assert names == ["duplicates", "copies", "closeness"]


def test_a_training_set_that_is_known_in_part_says_so():
    part = Training(TRAINING[:300], SEEN.marks, len(TRAINING))
    assert "10% of the training set" in closeness(part, HELD_OUT, showers(300, 3)).note
    assert "training set looked at" not in closeness(SEEN, HELD_OUT, showers(300, 3)).note
    assert copies(part, HELD_OUT, TRAINING[-300:]).value == 1


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="closeness: reference sample has 150 showers, at least 200"):
        closeness(SEEN, HELD_OUT[:150], showers(200, 3))
    with pytest.raises(DataError, match=r"expected \(showers, features\)"):
        closeness(Training.of(TRAINING[:, :30]), HELD_OUT, showers(200, 3))
    with pytest.raises(DataError, match="is nan"):
        duplicates(HELD_OUT, np.full((200, 40), np.nan, dtype=np.float32))
