"""Images and maxima against plain loops and a case with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from caloray.errors import ConfigError, GeometryError
from caloray.evaluation.diphoton import PairSettings
from caloray.evaluation.diphoton.bank import Bank
from caloray.evaluation.diphoton.curve import trace
from caloray.evaluation.diphoton.readout import Readout
from caloray.geometry import load_geometry


def plain_image(readout, voxels, shifts, weights):
    """One loop per step: place, pool, cut, add up, smooth."""
    f, (nx, ny), (cx, cy) = readout.granularity, readout.bins, readout.cells
    fine = np.zeros((readout.layers, cx * f, cy * f))
    for shower, (sx, sy) in zip(voxels.reshape(-1, readout.layers, nx, ny), shifts, strict=True):
        fine[:, sx : sx + nx, sy : sy + ny] += shower
    cells = fine.reshape(readout.layers, cx, f, cy, f).sum(axis=(2, 4))
    cells[cells < readout.threshold] = 0
    image = sum(weight * layer for weight, layer in zip(weights, cells, strict=True))
    radius = int(4 * readout.smoothing + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / readout.smoothing) ** 2)
    kernel /= kernel.sum()
    smooth = np.apply_along_axis(np.convolve, 0, image, kernel, mode="same")
    return np.apply_along_axis(np.convolve, 1, smooth, kernel, mode="same")


def plain_maxima(image, share):
    found = set()
    for x in range(image.shape[0]):
        for y in range(image.shape[1]):
            around = image[max(0, x - 1) : x + 2, max(0, y - 1) : y + 2]
            if image[x, y] == around.max() and image[x, y] > share * image.max():
                found.add((x, y))
    return found


@pytest.mark.parametrize(("granularity", "weights"), [(1, None), (3, None), (3, (1.0, 2.5))])
def test_images_and_maxima_of_pairs(grid, photons, granularity, weights):
    settings = PairSettings.of(
        granularity=granularity, layer_weights=weights, threshold=2.0, direction="diagonal", share=0.02
    )
    readout = Readout.of(grid, settings)
    showers = photons(8, 0)
    bank = Bank.from_dense(showers.voxels, showers.incident_energies)
    rng = np.random.default_rng(1)
    rows = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    shifts = np.stack(
        [rng.integers(0, granularity, (4, 2)), rng.integers(0, readout.reach[0], (4, 2))], axis=1
    )
    images = readout.images(bank, rows, shifts)
    found = readout.maxima(images)
    counts, places = readout.count(bank, rows, shifts)
    for k in range(4):
        image = plain_image(readout, showers.voxels[rows[k]], shifts[k], weights or (1.0, 1.0))
        np.testing.assert_allclose(images[k], image, rtol=1e-6, atol=1e-9)
        expected = plain_maxima(images[k], readout.share)
        assert set(zip(*np.nonzero(found[k]), strict=True)) == expected
        assert counts[k] == len(expected)
        first = sorted(expected)[:2]
        np.testing.assert_array_equal(places[k, : len(first)], np.array(first) + 0.5)


def test_cells_are_cut_after_the_sum(grid):
    voxels = np.zeros((2, grid.n_voxels))
    voxels[:, 15 * 30 + 15] = 0.06
    bank = Bank.from_dense(voxels, np.array([1.0, 2.0]))
    readout = Readout.of(grid, PairSettings.of(smoothing=0, distances=(0,)))
    none = np.zeros((1, 2, 2), dtype=np.int64)
    assert readout.images(bank, np.array([[0, 1]]), none).sum() == pytest.approx(0.12)
    assert readout.images(bank, np.array([[0]]), none[:, :1]).sum() == 0
    assert readout.count(bank, np.array([[0]]), none[:, :1])[0] == 0


def test_of_two_equal_neighbours_one_counts(grid):
    readout = Readout.of(grid, PairSettings.of())
    image = np.zeros((1, 8, 8))
    image[0, 3, 3:5] = 1.0
    assert readout.maxima(image).sum() == 1


@pytest.mark.parametrize(("smoothing", "narrow", "wide"), [(0.0, 11.0, 13.0), (3.0, 13.0, 15.0)])
def test_two_gaussians_separate_at_two_standard_deviations(make_grid, smoothing, narrow, wide):
    """The sum of two equal Gaussians has two maxima exactly where their distance exceeds 2 sigma.

    sigma = 6 mm and 1 mm cells: 12 mm; smoothing with 3 cells makes it 2 sqrt(36 + 9) = 13.4 mm.
    """
    geometry = make_grid(1, 60, 1.0)
    x = np.arange(60) - 29.5
    profile = np.exp(-0.5 * (x / 6) ** 2)
    voxels = np.tile(np.outer(profile, profile).ravel(), (4, 1))
    bank = Bank.from_dense(voxels, np.arange(1.0, 5.0))
    settings = PairSettings.of(
        distances=(0, narrow, wide, 30), granularity=1, threshold=0, smoothing=smoothing, pairs=50
    )
    rows = np.arange(4)
    curve = trace("gauss", bank, [(rows, rows)], Readout.of(geometry, settings), settings)
    np.testing.assert_array_equal(curve.probability, [0, 0, 1, 1])
    assert curve.near[-1] == 1


def test_granularity_comes_nearest_to_five_millimetres(grid):
    assert Readout.of(load_geometry("ild_30x90x90"), PairSettings()).granularity == 3
    assert Readout.of(load_geometry("ild_30x30x30"), PairSettings()).granularity == 1
    with pytest.raises(ConfigError, match="fewer than 3 cells"):
        Readout.of(grid, PairSettings.of(granularity=20))
    with pytest.raises(ConfigError, match="3 layer weights, expected 2"):
        Readout.of(grid, PairSettings.of(layer_weights=(1, 1, 1)))


def test_other_geometries_are_refused(grid):
    with pytest.raises(GeometryError, match="ds2 is cylindrical"):
        Readout.of(load_geometry("ds2"), PairSettings())
    uneven = grid.to_dict()
    uneven["layers"][1]["first"] = [2 * edge for edge in uneven["layers"][1]["first"]]
    with pytest.raises(GeometryError, match=r"widths from 1\.7 to 3\.4 mm"):
        Readout.of(type(grid).from_dict(uneven), PairSettings())
