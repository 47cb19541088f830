"""Geometries: shipped ones, the challenge's XML, voxel order, refusal of nonsense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloray.errors import GeometryError
from caloray.geometry import Geometry, Layer, from_binning_xml, load_geometry, names

REFERENCE = Path(os.environ.get("CALORAY_REFERENCE", Path(__file__).parents[2] / "shared"))

SHAPES = {
    "ds1_photons": [(1, 8), (10, 16), (10, 19), (1, 5), (1, 5)],
    "ds1_pions": [(1, 8), (10, 10), (10, 10), (1, 5), (10, 15), (10, 16), (1, 10)],
    "ds2": [(16, 9)] * 45,
    "ds3": [(50, 18)] * 45,
    "ild_30x30x30": [(30, 30)] * 30,
    "ild_30x90x90": [(90, 90)] * 30,
}
# A change here means that shards and bundles made earlier no longer fit.
DIGESTS = {
    "ds1_photons": "f6942a1f943437f234bc6395841393ea4913e485adcd0724e7372631bc87511e",
    "ds1_pions": "a1040c5ce7230ed167069d874cc137c43bf3edffc2138015b3d661a203cc724e",
    "ds2": "74f909cef67e66bcc153b563ac6b6cc434efcd3a4ee0f3ce899dc63c521b88be",
    "ds3": "30817a67ab6357251202e4cee2aecc730223e3ba2e43068d095df25af5d7db44",
    "ild_30x30x30": "343f695853d200c9de88f0b30d6e795ea8bf6516e00bd1371ca068819ed4a6ac",
    "ild_30x90x90": "51fdd75ccd31d4f474d7fb1c06e2dde7059cfe9acd7a6ea96e8ae27b4af5e226",
}
XML_FILES = {
    "ds1_photons": "binning_dataset_1_photons.xml",
    "ds1_pions": "binning_dataset_1_pions.xml",
    "ds2": "binning_dataset_2.xml",
    "ds3": "binning_dataset_3.xml",
}
SMALL_XML = """<Bins>
  <Bin pid="22" etaMin="0" etaMax="130" name="photon">
    <Layer id="0" r_edges="0,5,10.5" n_bin_alpha="1" />
    <Layer id="1" r_edges="0" n_bin_alpha="1" />
    <Layer id="7" r_edges="0,1,2,4" n_bin_alpha="4" />
  </Bin>
