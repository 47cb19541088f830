"""Figures come from results.json alone, are the same each time and leave matplotlib as it was."""

from __future__ import annotations

import copy
import json
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from caloray.errors import ConfigError
from caloray.evaluation.run import evaluate as evaluate_fully
from caloray.evaluation.settings import QUICK
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.source import open_source
from caloray.report import draw, style
from caloray.report.comparison import Comparison
from caloray.report.figures import PLATES, plates
from caloray.report.images import draw_every_image, draw_images
from caloray.report.panels import curves_of_histogram
from caloray.report.scores import draw_classifiers, draw_metrics
from caloray.report.style import RC, save
from caloray.report.texts import caption_of
from caloray.showers import Showers

evaluate = partial(evaluate_fully, metrics=QUICK)

OPTIONAL = ("metrics", "classifiers", "correlations", "average_voxels", "timing", "diphoton", "sources")


def names(comparison: Comparison) -> list[str]:
    return [plate.name for plate in plates(comparison)]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures without a layout, which takes most of the time, and coarse."""
    monkeypatch.setattr(style, "ConstrainedLayoutEngine", lambda **_: PlaceHolderLayoutEngine(True, False))
    monkeypatch.setattr(style, "DPI", 50)


@pytest.mark.usefixtures("quick")
def test_png_and_pdf_of_two_models(
    pair: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = tuple(plate for plate in PLATES if plate.name[:2] in {"04", "14", "15"})
    monkeypatch.setattr("caloray.report.figures.PLATES", chosen)
    before = dict(mpl.rcParams)
    paths = draw(pair, tmp_path / "figures", ("Geant4", "teacher", "student"))
    assert dict(mpl.rcParams) == before
    assert sorted(tmp_path.joinpath("figures").iterdir()) == sorted(paths)
    assert [path.stem for path in paths if path.suffix == ".png"] == names(Comparison.of(pair))
    for path in paths:
        data = path.read_bytes()
        start = b"\x89PNG\r\n\x1a\n" if path.suffix == ".png" else b"%PDF-"
        assert data.startswith(start), path
        assert len(data) > 5_000, path
        assert b"CreationDate" not in data, path


@pytest.mark.usefixtures("quick")
def test_every_figure_of_two_models(pair: list[dict[str, Any]]) -> None:
    comparison = Comparison.of(pair, ("Another simulation", "teacher", "student"))
    found = plates(comparison)
    assert {plate.name.split("_", 1)[0] for plate in found} == {f"{i:02d}" for i in range(18)}
    for plate in found:
        with rc_context(RC | {"xtick.minor.visible": False, "ytick.minor.visible": False}):
            figure = plate.painter(comparison)
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
        assert np.ptp(np.asarray(canvas.buffer_rgba())) > 200, plate.name
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert not any("Geant4" in text for text in texts), plate.name


def test_same_record_same_bytes_one_model(make: Any, tmp_path: Path) -> None:
    comparison = Comparison.of(make())
    chosen = [plate for plate in plates(comparison) if plate.name[:2] in {"04", "12", "15"}]
    assert len(chosen) == 4
    for plate in chosen:
        for attempt in ("first", "second"):
            with rc_context(RC):
                figure = plate.painter(comparison)
            save(figure, tmp_path / f"{plate.name}_{attempt}")
        for ending in ("png", "pdf"):
            first, second = (tmp_path / f"{plate.name}_{n}.{ending}" for n in ("first", "second"))
            assert first.read_bytes() == second.read_bytes(), first


@pytest.mark.parametrize("empty", [None, "absent"])
def test_what_a_record_lacks_is_left_out(make: Any, empty: str | None) -> None:
    full = names(Comparison.of(make()))
    bare = make()
    for key in OPTIONAL:
        bare[key] = None
        if empty == "absent":
            del bare[key]
    for record in (*bare["histograms"], *bare["separations"]):
        for key in [key for key in record if key.startswith("chi2")] + ["ndf", "window"]:
            record.pop(key, None)
    bare["histograms"] = [
        r for r in bare["histograms"] if r["observable"] not in {"start", "r50", "depth_mean"}
    ]
    missing = set(full) - set(names(Comparison.of(bare)))
    assert {name[:2] for name in missing} == {"11", "12", "13", "14", "15", "16", "17"}
    assert "01_overview" in names(Comparison.of(bare))


def test_panels_of_discrete_energies_and_photon_pairs_appear_with_their_data(make: Any) -> None:
    record = make()
    assert "02_response_per_energy" not in names(Comparison.of(record))
    panel = copy.deepcopy(record["histograms"][0])
    panel |= {"name": "e_ratio_at/256", "observable": "e_ratio_at", "window": [256.0, 512.0]}
    record["histograms"].append(panel)
    record["diphoton"] = {"curves": []}
    assert {"02_response_per_energy", "18_diphoton"} <= set(names(Comparison.of(record)))


@pytest.mark.usefixtures("quick")
def test_profiles_of_two_models(pair: list[dict[str, Any]], make_profile: Any) -> None:
    assert not any(name.startswith("19") for name in names(Comparison.of(pair)))
    first, second = copy.deepcopy(pair)
    first["profiles"] = [make_profile(0.2), make_profile(0.3, "charge")]
    comparison = Comparison.of([first, second])
    found = {plate.name: plate for plate in plates(comparison)}
    assert {"19_profile", "19_profile_2"} <= set(found)
    second["profiles"] = [make_profile(0.9)]
    both = plates(Comparison.of([first, second]))
    for plate in (one for one in both if one.name.startswith("19")):
        with rc_context(RC):
            figure = plate.painter(Comparison.of([first, second]))
        assert plate.title == "Against the direction or another scalar of the particle"
        texts = {text.get_text() for text in figure.findobj(Text)}
        assert {"centre along [mm]", "E_tot / E_inc", "diff. [%]", "diff. [mm]"} <= texts
        assert ("θ [°]" in texts) == (plate.name == "19_profile")
        assert any("student" in text for text in texts) == (plate.name == "19_profile")
        drawn = [line for line in figure.axes[0].containers if line.get_label()]
        assert len(drawn) == (2 if plate.name == "19_profile" else 1)


def test_every_figure_has_a_caption(pair: list[dict[str, Any]]) -> None:
    for plate in plates(Comparison.of(pair)):
        assert plate.title != plate.name
        assert len(plate.caption) > 50
    assert caption_of("18_diphoton_2") == caption_of("18_diphoton")


def test_records_must_share_the_reference(pair: list[dict[str, Any]]) -> None:
    other = pair[1] | {"reference": {"name": "x", "digest": "f" * 64, "showers": 10}}
    with pytest.raises(ConfigError, match="same reference"):
        Comparison.of([pair[0], other])
    with pytest.raises(ConfigError, match="same threshold"):
        Comparison.of([pair[0], pair[1] | {"threshold": 1.0}])
    with pytest.raises(ConfigError, match="2 labels for 2 results"):
        Comparison.of(pair, ("Geant4", "one"))


def test_curves_keep_entries_and_have_poisson_intervals(make: Any) -> None:
    record = make()
    record["reference"]["showers"], record["generated"]["showers"] = 1000, 2000
    record["histograms"] = [
        {
            "name": "hits",
            "observable": "hits",
            "edges": list(range(11)),
            "reference": {"counts": [0, 0, 9, 100, 400, 100, 16, 0, 0, 0]},
            "generated": {"counts": [0, 0, 0, 120, 300, 200, 0, 4, 0, 0]},
        }
    ]
    curves = curves_of_histogram(Comparison.of(record), "hits")
    reference, generated = curves.reference, curves.models[0][1]
    assert reference.edges.tolist() == [2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_allclose(reference.values, np.array([9, 100, 400, 100, 16, 0]) / 1000)
    np.testing.assert_allclose(generated.values, np.array([0, 120, 300, 200, 0, 4]) / 2000)
    # Garwood, 68.27 %: 9 lies in 6.06 to 13.11, 100 in 90.02 to 111.03 (Cousins, Am. J. Phys. 63 (1995) 398)
    np.testing.assert_allclose(reference.low[:2] * 1000, [6.06, 90.02], atol=0.01)
    np.testing.assert_allclose(reference.high[:2] * 1000, [13.11, 111.03], atol=0.01)


def test_voxels_of_one_shower_are_not_independent(make: Any) -> None:
    record = make()
    part = {"counts": [100, 100], "sum_squares": [10_000, 400]}
    record["histograms"] = [
        {
            "name": "voxel_energy",
            "observable": "voxel_energy",
            "edges": [1.0, 2.0, 4.0],
            "reference": part,
            "generated": part,
        }
    ]
    record["reference"]["showers"] = 10
    reference = curves_of_histogram(Comparison.of(record), "voxel_energy").reference
    # 100 voxels of one shower are one entry: 1 lies in 0.173 to 3.300; 25 entries: 20.03 to 31.07
    np.testing.assert_allclose(reference.low * 10, [17.3, 4 * 20.03], rtol=2e-3)
    np.testing.assert_allclose(reference.high * 10, [330.0, 4 * 31.07], rtol=2e-3)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A record that the evaluation itself made, of ragged layers, one of them empty."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("measured")
    geometry = load_geometry("ds1_photons")
    size = 240, geometry.n_voxels
    voxels = (rng.exponential(20, size) * (rng.random(size) < 0.2)).astype(np.float32)
    voxels[:, geometry.span(3)] = 0
    energies = 2.0 ** rng.integers(10, 12, 240)
    paths = [folder / "0.hdf5", folder / "1.hdf5"]
    for path, part in zip(paths, (slice(0, 120), slice(120, None)), strict=True):
        write_challenge(path, geometry, [Showers(energies[part], voxels[part], np.arange(120))])
    return dict(json.loads(json.dumps(evaluate(*map(open_source, paths), n_halvings=4).data)))


def test_the_evaluation_gives_what_the_figures_need(measured: dict[str, Any], tmp_path: Path) -> None:
    comparison = Comparison.of(measured)
    found = {plate.name: plate for plate in plates(comparison)}
    assert {f"{i:02d}" for i in range(14)} | {"16"} <= {name[:2] for name in found}
    for name in ("02_response_per_energy", "08_centres", "13_correlations"):
        with rc_context(RC):
            figure = found[name].painter(comparison)
        assert save(figure, tmp_path / name)[0].stat().st_size > 10_000


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["ds1_photons", "ild_30x30x30"])
def test_images_of_other_readouts(make: Any, name: str, tmp_path: Path) -> None:
    geometry = load_geometry(name)
    voxels = np.random.default_rng(1).exponential(1.0, geometry.n_voxels)
    voxels[geometry.span(0)] = 0.0
    profile = {"mean": np.ones(geometry.n_layers).tolist(), "error": np.ones(geometry.n_layers).tolist()}
    record = make() | {
        "geometry": geometry.to_dict() | {"digest": geometry.digest},
        "average_voxels": {"reference": voxels.tolist(), "generated": (1.1 * voxels).tolist()},
        "means": {"layer_energy": {"reference": profile}},
    }
    for painter in (draw_images, draw_every_image):
        with rc_context(RC):
            figure = painter(Comparison.of(record))
        assert all(path.stat().st_size > 10_000 for path in save(figure, tmp_path / painter.__name__))
    titles = {text.get_text().split(" (")[0] for text in figure.axes[0].texts}
    assert titles == {f"layer {i}" for i in range(geometry.n_layers)}


def test_every_layer_has_its_pictures_in_its_place(make: Any) -> None:
    with rc_context(RC):
        figure = draw_every_image(Comparison.of(make()))
    reference, ratio = figure.axes[:2]
    assert [len(axes.collections) for axes in (reference, ratio)] == [2, 2]
    for axes, factor in ((reference, None), (ratio, 1.05)):
        for layer, mesh in enumerate(axes.collections):
            corners = mesh.get_coordinates()  # type: ignore[attr-defined]
            np.testing.assert_allclose(corners[..., 0].mean(), 2.2 * layer, atol=0.05)
            values = mesh.get_array()
            assert values is not None
            # Energies grow over the made-up voxels: 4 of each layer, two angles of two radii.
            wanted = np.geomspace(0.01, 10.0, 8)[4 * layer : 4 * layer + 4] if factor is None else [factor]
            np.testing.assert_allclose(np.unique(np.asarray(values)), np.unique(wanted), rtol=1e-9)


def test_metrics_without_spread_have_no_bar(make: Any) -> None:
    with rc_context(RC):
        figure = draw_metrics(Comparison.of(make()))
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[-1] == "copies"
    bars = [patch for patch in axes.patches if isinstance(patch, Rectangle) and 0 < patch.get_height() < 0.7]
    assert len(bars) == 2
    (text,) = (text for text in axes.texts if text.get_text() == "no spread")
    assert text.get_position()[1] == labels.index("copies")


def test_the_roc_legend_says_which_sizes(make: Any) -> None:
    with rc_context(RC):
        figure = draw_classifiers(Comparison.of(make()))
    legend = figure.axes[0].get_legend()
    assert legend is not None
    texts = " ".join(text.get_text() for text in legend.get_texts())
    assert legend.get_title().get_text() == "AUC of all showers"
    assert "at the floor's size" in texts
    assert "floor (283 showers): 0.501" in texts
