"""Tables of cells: both YAML forms, both CSV forms, and what is wrong with others."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caloray.errors import GeometryError
from caloray.placement.cells import ListedCells, RegularCells, overlaps
from caloray.placement.table import read_table

YAML = """
layers:
  - ids: 0-1
    x: {width: 2.0, offset: 0.5}
    y: [[-3.0, -1.0], [1.0, 3.0]]
  - id: 2
    x: {edges: [-2.0, 0.0, 1.0]}
    y: {width: 2.0}
"""


def table(tmp_path, text, ending="yaml", layers=3):
    path = tmp_path / f"cells.{ending}"
    path.write_text(text)
    return read_table(path, layers, 4.0, 5.0)


def test_listed_cells_in_yaml(tmp_path):
    cells = table(tmp_path, YAML)
    assert isinstance(cells, ListedCells)
    x, y = cells.intervals[0]
    assert x[0, 0] <= -5.0
    assert x[-1, 1] >= 5.0
    np.testing.assert_allclose(np.diff(x, axis=1), 2.0)
    assert 0.5 in x
    np.testing.assert_array_equal(y, [[-3, -1], [1, 3]])
    np.testing.assert_array_equal(cells.intervals[2][0], [[-2, 0], [0, 1]])
    json.dumps(cells.to_dict())


def test_offsets_alone_stay_an_endless_lattice(tmp_path):
    cells = table(tmp_path, "layer,offset_x,offset_y\n2,0.5,0\n0,1,2\n1, -1, 3\n", "csv")
    assert isinstance(cells, RegularCells)
    assert cells.width == 4.0
    np.testing.assert_array_equal(cells.offsets, [[1, 2], [-1, 3], [0.5, 0]])
    same = "layers:\n" + "".join(
        f"  - {{id: {i}, x: {{offset: {x}}}, y: {{offset: {y}}}}}\n"
        for i, (x, y) in enumerate(cells.offsets.tolist())
    )
    np.testing.assert_array_equal(table(tmp_path, same).offsets, cells.offsets)


def test_cells_in_csv_are_sorted(tmp_path):
    rows = [f"{layer},{axis},{low},{low + 1}" for layer in range(3) for axis in "xy" for low in (2, 0, 1)]
    cells = table(tmp_path, "\n".join(["layer,axis,low,high", *rows]), "csv")
    np.testing.assert_array_equal(cells.intervals[1][1], [[0, 1], [1, 2], [2, 3]])


@pytest.mark.parametrize(
    ("text", "ending", "words"),
    [
        (YAML.replace("ids: 0-1", "id: 0"), "yaml", "lacks layer 1"),
        (YAML.replace("id: 2", "ids: 2-4"), "yaml", "has layers 3, 4"),
        (YAML.replace("id: 2", "id: 1"), "yaml", "layer 1 is described twice"),
        (YAML.replace("[1.0, 3.0]", "[-1.5, 3.0]"), "yaml", "layer 0, y: the cells -3 to -1 and -1.5 to 3"),
        (YAML.replace("[1.0, 3.0]", "[3.0, 1.0]"), "yaml", "the cell from 3 to 1 mm is empty"),
        (YAML.replace("[1.0, 3.0]", "[.nan, 3.0]"), "yaml", "not a number"),
        (YAML.replace("offset: 0.5", "offset: .nan"), "yaml", "offset nan"),
        (YAML.replace("width: 2.0, offset", "width: -2.0, offset"), "yaml", "positive width"),
        (YAML.replace("width: 2.0, offset", "widht: 2.0, offset"), "yaml", "unknown keys"),
        (YAML.replace("0.0, 1.0]", "0.0, -1.0]"), "yaml", "is empty"),
        (YAML.replace("ids: 0-1", "ids: 0-999999"), "yaml", "1000000 entries"),
        ("layers: 3", "yaml", "malformed"),
        ("[: {", "yaml", "malformed"),
        ("layer,offset_x\n0,1\n", "csv", "columns"),
        ("layer,axis,low,high\n0,z,0,1\n", "csv", "malformed"),
        ("layer,offset_x,offset_y\n0,1,a\n", "csv", "malformed"),
        ("", "csv", "columns"),
        ("x", "txt", ".yaml or .csv"),
    ],
)  # fmt: skip
def test_refusals(tmp_path, text, ending, words):
    with pytest.raises(GeometryError) as caught:
        table(tmp_path, text, ending)
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_missing_table(tmp_path):
    with pytest.raises(GeometryError, match="no such table"):
        read_table(tmp_path / "none.yaml", 3, 4.0, 5.0)


def test_shares_without_gaps_add_up_to_one_however_the_edges_lie():
    rng = np.random.default_rng(5)
    cells = RegularCells(np.array([[0.1, 0.0], [1e5, -7.3]]), 0.7)
    layers = rng.integers(0, 2, 1000)
    low = rng.uniform(-50, 50, 1000)
    low[::3] = cells.edges(0, layers[::3], rng.integers(-20, 20, len(low[::3])))[0]  # on an edge
    high = low + rng.choice([0.01, 0.7, 3.3], 1000)
    shares = sum(share for _, share in overlaps(cells, 0, layers, low, high))
    np.testing.assert_allclose(shares, 1.0, rtol=1e-12)
