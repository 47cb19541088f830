"""All metrics together, on a small readout: each with its floor, or left out in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from caloray.evaluation.classifiers.config import PRESETS, TreesConfig
from caloray.evaluation.run import evaluate, evaluate_all
from caloray.evaluation.settings import QUICK, MetricSettings
from caloray.geometry import load_geometry
from caloray.showers import Showers

GEOMETRY = load_geometry("ds1_photons")
SOME = MetricSettings(pairs=3, manifold=120, classifiers="trees")
NAMES = {"fpd", "kpd", "wasserstein/r50", "wasserstein/layer_energy", "prdc/coverage", "duplicates"}


@pytest.fixture(autouse=True)
def small_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    trees = TreesConfig(iterations=5, seeds=3)
    monkeypatch.setitem(PRESETS, "trees", PRESETS["trees"].model_copy(update={"trees": trees}))


@pytest.fixture
def make(source: Callable[..., Any]) -> Callable[..., Any]:
    def showers(n: int, seed: int, scale: float = 1.0) -> Any:
        draws = np.random.default_rng(seed)
        energies = 2.0 ** draws.integers(10, 14, n)
        voxels = draws.gamma(0.3, 1.0, (n, GEOMETRY.n_voxels))
        voxels *= scale * (energies * draws.normal(0.9, 0.05, n) / voxels.sum(axis=1))[:, None]
        return source(Showers(energies, voxels, np.arange(n)), GEOMETRY)

    return showers


def test_every_metric_has_its_floor(make: Callable[..., Any]) -> None:
    record = evaluate(make(240, 1), make(240, 2), training=make(300, 3), metrics=SOME, seed=1).data
    metrics = {row["name"]: row for row in record["metrics"]}
    assert NAMES | {"copies", "closeness", "correlation", "auc/high/trees", "jsd/high/trees"} <= set(metrics)
    for row in metrics.values():
        assert np.isfinite([row["value"], row["floor"], row["matched"]]).all(), row["name"]
        assert row["pair_showers"] <= 120, row["name"]
        assert not row["comparable"], row["name"]
    assert record["warnings"] == []
    assert record["settings"]["manifold"] == 120
    assert len(record["classifiers"]) == 1


def test_equal_samples_are_at_the_floor_and_a_scale_is_not(make: Callable[..., Any]) -> None:
    reference = make(400, 1)
    settings = SOME.model_copy(update={"pairs": 10, "classifiers": "none"})
    same, scaled = (
        {row["name"]: row["significance"] for row in one.data["metrics"]}
        for one in evaluate_all(
            reference, {"same": make(400, 2), "scaled": make(400, 2, 1.04)}, metrics=settings
        )
    )
    assert max(same.values()) < 5
    assert scaled["wasserstein/e_ratio"] > 5
    assert scaled["wasserstein/total_energy"] < 5, "hidden by the spread of incident energies"


def test_training_showers_given_back_are_copies(make: Callable[..., Any]) -> None:
    training = make(240, 5)
    settings = SOME.model_copy(update={"classifiers": "none"})
    metrics = evaluate(make(240, 1), training, training=training, metrics=settings).data["metrics"]
    found = {row["name"]: row for row in metrics}
    assert found["copies"]["value"] == 1.0
    assert found["closeness"]["value"] > 0.95


def test_too_few_showers_cost_a_metric_and_not_the_evaluation(make: Callable[..., Any]) -> None:
    record = evaluate(make(60, 1), make(60, 2), metrics=SOME).data
    assert not [row for row in record["metrics"] if row["name"] in {"fpd", "kpd"}]
    for name in ("FPD", "KPD", "classifiers"):
        line = next(line for line in record["warnings"] if line.startswith(f"{name} left out: "))
        assert "60 showers" in line
        assert "\n" not in line
    assert record["separations"]


def test_quick_measures_nothing_of_it(make: Callable[..., Any]) -> None:
    record = evaluate(make(60, 1), make(60, 2), metrics=QUICK).data
    assert {row["name"] for row in record["metrics"]} <= {"correlation", "chi2/e_ratio"}
    assert all(line.startswith(("chi2 of E_tot", "only 60 showers")) for line in record["warnings"])
    assert record["classifiers"] == []


def test_models_are_judged_as_if_alone(make: Callable[..., Any]) -> None:
    reference, models = make(150, 1), {"a": make(150, 2), "b": make(140, 3)}
    settings = SOME.model_copy(update={"classifiers": "none"})
    together = evaluate_all(reference, models, name="Geant4", metrics=settings)
    for name, one in zip(models, together, strict=True):
        alone = evaluate(reference, models[name], names=("Geant4", name), metrics=settings)
        assert alone.data == one.data
