"""Rows of quantities: order, cap, merging, and the official features made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from caloray.evaluation.features import feature_names, feature_vector
from caloray.evaluation.halves import scramble
from caloray.evaluation.quantities import Seen, columns_of
from caloray.evaluation.table import Table
from caloray.geometry import load_geometry
from caloray.observables import observe
from caloray.showers import Showers


def seen(name: str, n: int, seed: int = 0) -> tuple[Seen, Showers]:
    geometry, rng = load_geometry(name), np.random.default_rng(seed)
    voxels = rng.exponential(20, (n, geometry.n_voxels)) * (rng.random((n, geometry.n_voxels)) < 0.2)
    showers = Showers(rng.uniform(1e3, 1e4, n), voxels, rng.permutation(10 * n)[:n])
    return Seen.of(showers, geometry, 1.0), showers


def filled(one: Seen, pieces: list[np.ndarray], **settings: Any) -> Table:
    table = Table(one.geometry, **settings)
    for rows in pieces:
        table.add(one.ids[rows], one.rows[rows])
    return table


def same(first: Table, second: Table) -> None:
    assert first.n == second.n
    np.testing.assert_array_equal(first.ids, second.ids)
    assert first.rows.tobytes() == second.rows.tobytes()


@pytest.mark.parametrize("most", [1000, 40, 7])
def test_order_pieces_and_merging_change_nothing(most: int) -> None:
    one, _ = seen("ds1_photons", 150)
    whole = filled(one, [np.arange(150)], seed=2, most=most)
    order = np.random.default_rng(1).permutation(150)
    pieces = np.array_split(order, [3, 20, 77])
    same(whole, filled(one, pieces, seed=2, most=most))
    first, second = filled(one, pieces[:2], seed=2, most=most), filled(one, pieces[2:], seed=2, most=most)
    assert len(first.ids) == len(first)  # settled in between
    second.merge(first)
    same(whole, second)
    assert len(whole) == min(150, most)
    assert whole.complete == (most >= 150)
    assert np.all(np.diff(whole.ids) > 0)
    smallest = np.argsort(scramble(one.ids, 2, "rows"))[:most]
    np.testing.assert_array_equal(whole.ids, np.sort(one.ids[smallest]))


def test_showers_that_share_an_id() -> None:
    one, _ = seen("ds1_photons", 50)
    twins = np.repeat(np.arange(25), 2)

    def table(order: np.ndarray) -> Table:
        made = Table(one.geometry, most=30)
        made.add(twins[order], one.rows[order])
        return made

    same(table(np.arange(50)), table(np.random.default_rng(0).permutation(50)))


@pytest.mark.parametrize("name", ["ds1_pions", "ds2", "ild_30x30x30"])
def test_features_and_columns(name: str) -> None:
    one, showers = seen(name, 12)
    geometry, table = one.geometry, filled(one, [np.arange(12)])
    order = np.argsort(showers.ids)
    observables = observe(showers.voxels[order], geometry, 1.0)
    energies = showers.incident_energies[order]
    found = table.features()
    assert found.shape == (12, len(feature_names(geometry)))
    np.testing.assert_array_equal(found, feature_vector(observables, energies, geometry))
    np.testing.assert_array_equal(table.energies, energies)
    np.testing.assert_array_equal(table.column("r90"), observables.r90)
    np.testing.assert_array_equal(table.column("e_ratio"), observables.total / energies)
    np.testing.assert_array_equal(table.layered("layer_hits"), observables.hits)
    assert table.rows.shape == (12, len(columns_of(geometry).names))
    assert np.isfinite(table.rows).all()


def test_some_columns_only() -> None:
    one, _ = seen("ds1_photons", 20)
    table = filled(one, [np.arange(20)], columns=["r50", "width_r/02"])
    assert table.names == ("incident_energy", "total_energy", "r50", "width_r/02")
    whole = filled(one, [np.arange(20)])
    np.testing.assert_array_equal(table.column("width_r/02"), whole.column("width_r/02"))


def test_no_showers() -> None:
    table = Table(load_geometry("ds2"))
    assert len(table) == 0
    assert table.features().shape == (0, 362)
