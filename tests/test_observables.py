"""Observables against plain loops, the official code's values, and themselves in other chunks."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.errors import DataError
from caloray.geometry import Geometry, Layer, load_geometry
from caloray.observables import (
    Observables,
    angular_layers,
    apply_threshold,
    axis_names,
    depth_unit,
    find_bins,
    layer_depths,
    layer_energies,
    layer_hits,
    lit_spectrum,
    observe,
    radial_edges,
    sparsity,
    voxel_spectrum,
)

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "data" / "geant4_par04_ds2.hdf5"
REFERENCE = Path(os.environ.get("CALORAY_REFERENCE", HERE.parents[1] / "shared"))
CUT = 0.5e-3 / 0.033
OFFICIAL = {"EC_etas": "eta", "EC_phis": "phi", "EC_R": "r"}


def ragged(rng: np.random.Generator, n_layers: int = 6) -> Geometry:
    """Random layers, some of them alike but apart, some with one angular bin."""
    shapes = []
    for i in range(n_layers):
        n_alpha, n_r = (1 if i == 1 else int(rng.integers(2, 6))), int(rng.integers(2, 5))
        edges = np.concatenate([[0.0], np.cumsum(rng.uniform(1, 20, n_r))])
        alpha = np.linspace(-math.pi, math.pi, n_alpha + 1)
        shapes.append((tuple(alpha.tolist()), tuple(edges.tolist())))
    shapes[-1] = shapes[2]
    return Geometry("toy", "cylindrical", tuple(Layer(i, *shape) for i, shape in enumerate(shapes)))


def cartesian() -> Geometry:
    layer = tuple(np.linspace(-20, 20, 5).tolist()), tuple(np.linspace(-30, 30, 7).tolist())
    return Geometry("grid", "cartesian", tuple(Layer(i, *layer) for i in range(3)))


def shower_array(rng: np.random.Generator, n: int, geometry: Geometry) -> np.ndarray:
    shape = n, geometry.n_voxels
    voxels = (rng.exponential(5, shape) * (rng.random(shape) < 0.4)).astype(np.float32)
    voxels[:, geometry.span(0)] *= rng.random((n, 1)) < 0.5  # some empty first layers
    return voxels


def slow(voxels: np.ndarray, geometry: Geometry, threshold: float) -> list[list[dict[str, float]]]:
    """One shower, layer and voxel at a time."""
    table = []
    for shower in voxels:
        rows = []
        for i, layer in enumerate(geometry.layers):
            values = [float(v) if v >= threshold else 0.0 for v in shower[geometry.span(i)]]
            n_first, n_second = layer.shape
            row = {"energy": math.fsum(values), "hits": float(sum(v > 0 for v in values))}
            row["sparsity"] = sum(v == 0 for v in values) / len(values)
            sums = dict.fromkeys(axis_names(geometry), 0.0)
            squares = dict(sums)
            for j in range(n_first):
                for k in range(n_second):
                    a = (layer.first[j] + layer.first[j + 1]) / 2
                    b = (layer.second[k] + layer.second[k + 1]) / 2
                    place = {"x": a, "y": b}
                    if geometry.kind == "cylindrical":
                        place = {"eta": b * math.cos(a), "phi": b * math.sin(a), "r": b}
                    for name, value in place.items():
                        sums[name] += value * values[j * n_second + k]
                        squares[name] += value**2 * values[j * n_second + k]
            for name in sums:
                mean = sums[name] / (row["energy"] + 1e-16)
                row[f"centre_{name}"] = mean
                row[f"width_{name}"] = math.sqrt(max(0.0, squares[name] / (row["energy"] + 1e-16) - mean**2))
            rows.append(row)
        table.append(rows)
    return table


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_against_plain_loops(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    geometry = cartesian() if seed == 3 else ragged(rng)
    voxels = shower_array(rng, 5, geometry)
    found = observe(voxels, geometry, threshold)
    expected = slow(voxels, geometry, threshold)

    def column(name: str) -> np.ndarray:
        return np.array([[row[name] for row in shower] for shower in expected])

    np.testing.assert_allclose(found.layer_energies, column("energy"), rtol=1e-13)
    np.testing.assert_array_equal(found.hits, column("hits"))
    np.testing.assert_allclose(found.sparsity, column("sparsity"), rtol=1e-13)
    np.testing.assert_allclose(found.total, column("energy").sum(axis=1), rtol=1e-13)
    np.testing.assert_array_equal(found.total_hits, column("hits").sum(axis=1))
    for name in axis_names(geometry):
        layers = list(angular_layers(geometry)) if name in {"eta", "phi"} else slice(None)
        np.testing.assert_allclose(
            found.centres[name][:, layers], column(f"centre_{name}")[:, layers], rtol=1e-11, atol=1e-11
        )
        np.testing.assert_allclose(
            found.widths[name][:, layers], column(f"width_{name}")[:, layers], rtol=1e-7, atol=1e-5
        )


def test_one_angular_bin_has_no_transverse_centre() -> None:
    geometry = ragged(np.random.default_rng(0))
    assert 1 not in angular_layers(geometry)
    found = observe(shower_array(np.random.default_rng(1), 3, geometry), geometry)
    assert np.isnan(found.centres["eta"][:, 1]).all()
    assert np.isnan(found.widths["phi"][:, 1]).all()
    assert np.isfinite(found.centres["r"]).all()


@pytest.mark.parametrize("name", ["ds1_photons", "ds1_pions", "ds2", "ild_30x30x30"])
def test_energy_is_kept(name: str) -> None:
    geometry = load_geometry(name)
    rng = np.random.default_rng(2)
    voxels = (rng.exponential(5, (4, geometry.n_voxels)) * (rng.random((4, geometry.n_voxels)) < 0.1)).astype(
        "f4"
    )
    found = observe(voxels, geometry, 0.5)
    kept = apply_threshold(voxels, 0.5)
    for i in range(geometry.n_layers):
        np.testing.assert_allclose(
            found.layer_energies[:, i], kept[:, geometry.span(i)].sum(axis=1), rtol=1e-13
        )
    np.testing.assert_allclose(found.rings.sum(axis=2), found.layer_energies, rtol=1e-12)
    assert found.rings.shape[2] == len(radial_edges(geometry)) - 1
    np.testing.assert_array_equal(layer_energies(voxels, geometry, 0.5), found.layer_energies)
    np.testing.assert_array_equal(layer_hits(voxels, geometry, 0.5), found.hits)
    np.testing.assert_array_equal(sparsity(voxels, geometry, 0.5), found.sparsity)


def test_rings_share_a_coarse_bin_by_area() -> None:
    alpha = (-math.pi, math.pi)
    geometry = Geometry(
        "two", "cylindrical", (Layer(0, alpha, (0.0, 10.0)), Layer(1, alpha, (0.0, 5.0, 10.0)))
    )
    rings = observe(np.array([[8.0, 1.0, 2.0]]), geometry).rings[0]
    np.testing.assert_allclose(
        rings, [[2.0, 6.0], [1.0, 2.0]]
    )  # a quarter of the disc lies within half the radius


def test_threshold_is_strict() -> None:
    np.testing.assert_array_equal(apply_threshold(np.array([0.0, 0.5, 1.0, 2.0]), 1.0), [0.0, 0.0, 1.0, 2.0])


def test_rows_do_not_know_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    geometry = load_geometry("ds2")
    with h5py.File(SAMPLE) as file:
        voxels = file["showers"][:40]
    whole = observe(voxels, geometry, CUT)
    parts = [observe(voxels[a:b], geometry, CUT) for a, b in ((0, 1), (1, 18), (18, 40))]
    monkeypatch.setattr("caloray.observables.features.VOXELS_AT_ONCE", 7 * geometry.n_voxels)
    for pieces in (parts, [observe(voxels, geometry, CUT)]):
        for read in (
            lambda o: o.layer_energies,
            lambda o: o.centres["eta"],
            lambda o: o.widths["r"],
            lambda o: o.hits,
            lambda o: o.rings,
        ):
            np.testing.assert_array_equal(np.concatenate([read(p) for p in pieces]), read(whole))


def test_wrong_number_of_voxels_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(2, 7\) do not fit geometry ds2: expected \(N, 6480\)"):
        observe(np.zeros((2, 7)), load_geometry("ds2"))


def test_no_showers() -> None:
    assert observe(np.zeros((0, 6480), np.float32), load_geometry("ds2")).centres["r"].shape == (0, 45)


def test_voxel_spectrum_counts_like_numpy() -> None:
    rng = np.random.default_rng(3)
    edges = np.logspace(-1, 1, 8)
    voxels = rng.exponential(2, (6, 50)) * (rng.random((6, 50)) < 0.7)
    voxels[0, 0] = edges[-1]
    found = voxel_spectrum(voxels, edges, 0.05)
    for row, counts in zip(voxels, found, strict=True):
        np.testing.assert_array_equal(counts[1:-1], np.histogram(row, edges)[0])
        assert counts[0] == np.sum((row >= 0.05) & (row < edges[0]))
        assert counts[-1] == np.sum(row > edges[-1])


def compare_with_official(found: Observables, official: Any) -> None:
    n = len(official["E_tot"])
    np.testing.assert_allclose(found.total[:n], official["E_tot"], rtol=1e-10)
    np.testing.assert_allclose(found.layer_energies[:n], official["E_layers"], rtol=1e-10)
    np.testing.assert_allclose(found.sparsity[:n], official["sparsity"], rtol=1e-10)
    for key, name in OFFICIAL.items():
        np.testing.assert_allclose(found.centres[name][:n], official[key], rtol=1e-10, atol=1e-10)
        width = official[key.replace("EC_", "width_")]
        # A width is the root of a difference: zero comes out as the root of the rounding error.
        np.testing.assert_allclose(found.widths[name][:n] ** 2, np.square(width), rtol=1e-9, atol=1e-11)


def test_official_values_of_the_sample_data() -> None:
    official = json.loads((HERE / "golden" / "hlf_ds2.json").read_text())
    with h5py.File(SAMPLE) as file:
        voxels = file["showers"][: len(official["E_tot"])]
    compare_with_official(observe(voxels, load_geometry("ds2"), CUT), official)


@pytest.mark.parametrize("name", ["ds2", "ds3"])
def test_official_values(name: str) -> None:
    golden, data = (
        REFERENCE / "golden" / f"hlf_{name}.npz",
        REFERENCE / "data" / "par04_1-50GeV" / f"electrons_{name}_00.hdf5",
    )
    if not golden.is_file() or not data.is_file():
        pytest.skip(f"{golden.name} or {data.name} is not here (CALORAY_REFERENCE)")
    with h5py.File(data) as file:
        voxels = file["showers"][:64]
    with np.load(golden) as official:
        compare_with_official(observe(voxels, load_geometry(name), CUT), official)


def test_official_values_of_four_showers_of_dataset_3() -> None:
    with np.load(HERE / "golden" / "hlf_ds3.npz") as stored:
        voxels = np.zeros((4, 40500), dtype=np.float32)
        voxels[stored["shower"], stored["voxel"]] = stored["energy"]
        official = {
            key.removeprefix("official_"): stored[key] for key in stored if key.startswith("official_")
        }
    compare_with_official(observe(voxels, load_geometry("ds3"), CUT), official)


@pytest.mark.parametrize("name", ["ds1_photons", "ds1_pions"])
def test_ragged_layers_against_plain_loops(name: str) -> None:
    geometry, rng = load_geometry(name), np.random.default_rng(4)
    voxels = shower_array(rng, 3, geometry)
    voxels[1] = 0
    found, expected = observe(voxels, geometry, 1.0), slow(voxels, geometry, 1.0)
    for key, values in {
        "energy": found.layer_energies,
        "hits": found.hits,
        "sparsity": found.sparsity,
    }.items():
        np.testing.assert_allclose(values, [[row[key] for row in rows] for rows in expected], rtol=1e-12)
    for axis in ("eta", "phi", "r"):
        layers = list(angular_layers(geometry)) if axis != "r" else list(range(geometry.n_layers))
        for kind, values in {"centre": found.centres[axis], "width": found.widths[axis]}.items():
            wanted = np.array([[row[f"{kind}_{axis}"] for row in rows] for rows in expected])
            np.testing.assert_allclose(values[:, layers], wanted[:, layers], rtol=1e-9, atol=1e-6)


def test_depth_start_and_containment_against_plain_loops() -> None:
    rng = np.random.default_rng(5)
    for geometry in (ragged(rng), load_geometry("ild_30x30x30"), load_geometry("ds1_pions")):
        voxels = shower_array(rng, 6, geometry)
        voxels[2] = 0
        found, edges = observe(voxels, geometry, 0.5), radial_edges(geometry)
        depths = [layer.depth for layer in geometry.layers]
        assert depth_unit(geometry) == ("mm" if None not in depths else "layer")
        if None in depths:
            depths = list(range(geometry.n_layers))
        assert layer_depths(geometry).tolist() == depths
        for n, energies in enumerate(found.layer_energies.tolist()):
            total = math.fsum(energies)
            if not total:
                assert (found.depth_mean[n], found.depth_width[n], found.start[n]) == (0, 0, -1)
                assert (found.r50[n], found.r90[n]) == (0, 0)
                continue
            mean = sum(e * z for e, z in zip(energies, depths, strict=True)) / total
            square = sum(e * (z - mean) ** 2 for e, z in zip(energies, depths, strict=True)) / total
            assert found.depth_mean[n] == pytest.approx(mean, rel=1e-12)
            assert found.depth_width[n] == pytest.approx(math.sqrt(square), rel=1e-9)
            assert found.start[n] == next(i for i, e in enumerate(energies) if e > 0.01 * total)
            rings = found.rings[n].sum(axis=0)
            for share, radius in ((0.5, found.r50[n]), (0.9, found.r90[n])):
                inside = 0.0
                for low, high, energy in zip(edges[:-1], edges[1:], rings, strict=True):
                    covered = (min(radius, high) ** 2 - low**2) / (high**2 - low**2)
                    inside += energy * max(0.0, covered)
                assert inside == pytest.approx(share * total, rel=1e-9)


def test_half_of_a_disc() -> None:
    """A disc of even energy holds half of it within 1 / sqrt(2) of its radius."""
    layer = Layer(0, (-math.pi, math.pi), (0.0, 10.0))
    found = observe(np.array([[3.0], [0.0]]), Geometry("disc", "cylindrical", (layer,)))
    np.testing.assert_allclose(found.r50, [10 / math.sqrt(2), 0])
    np.testing.assert_allclose(found.r90, [10 * math.sqrt(0.9), 0])


def test_dense_showers_and_strange_values() -> None:
    geometry = cartesian()
    voxels = np.full((2, geometry.n_voxels), 2.0)
    voxels[1, 0] = np.nan
    found = observe(voxels, geometry)
    assert found.hits[0].tolist() == [24, 24, 24]
    assert np.isnan(found.layer_energies[1, 0])  # never lost in silence


@pytest.mark.parametrize("kind", ["log", "narrow", "one", "on float32"])
def test_quick_bins_are_the_plain_ones(kind: str) -> None:
    rng = np.random.default_rng(6)
    edges = np.logspace(-1.8, 3, 50)
    if kind == "narrow":
        edges = np.sort(np.concatenate([edges, edges * 1.0001, edges * 1.0003]))
    if kind == "one":
        edges = np.array([0.1, 0.2])
    if kind == "on float32":
        edges = edges.astype(np.float32).astype(np.float64)
    near = edges.astype(np.float32)
    values = np.concatenate(
        [np.exp(rng.normal(0, 3, 5000)).astype(np.float32), near, np.nextafter(near, np.float32(0)), [1e38]]
    ).astype(np.float32)
    single = lit_spectrum(values, np.ones(len(values), dtype=np.int64), edges).argmax(axis=1)
    np.testing.assert_array_equal(single, find_bins(values.astype(np.float64), edges))
