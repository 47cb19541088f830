"""Profiles against the angle of incidence and other scalars: numbers, floors, and defects in their place."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from caloray.evaluation.bins import adjusted, bin_means, equal_bins, places_in
from caloray.evaluation.doubts import doubts
from caloray.evaluation.halves import NO_HALVES
from caloray.evaluation.passes import PassSettings, reduce_reference
from caloray.evaluation.profiles import compare_profiles, same_particles
from caloray.evaluation.run import evaluate
from caloray.evaluation.scalars import covariates, scalars
from caloray.evaluation.settings import QUICK
from caloray.evaluation.shower_shapes import shower_shapes
from caloray.evaluation.table import Table
from caloray.geometry import Geometry, load_geometry
from caloray.showers import Showers

CELL, CELLS, LAYERS = 4.0, 12, 3
HITS = 60
WIDEST = 40.0  # degrees

_EDGES = [CELL * (i - CELLS / 2) for i in range(CELLS + 1)]
GEOMETRY = Geometry.from_dict(
    {
        "name": "small",
        "kind": "cartesian",
        "particle": "photon",
        "layers": [{"id": i, "first": _EDGES, "second": _EDGES, "depth": 10.0 * i} for i in range(LAYERS)],
    }
)


def particles(rng: np.random.Generator, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Energies (n,) [MeV] and directions up to 40 degrees."""
    theta, phi = np.radians(rng.uniform(0, WIDEST, n)), rng.uniform(-np.pi, np.pi, n)
    x, y = np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi)
    conditions = {"direction_x": x, "direction_y": y, "direction_z": np.cos(theta)}
    return rng.uniform(1e3, 1e4, n), conditions


def showers(
    n: int,
    seed: int,
    *,
    wider: float = 0.0,
    weaker: float = 0.0,
    further: float = 0.0,
    same: int | None = None,
) -> Showers:
    """Showers that grow longer and stronger with the angle.

    Args:
        n: How many.
        seed: Of everything.
        wider: Relative growth of both widths above 30 degrees.
        weaker: Relative loss of energy at 40 degrees, growing with the square of the angle.
        further: Shift along the direction [mm] above 30 degrees.
        same: Seed of the particles, where it shall be another one.
    """
    rng = np.random.default_rng(seed)
    energies, conditions = particles(np.random.default_rng(1000 + (seed if same is None else same)), n)
    x, y, z = conditions.values()
    theta, phi = np.degrees(np.arccos(z)), np.arctan2(y, x)
    steep = theta > 30
    scale = (1 + wider * steep)[:, None]
    along = 5.0 / z[:, None] * scale * rng.normal(size=(n, HITS)) + (further * steep)[:, None]
    across = 5.0 * scale * rng.normal(size=(n, HITS))
    place = [
        np.clip(np.floor(one / CELL + CELLS / 2), 0, CELLS - 1).astype(int)
        for one in (
            np.cos(phi)[:, None] * along - np.sin(phi)[:, None] * across,
            np.sin(phi)[:, None] * along + np.cos(phi)[:, None] * across,
        )
    ]
    layer = rng.choice(LAYERS, (n, HITS), p=[0.2, 0.5, 0.3])
    response = (1 + 0.2 * (theta / WIDEST)) * (1 - weaker * (theta / WIDEST) ** 2)
    deposit = (0.03 * energies * response / HITS)[:, None] * rng.gamma(4.0, 0.25, (n, HITS))
    voxels = np.zeros((n, GEOMETRY.n_voxels))
    flat = (layer * CELLS + place[0]) * CELLS + place[1]
    np.add.at(voxels, (np.arange(n)[:, None], flat), deposit)
    return Showers(energies, voxels, np.arange(n) + 10_000 * seed, conditions)


SHAPES = (
    "e_ratio",
    "centre_x",
    "centre_y",
    "centre_along",
    "centre_across",
    "width_along",
    "width_across",
    "depth_mean",
    "hits",
)
Tables = Callable[[Showers], Table]


