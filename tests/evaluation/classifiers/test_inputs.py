"""What the classifiers see, against plain loops over showers and layers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from caloray.errors import DataError
from caloray.evaluation.classifiers import inputs
from caloray.evaluation.classifiers.inputs import ClassifierData, InputTable
from caloray.geometry import load_geometry

ROWS = np.array([6, 0, 3, 8, 5])


def low(voxels, energy, geometry, threshold):
    return [math.log10(energy)] + [float(v) / energy if v >= threshold else 0.0 for v in voxels]


def normed(voxels, energy, geometry, threshold):
    sums, shares = [], []
    for layer in range(geometry.n_layers):
        part = [float(v) for v in voxels[geometry.span(layer)]]
        sums.append(sum(v for v in part if v >= threshold))
        shares += [v / (sums[-1] + 1e-16) for v in part]
    return [math.log10(energy), *shares, *(math.log10(one + 1e-8) for one in sums)]


@pytest.mark.parametrize("name", ["tiny", "ds1_photons"])
@pytest.mark.parametrize(("kind", "oracle"), [("low", low), ("low-normed", normed)])
def test_against_loops(tiny, make, name, kind, oracle) -> None:
    geometry = tiny if name == "tiny" else load_geometry(name)
    first, second = make(5, 1, geometry=geometry), make(4, 2, geometry=geometry)
    table = InputTable(first, second, kind, geometry, 1.0)
    voxels = np.concatenate([first.voxels, second.voxels])[ROWS]
    energies = np.concatenate([first.energies, second.energies])[ROWS]
    expected = [oracle(v, float(e), geometry, 1.0) for v, e in zip(voxels, energies, strict=True)]
    found = table.batch(ROWS)
    assert found.shape == (5, table.width)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", ["low", "low-normed", "high"])
def test_rounded_once_and_chunk_by_chunk(tiny, make, monkeypatch, kind) -> None:
    first, second = make(5, 1), make(4, 2)
    exact = InputTable(first, second, kind, tiny, 1.0).batch(ROWS)
    table = InputTable(first, second, kind, tiny, 1.0, "float32")
    assert np.array_equal(table.batch(ROWS), exact.astype(np.float32))
    monkeypatch.setattr(inputs, "CHUNK_VOXELS", 3 * table.width)
    whole = np.concatenate([chunk for _, chunk in table.chunks()])
    assert [(place.start, place.stop) for place, _ in table.chunks()] == [(0, 3), (3, 6), (6, 9)]
    assert np.array_equal(whole[ROWS], table.batch(ROWS))
    assert table.nbytes == whole.nbytes


def test_high_level_features_come_as_they_are(tiny, make) -> None:
    first, second = make(5, 1), make(4, 2)
    found = InputTable(first, second, "high", tiny, 1.0).batch(ROWS)
    assert np.array_equal(found, np.concatenate([first.features, second.features])[ROWS])


def test_a_layer_with_energy_only_below_the_threshold_is_huge_and_counted(tiny, make) -> None:
    first, second = make(5, 1), make(4, 2)
    voxels = second.voxels.copy()
    voxels[2, tiny.span(1)] = 0.0
    voxels[2, tiny.offsets[1]] = 0.5
    altered = ClassifierData(voxels, second.energies, second.features, second.ids)
    table = InputTable(first, altered, "low-normed", tiny, 1.0)
    assert table.batch(np.array([7]))[0, 1 + tiny.offsets[1]] == pytest.approx(0.5e16)
    assert table.leaks() == InputTable(first, second, "low-normed", tiny, 1.0).leaks() + 1


def test_rows_must_agree(make) -> None:
    data = make(5, 1)
    with pytest.raises(DataError, match=r"\[5, 4, 5, 5\] rows"):
        ClassifierData(data.voxels, data.energies[:4], data.features, data.ids)
