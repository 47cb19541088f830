"""Which showers go where."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.evaluation.classifiers.parts import split_weights, take_parts
from caloray.geometry import load_geometry
from caloray.rng import StreamKey

KEY = StreamKey(1, "test", "parts")


@pytest.mark.parametrize(
    ("name", "n", "sizes"),
    [
        ("ds1_photons", 121_000, (80_000, 20_000, 21_000)),
        ("ds1_pions", 120_800, (80_000, 20_000, 20_800)),
        ("ds2", 100_000, (60_000, 20_000, 20_000)),
        ("ds3", 100_000, (60_000, 20_000, 20_000)),
        ("ild_30x30x30", 11, (6, 2, 3)),
    ],
)
def test_official_sizes(name: str, n: int, sizes: tuple[int, ...]) -> None:
    parts = take_parts(np.arange(n), n + np.arange(n), split_weights(load_geometry(name), None), KEY)
    assert tuple(len(p.rows) // 2 for p in (parts.train, parts.test, parts.final)) == sizes


def test_disjoint_balanced_and_labelled() -> None:
    parts = take_parts(np.arange(50), 100 + np.arange(80), (3, 1, 1), KEY)
    rows = np.concatenate([p.rows for p in (parts.train, parts.test, parts.final)])
    assert len(np.unique(rows)) == len(rows) == 100
    for part in (parts.train, parts.test, parts.final):
        assert np.array_equal(part.labels, (part.rows < 50).astype(float))
        assert part.labels.mean() == 0.5


def test_same_stream_same_parts() -> None:
    one, two, other = (
        take_parts(np.arange(50), 50 + np.arange(50), (3, 1, 1), key) for key in (KEY, KEY, KEY.at(1))
    )
    assert np.array_equal(one.train.rows, two.train.rows)
    assert not np.array_equal(one.train.rows, other.train.rows)


def test_chosen_weights_win() -> None:
    assert split_weights(load_geometry("ds2"), (1, 2, 3)) == (1, 2, 3)
