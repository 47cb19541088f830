"""Placements against double loops over sub-cells, against geometry by hand, and there and back again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloray.errors import DataError, GeometryError
from caloray.geometry import Geometry, load_geometry
from caloray.placement import Placement, PlaceSettings, Withdrawal, regular_cells
from caloray.placement.cells import ListedCells, RegularCells
from caloray.showers import Showers

WIDTH = 4.5


def placed(geometry, showers, cells=None, **values):
    settings_of = PlaceSettings.of(
        **{"granularity": 3, "threshold": 0.0, "box": None, "points": False} | values
    )
    placement = Placement(geometry, settings_of, cells or regular_cells(geometry, settings_of.granularity))
    hits, losses = placement.place(showers)
    return placement, hits, losses


def track(showers, row, depth, thickness=0.525):
    """Where the line of flight is at the middle of a layer, from the angles."""
    x, y, z = (showers.conditions[f"direction_{axis}"][row] for axis in "xyz")
    theta, phi = np.arccos(z), np.arctan2(y, x)
    reach = (depth + thickness / 2) * np.tan(theta)
    return np.array([reach * np.cos(phi), reach * np.sin(phi)])


def compare(found: dict, expected: dict):
    assert set(found) == {key for key, energy in expected.items() if np.float32(energy) > 0}
    for key, energy in found.items():
        assert energy == pytest.approx(expected[key], rel=1e-6)


@pytest.mark.parametrize("at", [(0.0, 0.0), (1.5, -3.0), (0.37, 2.9), (-7.77, 100.1)])
@pytest.mark.parametrize("shear", [False, True])
def test_cells_are_those_of_a_double_loop(grids, slow, at, shear):
    make_grid, make_showers = grids
    geometry = make_grid(9)
    showers = make_showers(geometry, 2)
    _, hits, losses = placed(geometry, showers, at=at, shear=shear)
    for row in range(len(showers)):
        shifts = [np.array(at) + (track(showers, row, la.depth) if shear else 0) for la in geometry.layers]
        compare(slow[1](hits, row), slow[0](geometry, showers.voxels[row], shifts, WIDTH))
    assert losses.kept == pytest.approx(showers.voxels.astype(float).sum(), rel=1e-9)
    assert losses.outside == losses.uncovered == losses.cut == 0


def test_plain_pooling_is_exact_in_float64(grids):
    make_grid, make_showers = grids
    geometry = make_grid(12)
    showers = make_showers(geometry, 3)
    placement, hits, _ = placed(geometry, showers, box=4)
    pooled = showers.voxels.astype(np.float64).reshape(3, 3, 4, 3, 4, 3).sum(axis=(3, 5))
    assert placement.readout is not None
    np.testing.assert_array_equal(hits.dense(placement.readout).voxels, pooled.reshape(3, -1).astype("f4"))
    assert hits.conditions.keys() == showers.conditions.keys()


def test_ild_sub_cells_become_the_shipped_cells():
    fine = load_geometry("ild_30x90x90")
    placement = Placement(fine, PlaceSettings.of(granularity=3), regular_cells(fine, 3))
    assert placement.readout == load_geometry("ild_30x30x30")


def test_shear_is_that_of_the_layer_middles(grids):
    """One sub-cell on the axis of each layer ends up where the track is, computed with tangents."""
    make_grid, _ = grids
    geometry = make_grid(9)
    voxels = np.zeros((1, 3, 9, 9), "f4")
    voxels[:, :, 4, 4] = 1.0
    theta, phi = np.deg2rad(50.0), 0.7
    names = ("direction_x", "direction_y", "direction_z")
    flight = (np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta))
    showers = Showers(
        np.array([1e4]), voxels.reshape(1, -1), np.array([0]),
        {name: np.array([value]) for name, value in zip(names, flight, strict=True)},
    )  # fmt: skip
    _, hits, _ = placed(geometry, showers, granularity=1, shear=True, points=True)
    for layer, depth in enumerate((6.6, 9.8, 19.1)):
        (hit,) = np.flatnonzero(hits.layers == layer)
        place = np.array([hits.x[hit], hits.y[hit]]) * 1.5
        expected = (depth + 0.2625) * np.tan(theta) * np.array([np.cos(phi), np.sin(phi)])
        assert np.all(np.abs(place + 0.75 - expected) <= 1.5)


@settings(max_examples=40)
@given(
    x=st.floats(-50, 50),
    y=st.floats(-50, 50),
    box=st.integers(1, 8),
    threshold=st.floats(0, 2),
    around=st.sampled_from(["entry", "track"]),
    points=st.booleans(),
    granularity=st.integers(1, 4),
)
def test_no_energy_is_lost_in_silence(grids, x, y, box, threshold, around, points, granularity):
    make_grid, make_showers = grids
    geometry = make_grid(8)
    showers = make_showers(geometry, 3)
    _, hits, losses = placed(
        geometry, showers, at=(x, y), box=box, threshold=threshold, around=around, points=points,
        granularity=granularity, shear=True,
    )  # fmt: skip
    deposited = showers.voxels.astype(float).sum()
    assert losses.deposited == pytest.approx(deposited, rel=1e-12)
    assert losses.kept + losses.outside + losses.uncovered + losses.cut == pytest.approx(deposited, rel=1e-6)
    assert losses.kept == pytest.approx(hits.energies.astype(float).sum(), rel=1e-6, abs=1e-9)
    assert losses.uncovered == 0
    assert not len(hits.energies) or hits.energies.min() >= np.float32(threshold)
    inside = (hits.x >= 0) & (hits.x < box) & (hits.y >= 0) & (hits.y < box)
    assert inside.all()
    assert losses.cells == len(hits.energies)


def test_box_keeps_what_the_double_loop_finds_inside(grids, slow):
    make_grid, make_showers = grids
    geometry = make_grid(9)
    showers = make_showers(geometry, 2)
    at, box = (2.0, -1.0), 2
    _, hits, losses = placed(geometry, showers, at=at, box=box, shear=True)
    kept = 0.0
    for row in range(2):
        shifts = [np.array(at) + track(showers, row, la.depth) for la in geometry.layers]
        everything = slow[0](geometry, showers.voxels[row], shifts, WIDTH)
        # the edge nearest to 2.0 is 0, that nearest to -1.0 is 0: cells -1 and 0 on both axes
        inside = {key: e for key, e in everything.items() if key[1] in (-1, 0) and key[2] in (-1, 0)}
        compare(slow[1](hits, row), inside)
        kept += sum(inside.values())
    assert losses.outside == pytest.approx(showers.voxels.astype(float).sum() - kept, rel=1e-9)
    assert losses.leaking == 2


@pytest.mark.parametrize(
    ("at", "box", "corner"),
    [
        ((0.0, 0.0), 2, (-1, -1)),
        ((2.25, 2.25), 2, (-1, -1)),
        ((2.3, -2.3), 2, (0, -2)),
        ((4.5, 0), 2, (0, -1)),
        ((0.1, 4.4), 3, (-1, -1)),
        ((4.6, -0.1), 3, (0, -2)),
        ((1, 1), 1, (0, 0)),
    ],
)
def test_middle_of_the_box(grids, at, box, corner):
    make_grid, make_showers = grids
    geometry = make_grid(9)
    _, hits, _ = placed(geometry, make_showers(geometry, 1), at=at, box=box)
    assert {tuple(one) for one in hits.corners.reshape(-1, 2).tolist()} == {corner}


def test_box_around_the_track_follows_it(grids):
    make_grid, make_showers = grids
    geometry = make_grid(9, depths=(0.0, 100.0))
    showers = make_showers(geometry, 1)
    _, hits, _ = placed(geometry, showers, box=4, shear=True, around="track")
    moved = (track(showers, 0, 100.0) / WIDTH).round()
    np.testing.assert_array_equal(hits.corners[0, 1] + 2, moved)


def test_offsets_of_layers(grids, slow):
    make_grid, make_showers = grids
    geometry = make_grid(9)
    showers = make_showers(geometry, 2)
    offsets = np.array([[0.0, 1.1], [2.2, 0.0], [-0.4, 3.3]])
    _, hits, _ = placed(geometry, showers, RegularCells(offsets, WIDTH), at=(1.0, 1.0))
    for row in range(2):
        expected = slow[0](geometry, showers.voxels[row], [(1.0, 1.0)] * 3, WIDTH, offsets)
        compare(slow[1](hits, row), expected)


def test_listed_cells_with_a_gap(grids):
    """Four cells and a gap of 2 mm between -1 and 1 mm along x, in closed form."""
    make_grid, _ = grids
    geometry = make_grid(8, 1.0, (1.0,))
    voxels = np.ones((1, 64), "f4")
    showers = Showers(np.array([1e3]), voxels, np.array([0]))
    x = np.array([[-4.0, -1.0], [1.0, 4.0]])
    y = np.array([[-4.0, 0.5], [0.5, 4.0]])
    placement, hits, losses = placed(geometry, showers, ListedCells(((x, y),)), box=2, granularity=3)
    assert placement.width == 3.0
    found = dict(zip(zip(hits.x.tolist(), hits.y.tolist(), strict=True), hits.energies.tolist(), strict=True))
    assert found == {(0, 0): 13.5, (0, 1): 10.5, (1, 0): 13.5, (1, 1): 10.5}
    assert losses.uncovered == pytest.approx(16.0)
    assert losses.outside == 0


def test_energy_beyond_the_last_cell_is_uncovered(grids):
    make_grid, make_showers = grids
    geometry = make_grid(8, 1.0, (1.0,))
    showers = make_showers(geometry)
    one = np.array([[-1.0, 1.0]])
    _, _, losses = placed(geometry, showers, ListedCells(((one, one),)))
    cube = showers.voxels.reshape(4, 8, 8).astype(float)
    assert losses.kept == pytest.approx(cube[:, 3:5, 3:5].sum())
    assert losses.uncovered == pytest.approx(cube.sum() - cube[:, 3:5, 3:5].sum())


def test_threshold_comes_after_the_sum(grids):
    make_grid, _ = grids
    geometry = make_grid(3, depths=(1.0,))
    voxels = np.full((1, 9), 0.02, "f4")  # each below, together above 0.1
    showers = Showers(np.array([1e3]), voxels, np.array([0]))
    _, hits, losses = placed(geometry, showers, at=(2.25, 2.25), threshold=0.1)
    assert hits.energies == pytest.approx([0.18])
    assert losses.cut == 0
    _, hits, losses = placed(geometry, showers, at=(2.25, 2.25), threshold=0.2)
    assert not len(hits.energies)
    assert losses.cut == pytest.approx(0.18)
    assert losses.cells_cut == 1


def test_a_point_lies_in_its_sub_cell(grids, slow):
    """Cells with energy are those that the sub-cell overlaps; the mean over seeds is the split by area."""
    make_grid, _ = grids
    geometry = make_grid(3, depths=(1.0,))
    voxels = np.zeros((1, 9), "f4")
    voxels[0, 4] = 1.0
    showers = Showers(np.array([1e3]), voxels, np.array([7]))
    at = (0.25, -0.5)
    expected = slow[0](geometry, voxels[0], [at], 1.5)
    counts = dict.fromkeys(expected, 0)
    for seed in range(200):
        _, hits, _ = placed(geometry, showers, at=at, points=True, granularity=1, seed=seed)
        (cell,) = slow[1](hits, 0)
        counts[cell] += 1
    for cell, share in expected.items():
        assert counts[cell] / 200 == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 200))


@pytest.mark.parametrize("values", [{"points": True}, {"impact": "uniform"}])
def test_draws_depend_on_seed_and_event_alone(grids, values):
    make_grid, make_showers = grids
    geometry = make_grid(9)
    showers = make_showers(geometry, 5)
    _, whole, _ = placed(geometry, showers, at=(0.4, 0.2), **values)
    _, part, _ = placed(geometry, showers.select(np.array([3, 1])), at=(0.4, 0.2), **values)
    for row, original in enumerate((3, 1)):
        np.testing.assert_array_equal(
            part.select(row, row + 1).energies, whole.select(original, original + 1).energies
        )
    _, other, _ = placed(geometry, showers, at=(0.4, 0.2), seed=1, **values)
    assert not np.array_equal(whole.energies, other.energies)


def test_drawn_entries_are_uniform_in_one_cell_and_recorded(grids):
    make_grid, _ = grids
    geometry = make_grid(3, depths=(1.0,))
    n = 1000
    showers = Showers(np.ones(n), np.ones((n, 9), "f4"), np.arange(n))
    _, hits, _ = placed(geometry, showers, impact="uniform")
    for name in ("impact_x", "impact_y"):
        entry = np.sort(hits.conditions[name]) / WIDTH
        assert np.abs(entry + 0.5 - (np.arange(n) + 0.5) / n).max() < 1.63 / np.sqrt(n)
    assert abs(np.corrcoef(hits.conditions["impact_x"], hits.conditions["impact_y"])[0, 1]) < 0.12
    again = Showers(np.ones(n), np.ones((n, 9), "f4"), np.arange(n), hits.conditions)
    _, same, _ = placed(geometry, again, impact="recorded")
    np.testing.assert_array_equal(hits.energies, same.energies)


# ---------------------------------------------------------------- the way back


@pytest.mark.parametrize("shear", [False, True])
@pytest.mark.parametrize("around", ["entry", "track"])
def test_there_and_back_at_whole_sub_cells_is_exact(grids, shear, around):
    make_grid, make_showers = grids
    geometry = make_grid(8, 1.0, (2.7375, 9.7375))  # middles at 3 and 10 mm
    showers = make_showers(geometry, 3)
    n = len(showers)
    slope = np.array([[1.0, -2.0], [3.0, 0.0], [0.0, 0.0]])  # whole mm at both layers
    flight = np.concatenate([slope, np.ones((n, 1))], axis=1)
    flight /= np.linalg.norm(flight, axis=1, keepdims=True)
    names = ("direction_x", "direction_y", "direction_z")
    conditions = {name: flight[:, axis] for axis, name in enumerate(names)}
    showers = Showers(showers.incident_energies, showers.voxels, showers.ids, conditions)
    placement, hits, losses = placed(
        geometry, showers, granularity=1, at=(5.0, -3.0), shear=shear, around=around, box=80
    )
    assert losses.outside == 0
    back, lost = Withdrawal(placement, geometry).take_back(hits)
    np.testing.assert_array_equal(back.dense(geometry).voxels, showers.voxels)
    assert back.conditions.keys() == conditions.keys()
    assert lost.kept == pytest.approx(losses.kept, rel=1e-12)


def test_dense_showers_go_back_like_hits(grids):
    make_grid, make_showers = grids
    geometry = make_grid(9)
    showers = make_showers(geometry, 3)
    placement, hits, _ = placed(geometry, showers, box=12, impact="uniform", shear=True)
    withdrawal = Withdrawal(
        Placement(geometry, placement.settings.model_copy(update={"impact": "recorded"}), placement.cells),
        geometry,
    )
    found = withdrawal.from_box(hits.dense(placement.readout))
    for name in ("starts", "layers", "x", "y", "energies", "corners"):
        np.testing.assert_array_equal(getattr(found, name), getattr(hits, name))
    one, other = withdrawal.take_back(hits)[0], withdrawal.take_back(found)[0]
    np.testing.assert_array_equal(one.energies, other.energies)


def test_what_was_summed_comes_back_spread_over_its_cell(grids):
    make_grid, _ = grids
    geometry = make_grid(6, depths=(1.0,))
    voxels = np.zeros((1, 6, 6), "f4")
    voxels[0, 4, 2] = 9.0
    showers = Showers(np.ones(1), voxels.reshape(1, -1), np.zeros(1))
    placement, hits, _ = placed(geometry, showers, box=2)
    back = (
        Withdrawal(placement, geometry, points=False).take_back(hits)[0].dense(geometry).voxels.reshape(6, 6)
    )
    expected = np.zeros((6, 6))
    expected[3:, :3] = 1.0
    np.testing.assert_allclose(back, expected, rtol=1e-6)


def test_fractional_shift_smears_by_less_than_two_cells_and_keeps_the_energy(grids):
    make_grid, make_showers = grids
    geometry = make_grid(10)
    showers = make_showers(geometry, 2, middle=0.5)
    placement, hits, _ = placed(geometry, showers, granularity=1, at=(0.4, 0.9), box=20)
    back = Withdrawal(placement, geometry, points=False).take_back(hits)[0].dense(geometry).voxels
    np.testing.assert_allclose(back.sum(axis=1), showers.voxels.sum(axis=1), rtol=1e-6)
    lit = showers.voxels.reshape(2, 3, 10, 10) > 0
    reach = np.zeros((2, 3, 12, 12), dtype=bool)
    for dx in range(3):
        for dy in range(3):
            reach[:, :, dx : dx + 10, dy : dy + 10] |= lit
    assert not (back.reshape(lit.shape) > 0)[~reach[:, :, 1:-1, 1:-1]].any()


# ---------------------------------------------------------------- what cannot be placed


def _without_directions(showers):
    return Showers(showers.incident_energies, showers.voxels, showers.ids)


def test_refusals(grids):
    make_grid, make_showers = grids
    geometry = make_grid(6)
    showers = make_showers(geometry)
    with pytest.raises(DataError, match="no directions of flight"):
        placed(geometry, _without_directions(showers), shear=True)
    with pytest.raises(DataError, match="no entries recorded"):
        placed(geometry, showers, impact="recorded")
    with pytest.raises(GeometryError, match="without a depth"):
        placed(make_grid(6, depths=(None, 1.0, 2.0)), showers, shear=True)
    with pytest.raises(GeometryError, match="cylindrical"):
        Placement(load_geometry("ds2"), PlaceSettings(), RegularCells(np.zeros((45, 2)), 1.0))
    with pytest.raises(GeometryError, match="cells for 2 layers"):
        placed(geometry, showers, RegularCells(np.zeros((2, 2)), 1.0))
    with pytest.raises(GeometryError, match="2 layers, the showers have 3"):
        Withdrawal(placed(geometry, showers)[0], make_grid(6, depths=(1.0, 2.0)))
    uneven = geometry.to_dict()
    uneven["layers"][0]["first"][0] -= 1.0
    with pytest.raises(GeometryError, match="square cells of one size"):
        placed(Geometry.from_dict(uneven), showers, RegularCells(np.zeros((3, 2)), 1.0))


@pytest.mark.parametrize(
    ("direction", "words"),
    [
        ((1.0, 0.0, 0.0), "90.0 degrees"),
        ((0.0, 0.6, -0.8), "143.1 degrees"),
        ((0.0, 0.0, 2.0), "not a unit vector"),
        ((float("nan"), 0.0, 1.0), "not a unit vector"),
    ],
)
def test_impossible_directions(grids, direction, words):
    make_grid, make_showers = grids
    geometry = make_grid(6)
    good = make_showers(geometry, 3)
    conditions = {name: values.copy() for name, values in good.conditions.items()}
    for axis, value in zip("xyz", direction, strict=True):
        conditions[f"direction_{axis}"][1] = value
    showers = Showers(good.incident_energies, good.voxels, good.ids, conditions)
    with pytest.raises(DataError, match=words) as caught:
        placed(geometry, showers, shear=True)
    assert "event 11" in caught.value.message


def test_not_a_number(grids):
    make_grid, make_showers = grids
    geometry = make_grid(6)
    showers = make_showers(geometry)
    showers.voxels[2, 5] = np.nan
    with pytest.raises(DataError, match="event 12"):
        placed(geometry, showers)
