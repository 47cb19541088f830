"""Cells, functions of the particle, and the reference that is built on them."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.quality.basis import Basis, basis_size
from caloray.quality.build import ReferenceBuilder
from caloray.quality.drift import drift
from caloray.quality.layout import ConditionSpan, Layout
from caloray.quality.reference import QualityReference

WIDE = Layout(energies=(1e3, 1e6), block_size=256)


def test_cells_are_logarithmic_and_named():
    assert WIDE.cells == 6
    assert WIDE.intervals == 8
    scaled = WIDE.scaled(np.array([1e3, 3.1e3, 3.2e3, 9.9e5, 1e6]))
    assert WIDE.cell_of(scaled, {}).tolist() == [0, 0, 1, 5, 5]
    assert WIDE.cell_name(1) == "3162 to 1e+04 MeV"


def test_cells_of_directions(tilted):
    layout = tilted.layout()
    assert layout.cells == 18
    cosines = np.array([0.8, 0.85, 0.9, 0.95, 1.0])
    cells = layout.cell_of(np.zeros(5), {"direction_z": cosines})
    assert cells.tolist() == [0, 0, 6, 12, 12]
    assert layout.cell_name(17) == "4.642e+04 to 1e+05 MeV, theta 0 to 21 degrees"


def test_edges_of_the_ranges(tilted):
    layout = tilted.layout()
    inside = {"direction_x": np.zeros(3), "direction_y": np.zeros(3), "direction_z": np.ones(3)}
    energies = np.array([1e3 * (1 - 1e-7), 999.0, 1e5])
    assert layout.inside(energies, inside).tolist() == [True, False, True]
    inside["direction_x"] = np.array([0.605, 0.0, 0.7])
    assert layout.inside(np.full(3, 2e3), inside).tolist() == [True, True, False]


@pytest.mark.parametrize("energies", [(0.0, 1.0), (2.0, 1.0)])
def test_ranges_that_are_none(energies):
    with pytest.raises(ValidationError, match="ascend"):
        Layout(energies=energies, block_size=1)
    with pytest.raises(ValidationError, match="below"):
        ConditionSpan(name="a", low=2, high=1)


def test_functions_represent_smooth_curves(tilted):
    layout, rng = tilted.layout(), np.random.default_rng(0)
    scaled, directions = rng.random(500), tilted.directions(rng, 500)
    basis = Basis.of(layout, scaled, directions)
    assert basis.dense().shape == (500, basis_size(layout))
    assert basis.splines.sum(axis=0) == pytest.approx(np.ones(500))
    x, y = directions["direction_x"], directions["direction_y"]
    curve = scaled**3 - scaled + x * scaled + x * y * scaled + y**2
    coefficients = np.linalg.lstsq(basis.dense(), curve[:, None], rcond=None)[0]
    assert basis.combine(coefficients)[:, 0] == pytest.approx(curve, abs=1e-9)


def test_a_model_of_one_energy(plain, count):
    layout = Layout(energies=(5e3, 5e3), block_size=32)
    assert layout.intervals == 1
    builder = ReferenceBuilder(plain.geometry, layout)
    builder.add(plain.make(np.full(2000, 5e3), seed=1))
    known = builder.build()
    assert drift(count(plain.make(np.full(3000, 5e3), seed=2), known), known).verdict == "ok"


def test_a_reference_comes_back_from_its_tensors(plain, reference, count):
    known = reference(plain)
    back = QualityReference.of(known.tensors(), plain.geometry, known.layout, known.digest)
    counts = count(plain.showers(2000, seed=2), back)
    assert drift(counts, back).to_json() == drift(counts, known).to_json()


def test_damaged_references_are_refused(plain, reference):
    known = reference(plain)
    tensors = known.tensors()
    damaged = {
        "mean": None,
        "occupancy": tensors["occupancy"][:, :5],
        "floor": np.full(tensors["floor"].shape, np.nan),
    }
    for name, value in damaged.items():
        with pytest.raises(DataError, match=f"quality reference: {name}"):
            QualityReference.of(tensors | {name: value}, plain.geometry, known.layout, known.digest)
    smaller = Geometry("small", "cartesian", plain.geometry.layers[:2])
    with pytest.raises(DataError, match="expected shape"):
        QualityReference.of(tensors, smaller, known.layout, known.digest)


def test_a_reference_needs_showers(plain):
    builder = ReferenceBuilder(plain.geometry, plain.layout())
    builder.add(plain.showers(999))
    with pytest.raises(DataError, match="999 valid showers, a quality reference needs 1000"):
        builder.build()
