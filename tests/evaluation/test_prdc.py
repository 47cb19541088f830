"""Precision, recall, density and coverage against the definitions written out shower by shower."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from caloray.errors import ConfigError, DataError
from caloray.evaluation.prdc import prdc, prdc_values

NAMES = ["prdc/precision", "prdc/recall", "prdc/density", "prdc/coverage"]


def showers(size, seed, scale=1.0, width=7):
    rng = np.random.default_rng(seed)
    energies = rng.lognormal(size=(size, width)) * scale
    return np.where(energies < 0.5, 0.0, energies).astype(np.float32)


def plain(reference, generated, k):
    """All four, with one loop per ball."""
    real, fake = (
        np.log10(np.where(rows > 0, rows, 0.1).astype(np.float64)) for rows in (reference, generated)
    )

    def radii(points):
        model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points)
        return model.kneighbors()[0][:, -1]  # without query points scikit-learn leaves out the point itself

    balls, other = radii(real), radii(fake)
    distance = np.array([[np.linalg.norm(a - b) for b in fake] for a in real])
    precision = np.mean([any(distance[i, j] < balls[i] for i in range(len(real))) for j in range(len(fake))])
    recall = np.mean([any(distance[i, j] < other[j] for j in range(len(fake))) for i in range(len(real))])
    density = sum(int((distance[:, j] < balls).sum()) for j in range(len(fake))) / (k * len(fake))
    coverage = np.mean([distance[i].min() < balls[i] for i in range(len(real))])
    return {"precision": precision, "recall": recall, "density": density, "coverage": coverage}


@pytest.mark.parametrize(("k", "scale"), [(5, 1.0), (1, 1.0), (5, 1.5), (3, 3.0)])
def test_values_are_those_of_the_definitions(k, scale):
    reference, generated = showers(120, 1), showers(150, 2, scale)
    assert prdc_values(reference, generated, k) == pytest.approx(plain(reference, generated, k), abs=1e-12)


def test_voxels_in_several_blocks_give_the_same(monkeypatch):
    reference, generated = showers(120, 1), showers(150, 2)
    whole = prdc_values(reference, generated)
    monkeypatch.setattr("caloray.evaluation.prdc.COLUMNS", 3)
    assert prdc_values(reference, generated) == pytest.approx(whole, abs=1e-12)


def test_a_copy_covers_everything():
    reference = showers(300, 1)
    found = prdc_values(reference, reference)
    assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
    assert found["density"] == pytest.approx(1, abs=1e-3)  # itself and k - 1 neighbours inside each ball


def test_samples_far_apart_have_nothing_in_common():
    found = prdc_values(showers(150, 1) + 1.0, (showers(150, 2) + 1.0) * 1e6)
    assert set(found.values()) == {0.0}


def test_rows_have_floors_and_a_collapsed_model_loses_recall_and_coverage():
    reference = showers(600, 1)
    same = {row.name: row for row in prdc(reference, showers(500, 2))}
    assert list(same) == NAMES
    assert all(row.better == "higher" and row.pair_showers == 300 for row in same.values())
    assert all(abs(row.significance) < 4 for row in same.values())
    collapsed = {row.name: row for row in prdc(reference, np.repeat(showers(50, 2), 10, axis=0))}
    assert collapsed["prdc/coverage"].significance > 5
    assert collapsed["prdc/recall"].significance > 5


def test_at_most_so_many_showers_are_used():
    rows = prdc(showers(400, 1), showers(300, 2), most=200)
    assert {row.showers for row in rows} == {(200, 200)}
    assert [row.to_dict() for row in rows] == [
        row.to_dict() for row in prdc(showers(400, 1), showers(300, 2), most=200)
    ]


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="prdc: generated sample has 20 showers, at least 24"):
        prdc(showers(100, 1), showers(20, 2))
    spoilt = showers(100, 2)
    spoilt[4, 2] = np.nan
    with pytest.raises(DataError, match="shower 4, column 2 is nan"):
        prdc(showers(100, 1), spoilt)
    with pytest.raises(ConfigError, match="neighbour number 0"):
        prdc(showers(100, 1), showers(100, 2), k=0)