@pytest.fixture
def table(source: Callable[..., Any]) -> Tables:
    def make(sample: Showers) -> Table:
        return reduce_reference(source(sample, GEOMETRY), PassSettings(0.0, halves=NO_HALVES, threads=1))[2]

    return make


def judged(first: Table, second: Table, halvings: int = 20) -> dict[str, Any]:
    _, metrics, missing = compare_profiles(first, second, {}, 3, halvings)
    assert missing == []
    return {metric.name.removeprefix("profile/theta/"): metric for metric in metrics}


def test_shapes_are_those_of_the_voxels(table: Tables) -> None:
    sample = showers(40, 1)
    found = {shape.name: shape.values for shape in shower_shapes(table(sample))}
    assert tuple(found) == SHAPES
    middles = CELL * (np.arange(CELLS) - CELLS / 2 + 0.5)
    x, y = (grid.reshape(-1) for grid in np.meshgrid(middles, middles, indexing="ij"))
    phi = np.arctan2(sample.conditions["direction_y"], sample.conditions["direction_x"])
    for i in range(40):
        energy = sample.voxels[i].astype(float).reshape(LAYERS, -1)
        along, across = x * np.cos(phi[i]) + y * np.sin(phi[i]), y * np.cos(phi[i]) - x * np.sin(phi[i])
        for name, place in (("along", along), ("across", across)):
            centre = (energy @ place).sum() / energy.sum()
            variances = [np.cov(place, aweights=layer, ddof=0) for layer in energy]
            width = np.average(variances, weights=energy.sum(axis=1)) ** 0.5
            assert found[f"centre_{name}"][i] == pytest.approx(centre, abs=1e-6)
            assert found[f"width_{name}"][i] == pytest.approx(width, rel=1e-6)
        assert found["centre_x"][i] == pytest.approx((energy @ x).sum() / energy.sum(), abs=1e-6)


def test_axes_turn_with_a_cylinder(source: Callable[..., Any]) -> None:
    geometry, rng = load_geometry("ds2"), np.random.default_rng(0)
    voxels = rng.exponential(1.0, (8, geometry.n_voxels)) * (rng.random((8, geometry.n_voxels)) < 0.01)
    energies, directions = particles(rng, 8)
    made = reduce_reference(
        source(Showers(energies, voxels, np.arange(8), directions), geometry), PassSettings(0.0)
    )[2]
    found = {shape.name: shape.values for shape in shower_shapes(made)}
    alpha, radius = (np.concatenate(axis) for axis in zip(*map(geometry.centres, range(45)), strict=True))
    phi = np.arctan2(directions["direction_y"], directions["direction_x"])
    for i in range(8):
        along = radius * np.cos(alpha - phi[i])
        energy = voxels[i].astype(np.float32).astype(float)
        total, variance = energy.sum(), 0.0
        for layer in range(45):
            span = geometry.span(layer)
            if energy[span].sum() > 0:
                variance += energy[span].sum() * np.cov(along[span], aweights=energy[span], ddof=0)
        assert found["centre_along"][i] == pytest.approx(energy @ along / total, abs=1e-6)
        assert found["width_along"][i] == pytest.approx((variance / total) ** 0.5, rel=1e-6)


def test_bins_hold_equally_many() -> None:
    values = np.random.default_rng(0).uniform(0, 50, 1000)
    edges = equal_bins(values)
    assert edges is not None
    assert np.bincount(places_in(values, edges)).tolist() == [100] * 10
    assert places_in(np.array([-1.0, edges[0], edges[-1], 51.0]), edges).tolist() == [-1, 0, 9, -1]
    charges = equal_bins(np.repeat([-1.0, 1.0, 2.0], 100))
    assert charges is not None
    assert charges.tolist() == [-2.0, 0.0, 1.5, 2.5]
    assert equal_bins(np.full(1000, 0.3)) is None
    assert equal_bins(values[:199]) is None
    many_zeros = equal_bins(np.where(np.arange(1000) < 450, 0.0, values))
    assert many_zeros is not None
    assert np.all(np.diff(many_zeros) > 0)