</Bins>
"""


def xml(folder: Path, text: str = SMALL_XML) -> Path:
    path = folder / "small.xml"
    path.write_text(text)
    return path


def test_every_shipped_geometry_is_tested() -> None:
    assert names() == sorted(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_offsets_and_digest(name: str) -> None:
    geometry = load_geometry(name)
    assert [layer.shape for layer in geometry.layers] == SHAPES[name]
    sizes = [a * b for a, b in SHAPES[name]]
    assert geometry.layer_sizes == tuple(sizes)
    assert geometry.offsets == (0, *np.cumsum(sizes))
    assert geometry.n_voxels == sum(sizes)
    assert np.array_equal(np.bincount(geometry.layer_of_voxel), sizes)
    assert geometry.digest == DIGESTS[name]


@pytest.mark.parametrize("name", SHAPES)
def test_survives_json(name: str) -> None:
    geometry = load_geometry(name)
    again = Geometry.from_dict(json.loads(json.dumps(geometry.to_dict())))
    assert again == geometry
    assert again.digest == geometry.digest


@pytest.mark.parametrize(("name", "file"), XML_FILES.items())
def test_shipped_geometry_is_the_published_one(name: str, file: str) -> None:
    path = REFERENCE / "geometry" / file
    if not path.is_file():
        pytest.skip(f"the challenge's {file} is not here (CALORAY_REFERENCE)")
    published = from_binning_xml(path)
    shipped = load_geometry(name)
    assert published.layers == shipped.layers
    assert published.digest == shipped.digest
    assert published.particle == shipped.particle


def test_small_xml(tmp_path: Path) -> None:
    geometry = load_geometry(str(xml(tmp_path)))
    assert geometry.name == "small"
    assert geometry.particle == "photon"
    assert [layer.id for layer in geometry.layers] == [0, 7], "the layer with the single edge 0 is absent"
    assert geometry.layers[0].second == (0.0, 5.0, 10.5)
    assert geometry.offsets == (0, 2, 14)
    assert not geometry.uniform
    np.testing.assert_allclose(geometry.layers[1].first, np.linspace(-np.pi, np.pi, 5))


def test_voxel_order_is_r_fastest_then_alpha_then_layer(tmp_path: Path) -> None:
    geometry = from_binning_xml(xml(tmp_path))
    alpha, r = geometry.centres(1)
    np.testing.assert_allclose(r, [0.5, 1.5, 3.0] * 4)
    np.testing.assert_allclose(alpha, np.repeat(np.array([-0.75, -0.25, 0.25, 0.75]) * np.pi, 3))
    assert geometry.layer_of_voxel.tolist() == [0, 0] + [1] * 12
    # A voxel with known indices in the challenge's (layer, alpha, r) array.
    cube = np.zeros((45, 16, 9))
    cube[3, 11, 4] = 1.0
    flat = int(cube.ravel().argmax())
    ds2 = load_geometry("ds2")
    place = flat - ds2.offsets[3]
    assert ds2.layer_of_voxel[flat] == 3
    assert ds2.centres(3)[1][place] == pytest.approx(4.5 * 4.65)
    assert ds2.centres(3)[0][place] == pytest.approx(-np.pi + 11.5 * 2 * np.pi / 16)


def test_span_cuts_one_layer() -> None:
    geometry = load_geometry("ds1_photons")
    assert geometry.span(2) == slice(168, 358)


def test_ild_grids() -> None:
    fine, coarse = load_geometry("ild_30x90x90"), load_geometry("ild_30x30x30")
    edges = np.array(fine.layers[0].first)
    np.testing.assert_allclose(np.diff(edges), 5.088333 / 3, atol=1e-9)
    np.testing.assert_allclose(edges, -edges[::-1])
    assert tuple(edges[::3]) == coarse.layers[0].first
    depths = [layer.depth for layer in fine.layers]
    assert depths[0] == pytest.approx(1811.34 - 1804.7)
    assert depths[-1] == pytest.approx(2010.05 - 1804.7)
    assert np.all(np.diff(np.array(depths, dtype=float)) > 3)
    x, y = fine.centres(0)
    assert y[1] - y[0] == pytest.approx(5.088333 / 3), "y is the fast axis"
    assert x[1] == x[0]


def test_the_digest_sees_edges_and_kind_but_not_the_name() -> None:
    layer = Layer(0, (0.0, 1.0), (0.0, 1.0, 2.0))
    one = Geometry("a", "cylindrical", (layer,), "photon")
    assert one.digest == Geometry("b", "cylindrical", (layer,), "pion").digest
    assert one.digest != Geometry("a", "cartesian", (layer,)).digest
    moved = Layer(0, (0.0, 1.0), (0.0, 1.0, 2.5))
    assert one.digest != Geometry("a", "cylindrical", (moved,)).digest


def test_positions_cannot_be_overwritten() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_geometry("ds2").layer_of_voxel[0] = 3


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE Bins [<!ENTITY a "b">]>' + SMALL_XML,
        '<!DOCTYPE Bins SYSTEM "file:///etc/passwd">' + SMALL_XML,
    ],
)
def test_xml_with_dtd_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(GeometryError, match=r"small: DTDs and entities are refused"):
        from_binning_xml(xml(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<Bins>", "not valid XML"),
        ("", "not valid XML"),
        ("<Bins></Bins>", "expected exactly one Bin"),
        (SMALL_XML.replace("0,5,10.5", "0,5,x"), "malformed layer"),
        (SMALL_XML.replace("0,5,10.5", "0,5,5"), "layer 0: edges of r"),
        (SMALL_XML.replace("0,5,10.5", "-1,5,7"), "start at -1"),
        (SMALL_XML.replace("0,5,10.5", "0,5,nan"), "edges of r"),
        (SMALL_XML.replace('n_bin_alpha="4"', ""), "malformed layer"),
        (SMALL_XML.replace('n_bin_alpha="4"', 'n_bin_alpha="1000000000"'), "malformed layer"),
        (SMALL_XML.replace('id="7"', 'id="0"'), "not unique"),
    ],
)
def test_bad_xml_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GeometryError, match=message) as caught:
        from_binning_xml(xml(tmp_path, text))
    assert "small" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_xml_with_several_particles(tmp_path: Path) -> None:
    body = SMALL_XML.replace("<Bins>", "").replace("</Bins>", "")
    text = f"<Bins>{body}{body.replace('photon', 'pion').replace('10.5', '11')}</Bins>"
    path = xml(tmp_path, text)
    assert from_binning_xml(path, "pion").layers[0].second[-1] == 11.0
    with pytest.raises(GeometryError, match=r"exactly one Bin, found \['photon', 'pion'\]"):
        from_binning_xml(path)
    with pytest.raises(GeometryError, match="one Bin named 'kaon'"):
        from_binning_xml(path, "kaon")


def test_unknown_names_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="unknown geometry 'ds4'") as caught:
        load_geometry("ds4")
    assert "ds3" in caught.value.hint
    with pytest.raises(GeometryError, match="no such geometry file"):
        load_geometry(str(tmp_path / "gone.xml"))
    with pytest.raises(GeometryError, match="no such geometry file"):
        load_geometry(str(tmp_path / "gone.yaml"))


def test_oversized_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_text("#" * 1_000_001)
    with pytest.raises(GeometryError, match="1000001 bytes"):
        load_geometry(str(path))


def test_own_yaml(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "kind: cartesian\nface: 10\nlayers:\n"
        "  - {id: 4, x: [-1, 0, 2], y: {bins: 2, width: 3}, bottoms: [11.5]}\n"
        "  - {ids: 5-6, x: [0, 1], y: [0, 1]}\n"
    )
    geometry = load_geometry(str(path))
    assert [layer.id for layer in geometry.layers] == [4, 5, 6]
    assert geometry.layers[0] == Layer(4, (-1.0, 0.0, 2.0), (-3.0, 0.0, 3.0), 1.5)
    assert geometry.layers[1].depth is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[]", "malformed"),
        ("kind: round\nlayers: []", "malformed"),
        ("kind: cartesian\nlayers: []", "no layers"),
        ("kind: cartesian\nlayers: [{id: 0, x: [0, 1]}]", "malformed"),
        ("kind: cartesian\nlayers: [{id: 0, x: [0, 1], y: [0, 1], z: [0, 1]}]", "unknown keys"),
        ("kind: cartesian\nlayers: [{ids: 0-1, x: [0, 1], y: [0, 1], bottoms: [1]}]", "1 bottoms for 2"),
        ("kind: cartesian\nlayers: [{id: 0, x: [0, 1], y: 7}]", "neither edges nor bins"),
        ("kind: cartesian\nlayers: [{id: 0, x: [0, 1], y: {bins: 0, width: 1}}]", "0 bins"),
        ("kind: cylindrical\nlayers: [{id: 0, alpha: [0, 7], r: [0, 1]}]", "more than one turn"),
        ("kind: cartesian\nlayers: [{id: 0, x: [0, 1], y: [0, 1], bottoms: [.nan]}]", "not a number"),
        (
            "kind: cartesian\nlayers: [{id: 0, x: {bins: 9000, width: 1}, y: {bins: 9000, width: 1}}]",
            "81000000 voxels",
        ),
    ],
)
def test_bad_yaml_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(GeometryError, match=message) as caught:
        load_geometry(str(path))
    assert "mine" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_malformed_descriptions_are_refused() -> None:
    good = load_geometry("ds1_photons").to_dict()
    for spoiled in (
        {},
        {**good, "layers": [{"id": 1}]},
        {**good, "kind": "spherical"},
        {**good, "layers": []},
    ):
        with pytest.raises(GeometryError):
            Geometry.from_dict(spoiled)


edges = st.lists(st.floats(0, 1e4), min_size=2, max_size=6, unique=True).map(sorted)


@given(st.lists(st.tuples(edges, st.integers(1, 6)), min_size=1, max_size=5))
def test_any_readout_keeps_its_bookkeeping(layers: list[tuple[list[float], int]]) -> None:
    described = [
        {"id": i, "first": np.linspace(-3, 3, n + 1).tolist(), "second": r, "depth": None}
        for i, (r, n) in enumerate(layers)
    ]
    geometry = Geometry.from_dict({"name": "any", "kind": "cylindrical", "particle": "", "layers": described})
    assert geometry.n_voxels == sum(n * (len(r) - 1) for r, n in layers)
    covered = [
        voxel for i in range(geometry.n_layers) for voxel in range(geometry.n_voxels)[geometry.span(i)]
    ]
    assert covered == list(range(geometry.n_voxels))
    assert all(len(geometry.centres(i)[0]) == geometry.layer_sizes[i] for i in range(geometry.n_layers))
