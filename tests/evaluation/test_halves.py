"""Halves follow the ids alone; matched ones have the same energies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from caloray.evaluation.halves import Halves
from caloray.evaluation.run import evaluate
from caloray.evaluation.settings import QUICK
from caloray.geometry import load_geometry
from caloray.showers import Showers

GEOMETRY = load_geometry("ds1_photons")


def test_halvings_follow_the_id_alone() -> None:
    ids = np.random.default_rng(0).integers(0, 2**63 - 1, 4000)
    halves = Halves(7, 20)
    bits = halves.of(ids)
    order = np.random.default_rng(1).permutation(len(ids))
    np.testing.assert_array_equal(halves.of(ids[order]), bits[order])
    assert not np.array_equal(Halves(8, 20).of(ids), bits)
    for rows in (bits, halves.of(np.arange(4000))):
        assert np.all(np.abs(rows.mean(axis=0) - 0.5) < 0.04)
        together = np.corrcoef(rows.T.astype(float)) - np.eye(20)
        assert np.abs(together).max() < 0.08


@pytest.mark.parametrize("discrete", [False, True])
def test_matched_halves_have_the_same_energies(discrete: bool) -> None:
    draws = np.random.default_rng(2)
    ids = draws.permutation(10**6)[:2001]
    energies = draws.choice([1e3, 2e3, 4e3], 2001) if discrete else draws.uniform(1e3, 1e6, 2001)
    halves = Halves.matched(ids, energies, 7, 20)
    bits = halves.of(ids)
    order = draws.permutation(2001)
    np.testing.assert_array_equal(halves.of(ids[order]), bits[order])
    for half in bits.T:
        one, two = np.sort(energies[half]), np.sort(energies[~half])
        assert abs(len(one) - len(two)) <= 1
        n = min(len(one), len(two))
        assert np.abs(np.log(one[:n] / two[:n])).mean() < 0.01
    together = np.corrcoef(bits.T.astype(float)) - np.eye(20)
    assert np.abs(together).max() < 0.12


@pytest.fixture
def make(source: Callable[..., Any]) -> Callable[..., Any]:
    """Showers whose layer energies follow a widely spread incident energy."""

    def showers(energies: np.ndarray, seed: int) -> Any:
        draws = np.random.default_rng(seed)
        voxels = draws.gamma(2.0, 1.0, (len(energies), GEOMETRY.n_voxels))
        voxels *= (0.9 * energies / voxels.sum(axis=1))[:, None]
        return source(Showers(energies, voxels, np.arange(len(energies))), GEOMETRY)

    return showers


def row_of(record: dict[str, Any], observable: str) -> dict[str, Any]:
    return next(row for row in record["separations"] if row["observable"] == observable)


def test_the_floor_is_that_of_samples_with_the_same_energies(make: Callable[..., Any]) -> None:
    """With halves of independent energies the floor would be too high, and defects would hide below it."""
    draws = np.random.default_rng(3)
    energies, others = (np.exp(draws.uniform(np.log(300), np.log(1e5), 1200)) for _ in range(2))
    reference = make(energies, 1)
    same = [evaluate(reference, make(energies, seed), metrics=QUICK).data for seed in (2, 3, 4)]
    other = evaluate(reference, make(others, 2), metrics=QUICK).data
    assert same[0]["matched_halves"]
    assert not other["matched_halves"]
    assert row_of(same[0], "incident_energy")["floor"] < 0.2 * row_of(other, "incident_energy")["floor"]
    assert row_of(same[0], "layer_energy")["floor"] < 0.8 * row_of(other, "layer_energy")["floor"]
    assert abs(np.mean([row_of(one, "layer_energy")["significance"] for one in same])) < 2
