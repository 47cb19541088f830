"""Whole classifier tests on showers whose difference is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from caloray.errors import ConfigError, DataError, GeometryError
from caloray.evaluation.classifiers.config import ClassifierConfig, DnnConfig, ResnetConfig, TreesConfig
from caloray.evaluation.classifiers.inputs import ClassifierData
from caloray.evaluation.classifiers.records import Sizes, is_official
from caloray.evaluation.classifiers.records import _noise as noise
from caloray.evaluation.classifiers.run import run_classifiers
from caloray.evaluation.features import feature_vector
from caloray.geometry import load_geometry
from caloray.observables import observe

SMALL = ClassifierConfig(
    seeds=3,
    device="cpu",
    dnn=DnnConfig(width=32, hidden=2, epochs=6, batch=50, learning_rate=3e-3, dtype="float32"),
    resnet=ResnetConfig(planes=(4, 4, 4, 4), epochs=1, batch=50, learning_rate=1e-2, dtype="float32"),
    trees=TreesConfig(iterations=20, leaves=5),
)
TREES = SMALL.model_copy(update={"models": ("trees",)})


@pytest.fixture(scope="module")
def everything(tiny, make) -> list[dict[str, Any]]:
    return run_classifiers(make(600, 1), make(450, 2, scale=2.0), SMALL, tiny, 1.0, seed=5)


def test_records(everything) -> None:
    assert [(r["input"], r["model"]) for r in everything] == [
        ("low", "dnn"),
        ("low-normed", "dnn"),
        ("high", "dnn"),
        ("low", "resnet"),
        ("high", "trees"),
    ]
    for record in everything:
        assert json.loads(json.dumps(record)) == record
        assert record["comparable"] is record["auc"]["comparable"] is False
        assert "not comparable" in record["auc"]["note"]
        assert record["auc"]["name"] == f"auc/{record['input']}/{record['model']}"
        assert record["jsd"]["name"] == f"jsd/{record['input']}/{record['model']}"
        assert len(record["runs"]) == record["auc"]["pairs"] == 3
        assert record["auc"]["value"] == pytest.approx(np.mean([run["auc"] for run in record["runs"]]))
        assert record["auc"]["error"] == pytest.approx(np.std([run["auc"] for run in record["runs"]], ddof=1))
        assert record["auc"]["showers"] == [450, 450]
        assert record["auc"]["pair_showers"] == 300
        assert record["auc"]["settings"]["floor_scatter"] > 0
        assert sum(record["calibration"]["counts"]) == 3 * 180


def test_a_difference_is_found(everything) -> None:
    for record in everything:
        if record["input"] != "low-normed" and record["model"] != "resnet":  # these want more training
            assert record["auc"]["value"] > 0.6, record["title"]
    trees = everything[-1]
    assert trees["auc"]["significance"] > 3
    assert trees["jsd"]["value"] > trees["jsd"]["floor"]


@pytest.mark.parametrize("model", ["trees", "dnn"])
def test_geant4_against_itself(halves, model: str) -> None:
    """Real showers of one kind: 0.5 within the error, by trees and by a small network."""
    first, second = (classifier_data(half) for half in halves)
    config = SMALL.model_copy(update={"models": (model,), "inputs": ("low",), "most": 400})
    record = run_classifiers(first, second, config, halves[0].geometry, 0.01515, seed=2)[0]
    error = 0.046  # 80 against 80
    assert abs(record["auc"]["value"] - 0.5) < 4 * error
    assert abs(record["auc"]["floor"] - 0.5) < 4 * error * 2**0.5
    assert abs(record["auc"]["significance"]) < 4
    assert record["jsd"]["value"] < 0.1  # far below zero happens: one wrong certainty costs 20 bits


def test_a_scaled_copy_is_told_apart(halves) -> None:
    first, second = halves
    shifted = replace(second, showers=replace(second.showers, voxels=second.showers.voxels * 1.2))
    data = classifier_data(first), classifier_data(shifted)
    record = run_classifiers(*data, TREES.model_copy(update={"most": 400}), first.geometry, 0.01515, seed=2)[
        0
    ]
    assert record["auc"]["significance"] > 5


def classifier_data(source) -> ClassifierData:
    showers, geometry = source.showers, source.geometry
    seen = observe(showers.voxels, geometry, 0.01515)
    features = feature_vector(seen, showers.incident_energies, geometry)
    return ClassifierData(showers.voxels, showers.incident_energies, features, showers.ids)


def test_neither_order_nor_company_matters(tiny, make, everything) -> None:
    first, second = make(600, 1), make(450, 2, scale=2.0)
    rows = np.random.default_rng(1).permutation(450)
    shuffled = ClassifierData(*(getattr(second, n)[rows] for n in ("voxels", "energies", "features", "ids")))
    alone = SMALL.model_copy(update={"models": ("dnn",), "inputs": ("high",)})
    assert run_classifiers(first, shuffled, alone, tiny, 1.0, seed=5) == [everything[2]]


def test_extra_columns_are_for_the_trees(tiny, make) -> None:
    first, second = make(200, 1), make(200, 2)
    told = [replace(d, extra=np.full((200, 1), float(k))) for k, d in enumerate((first, second))]
    record = run_classifiers(*told, TREES, tiny, 1.0)[0]
    assert record["auc"]["value"] == pytest.approx(1.0)
    assert record["settings"]["columns"] == first.features.shape[1] + 6


def test_progress(tiny, make) -> None:
    seen: list[tuple[str, int, int]] = []
    config = SMALL.model_copy(update={"models": ("dnn", "trees"), "inputs": ("high",)})
    run_classifiers(make(400, 1), make(400, 2), config, tiny, 1.0, progress=lambda *a: seen.append(a))
    assert {stage for stage, _, _ in seen} == {"high/dnn", "high/trees"}
    assert all(done <= total for _, done, total in seen)
    assert seen[-1] == ("high/trees", 9, 9)
    assert ("high/dnn", 54, 54) in seen


def test_leaks_are_noted(tiny, make) -> None:
    first, second = make(400, 1), make(400, 2)
    voxels = second.voxels.copy()
    voxels[:, tiny.span(3)] = 0.4
    config = SMALL.model_copy(update={"models": ("dnn",), "inputs": ("low-normed",)})
    found = run_classifiers(first, replace(second, voxels=voxels), config, tiny, 1.0)[0]
    assert "energy below the threshold" in found["auc"]["note"]
    assert found["settings"]["leaks"] >= 400


@pytest.mark.parametrize(
    ("name", "values", "word"),
    [
        ("auc", [0.49, 0.5], "0.5 is perfect"),
        ("auc", [0.30, 0.28], "more than once"),
        ("auc", [0.51, 0.52], None),
        ("jsd", [-0.01, 0.0], "0 is perfect"),
        ("jsd", [0.1, 0.2], None),
    ],
)
def test_below_perfect_is_noise(name: str, values: list[float], word: str | None) -> None:
    notes = noise(name, values, [0.02, 0.02])
    assert not notes if word is None else word in notes[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": ("trees",)}, DataError, "generated: 90 showers for classifier trees, at least 100"),
        ({"models": ("dnn",)}, DataError, "generated: 90 showers for classifier dnn, at least 400"),
        ({"models": ("trees",), "most": 50}, DataError, "reference: 50 showers"),
    ],
)
def test_too_few_showers(tiny, make, change, error, message) -> None:
    with pytest.raises(error, match=message):
        run_classifiers(make(450, 1), make(90, 2), SMALL.model_copy(update=change), tiny, 1.0)


def test_what_cannot_be_done(tiny, make: Callable[..., ClassifierData]) -> None:
    ragged, data = load_geometry("ds1_photons"), make(450, 1)
    voxels = np.ones((450, 368), dtype=np.float32)
    flat = ClassifierData(voxels, data.energies, data.features, data.ids)
    resnet = SMALL.model_copy(update={"models": ("resnet",)})
    with pytest.raises(GeometryError, match="layers of one shape"):
        run_classifiers(flat, flat, resnet, ragged, 1.0)
    with pytest.raises(GeometryError, match="24 voxels, geometry ds1_photons has 368"):
        run_classifiers(data, data, TREES, ragged, 1.0)
    with pytest.raises(ConfigError, match="cuda:7"):
        run_classifiers(data, data, resnet.model_copy(update={"device": "cuda:7"}), tiny, 1.0)
    fewer = replace(data, features=data.features[:, 1:])
    with pytest.raises(DataError, match="columns"):
        run_classifiers(data, fewer, TREES, tiny, 1.0)


def test_comparable_is_the_whole_protocol() -> None:
    geometry, config = load_geometry("ds2"), ClassifierConfig()
    threshold = 0.5e-3 / 0.033
    sizes = Sizes(100_000, 100_000, None, 10, (60, 20, 20))
    assert is_official("dnn", config, geometry, threshold, sizes)
    assert not is_official("resnet", config, geometry, threshold, sizes)
    assert not is_official("trees", config, geometry, threshold, sizes)
    assert not is_official("dnn", config, geometry, 0.0, sizes)
    assert not is_official("dnn", config, geometry, threshold, replace(sizes, generated=90_000))
    smaller = config.model_copy(update={"dnn": DnnConfig(width=512)})
    assert not is_official("dnn", smaller, geometry, threshold, sizes)
    assert not is_official("dnn", config, geometry, threshold, replace(sizes, seeds=9))
    assert not is_official("dnn", config, load_geometry("ds1_photons"), 1.0, sizes)
    assert not is_official("dnn", config, load_geometry("ild_30x30x30"), 0.0, sizes)
