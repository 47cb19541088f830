"""The showers whose voxels are looked at are a fair choice, the same in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from caloray.evaluation.voxels import smallest, take_showers
from caloray.geometry import load_geometry
from caloray.showers import Showers

GEOMETRY = load_geometry("ds1_photons")


def test_the_choice_is_fair_and_follows_the_ids() -> None:
    ids = np.arange(5000)
    chosen = ids[smallest(ids, 500, seed=1)]
    assert len(chosen) == 500
    assert abs(chosen.mean() - 2500) < 4 * 5000 / np.sqrt(12 * 500), "not the first ones of a sorted file"
    order = np.random.default_rng(0).permutation(5000)
    assert set(ids[order][smallest(ids[order], 500, seed=1)]) == set(chosen)
    assert set(ids[smallest(ids, 500, seed=2)]) != set(chosen)


def test_taken_showers_are_those_asked_for(source: Callable[..., Any]) -> None:
    draws = np.random.default_rng(1)
    ids, voxels = draws.permutation(300), draws.gamma(1.0, 1.0, (300, GEOMETRY.n_voxels))
    every = Showers(np.arange(300) + 1e3, voxels, ids)
    wanted = draws.permutation(300)[:40]
    found = take_showers(source(every, GEOMETRY, rows=7), wanted)
    np.testing.assert_array_equal(found.ids, np.sort(wanted))
    rows = np.argsort(ids)[found.ids]
    np.testing.assert_array_equal(found.voxels, every.voxels[rows])
    np.testing.assert_array_equal(found.incident_energies, every.incident_energies[rows])
