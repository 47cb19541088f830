"""Correlation matrices of the layer energies."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from caloray.evaluation.correlations import compare_correlations, correlation_matrix
from caloray.evaluation.quantities import Seen
from caloray.evaluation.table import Table
from caloray.showers import Showers


def table(half: Any, voxels: np.ndarray | None = None, n: int = 750) -> Table:
    old = half.showers
    showers = Showers(old.incident_energies[:n], (old.voxels if voxels is None else voxels)[:n], old.ids[:n])
    made = Table(half.geometry)
    seen = Seen.of(showers, half.geometry, 0.0)
    made.add(seen.ids, seen.rows)
    return made


def test_against_numpy() -> None:
    values = np.random.default_rng(0).normal(size=(50, 4)) @ np.array([[1, 2, 0, 0]] * 4)
    values = values + np.random.default_rng(1).normal(size=(50, 4))
    np.testing.assert_allclose(correlation_matrix(values), np.corrcoef(values.T), rtol=1e-10, atol=1e-12)
    values[:, 2] = 3.0
    found = correlation_matrix(values)
    assert np.isnan(found[2]).all()
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()


def test_geant4_against_itself_and_shuffled_layers(halves: Any) -> None:
    first = table(halves[0])
    record, metric = compare_correlations(first, table(halves[1]))
    assert metric is not None
    assert metric.significance is not None
    assert abs(metric.significance) < 4
    assert metric.pair_showers == 375
    assert record["difference_floor"] == metric.floor
    np.testing.assert_allclose(
        np.array(record["reference"]), np.corrcoef(first.layered("layer_energy").T), rtol=1e-9
    )
    voxels = halves[1].showers.voxels.copy()
    span = halves[1].geometry.span(20)
    voxels[:, span] = np.random.default_rng(0).permutation(voxels[:, span])
    _, broken = compare_correlations(first, table(halves[1], voxels))
    assert broken is not None
    assert broken.significance is not None
    assert broken.significance > 2


def test_dead_layers_and_few_showers(halves: Any) -> None:
    voxels = halves[1].showers.voxels.copy()
    voxels[:, halves[1].geometry.span(3)] = 0
    record, metric = compare_correlations(table(halves[0]), table(halves[1], voxels))
    assert metric is not None
    assert record["generated"][3] == [None] * 45
    json.dumps(record, allow_nan=False)
    few = table(halves[0], n=30)
    record, metric = compare_correlations(few, few)
    assert metric is None
    assert record["difference_floor"] is None
    assert record["reference"][0][0] == pytest.approx(1.0)