def test_what_follows_the_energy_drops_out() -> None:
    rng = np.random.default_rng(1)
    sides = []
    for n in (600, 500):
        factors = np.stack([rng.uniform(1, 9, n), np.full(n, 2.0)], axis=1)
        noise = 0.01 * rng.normal(size=n)
        sides.append((3.0 * factors[:, :1] + noise[:, None], factors, np.repeat([0, 1], n // 2)))
    first, second = adjusted(sides[0], sides[0]), adjusted(sides[0], sides[1])
    means = [bin_means(v, v[:, 0], side[2], 2) for v, side in zip((first, second), sides, strict=True)]
    raw = [sides[0][0][sides[0][2] == place].mean() for place in (0, 1)]
    assert means[0].values[0] == pytest.approx(raw, rel=1e-12)
    assert means[1].values[0] == pytest.approx(raw, abs=0.005)
    assert np.all(means[0].errors[0] < 0.001)


def test_errors_are_those_of_repeated_samples() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(300):
        values = rng.gamma(4.0, 1.0, 200)
        one = bin_means(values[:, None], values, np.zeros(200, dtype=int), 1)
        found.append([*one.values[:, 0], *one.errors[:, 0]])
    means = np.array(found)
    np.testing.assert_allclose(means[:, :2].std(axis=0), means[:, 2:].mean(axis=0), rtol=0.12)


def test_equal_samples_lie_at_the_floor(table: Tables) -> None:
    reference = table(showers(1000, 1))
    values = []
    for seed in range(2, 8):
        found = judged(reference, table(showers(800, seed)))
        assert len(found) == len(SHAPES) + 1
        values += [metric.value for metric in found.values()]
        pulls = [metric.significance for metric in found.values()]
        assert max(map(abs, pulls)) < 6
        assert np.mean(pulls) < 1.5
    assert np.mean(values) == pytest.approx(1.0, abs=0.2)
    assert all(metric.floor == pytest.approx(1.0, abs=0.3) for metric in found.values())


@pytest.mark.parametrize(
    ("defect", "seen", "above"),
    [
        ({"wider": 0.1}, {"width_along", "width_across"}, 30),
        ({"further": 0.8}, {"centre_along"}, 30),
        ({"weaker": 0.1}, {"e_ratio"}, 20),
    ],
)
def test_defects_show_where_they_are(
    table: Tables, defect: dict[str, Any], seen: set[str], above: float
) -> None:
    first, second = table(showers(1000, 1)), table(showers(1000, 2, **defect))
    records, metrics, _ = compare_profiles(first, second, {}, 3, 20)
    found = {metric.name.removeprefix("profile/theta/"): metric for metric in metrics}
    beyond = {name: metric.significance for name, metric in found.items() if metric.significance is not None}
    assert {name for name, spreads in beyond.items() if spreads > 5} - {"hits"} == seen
    edges = np.array(records[0]["edges"])
    for quantity in records[0]["quantities"]:
        if quantity["name"] in seen:
            pulls = np.array(quantity["pulls"])
            assert np.abs(pulls[edges[:-1] >= above]).max() > 4
            assert np.all(np.abs(pulls[edges[1:] <= above]) < 3.5)
            assert f"{np.abs(pulls).max():.1f} errors" in found[quantity["name"]].note


def test_the_same_particles(table: Tables) -> None:
    first, second = table(showers(1000, 1)), table(showers(1000, 2, same=1))
    assert same_particles(first, second)
    assert not same_particles(first, table(showers(1000, 2)))
    found = judged(first, second)
    assert all(abs(metric.significance) < 4 for metric in found.values())


def test_other_scalars_and_discrete_ones(table: Tables) -> None:
    rng, tables = np.random.default_rng(0), []
    for seed in (1, 2):
        charge, tilt = rng.choice([-1.0, 1.0], 600), rng.uniform(0, 1, 600)
        tables.append(table(replace(showers(600, seed), conditions={"charge": charge, "tilt": tilt})))
    records, metrics, _ = compare_profiles(tables[0], tables[1], {"tilt": "mm"}, 0, 5)
    assert [(one["condition"], one["unit"], len(one["edges"])) for one in records] == [
        ("charge", "", 3),
        ("tilt", "mm", 7),
    ]
    names = {metric.name for metric in metrics}
    assert {"profile/charge/width_x", "profile/tilt/e_ratio_width", "profile/tilt/hits"} <= names
    assert sum(records[0]["showers"]["reference"]) == 600
    assert covariates(tables[0]).shape == (600, 4)


def test_constants_and_small_samples(table: Tables) -> None:
    upright = {"direction_x": np.zeros(300), "direction_y": np.zeros(300), "direction_z": np.ones(300)}
    tables = [table(replace(showers(300, seed), conditions=upright)) for seed in (1, 2)]
    assert compare_profiles(tables[0], tables[1], {}, 0, 5) == ([], [], [])
    assert scalars(tables[0], {})[0].values.tolist() == [0.0] * 300
    few = table(showers(150, 1))
    records, metrics, missing = compare_profiles(few, table(showers(300, 2)), {}, 0, 5)
    assert (records, metrics) == ([], [])
    assert "profiles against theta left out: 150 reference showers, 200 are needed" in missing[0]


def test_a_gap_in_the_generated_showers(table: Tables) -> None:
    sample = showers(1000, 2)
    kept = sample.select(np.degrees(np.arccos(sample.conditions["direction_z"])) < 25)
    records, metrics, _ = compare_profiles(table(showers(1000, 1)), table(kept), {}, 0, 5)
    response = records[0]["quantities"][0]
    assert response["generated"]["mean"][-1] is None
    assert response["pulls"][-1] is None
    assert response["ndf"] < 8
    assert len(metrics) == 10
    json.dumps(records, allow_nan=False)


def test_doubts_about_directions(table: Tables) -> None:
    first, other = table(showers(400, 1)), showers(400, 2)
    assert doubts(first, table(other)) == []
    bare = table(Showers(other.incident_energies, other.voxels, other.ids))
    (line,) = doubts(first, bare)
    assert line.startswith("generated: no direction_x, direction_y, direction_z known")
    assert doubts(bare, first)[0].startswith("reference: no direction_x")
    steep = other.select(other.conditions["direction_z"] < 0.95)
    assert any(line.startswith("theta is spread differently") for line in doubts(first, table(steep)))
    right = other.select(other.conditions["direction_x"] > 0)
    assert any(line.startswith("azimuth of the direction is") for line in doubts(first, table(right)))


def test_records_do_not_depend_on_order_and_chunks(source: Callable[..., Any]) -> None:
    found = []
    for rows, threads in ((1000, 1), (37, 3)):
        samples = []
        for seed in (1, 2):
            sample = showers(300, seed)
            order = np.arange(300) if rows == 1000 else np.random.default_rng(seed).permutation(300)
            samples.append(source(sample.select(order), GEOMETRY, rows=rows))
        record = evaluate(*samples, metrics=QUICK, n_halvings=4, threads=threads).data
        assert record["profiles"][0]["condition"] == "theta"
        found.append(json.dumps([record["profiles"], record["metrics"], record["warnings"]]))
    assert found[0] == found[1]
    assert "profile/theta/width_along" in found[0]


def test_without_conditions_nothing_changes(halves: Any) -> None:
    assert "profiles" not in evaluate(*halves, metrics=QUICK, n_halvings=2).data
