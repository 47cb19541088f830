"""The whole test: equal samples agree, a broader one is found, the record is plain and repeatable."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caloray.errors import DataError, GeometryError
from caloray.evaluation.diphoton import PairSettings, compare_diphotons
from caloray.showers import Showers

SETTINGS = PairSettings.of(
    distances=(0, 5, 10, 12, 14, 16, 18, 20, 25, 30), pairs=300, halvings=10, replicas=20, smoothing=0.6
)


def metrics_of(record):
    return {metric["name"]: metric for metric in record["metrics"]}


@pytest.fixture(scope="module")
def reference(source, grid, photons):
    return source(photons(400, 11), grid)


@pytest.fixture(scope="module")
def equal(source, grid, photons, reference):
    return compare_diphotons(reference, source(photons(400, 12), grid), SETTINGS, names=("Geant4", "flow"))


def test_equal_samples_agree(equal):
    for difference in equal["differences"]:
        pull = np.array(difference["delta"]) / np.array(difference["error"])
        assert np.abs(pull).max() < 4
    metrics = metrics_of(equal)
    assert set(metrics) == {
        f"diphoton/{name}" for name in ("delta", "delta_mixed", "d50", "plateau", "false_split")
    }
    assert all(metric["significance"] is None or metric["significance"] < 3.5 for metric in metrics.values())
    assert metrics["diphoton/delta"]["floor"] > 0
    assert metrics["diphoton/delta"]["pair_showers"] == 200
    assert equal["warnings"] == []


def test_a_broader_sample_is_found(source, grid, photons, reference):
    broad = source(photons(400, 12, width=2.2 * 1.2), grid)
    record = compare_diphotons(reference, broad, SETTINGS)
    metrics = metrics_of(record)
    assert metrics["diphoton/delta"]["significance"] > 3
    assert metrics["diphoton/d50"]["significance"] > 3
    assert metrics["diphoton/d50"]["value"] > 4 * metrics["diphoton/d50"]["error"]
    real, new, mixed = (curve["fit"]["d50"]["value"] for curve in record["curves"])
    assert real < mixed < new


def test_the_record_is_plain_json_and_repeatable(source, grid, photons, equal):
    again = compare_diphotons(
        source(photons(400, 11), grid, rows=37),
        source(photons(400, 12), grid, rows=91),
        SETTINGS,
        names=("Geant4", "flow"),
    )
    assert json.dumps(again, allow_nan=False) == json.dumps(equal, allow_nan=False)
    assert again["schema"] == "caloray-diphoton/1"
    for curve in again["curves"]:
        assert len(curve["probability"]) == len(curve["error"]) == len(SETTINGS.distances)
        assert curve["resolved"] == [round(300 * share) for share in curve["probability"]]
        assert np.all(np.array(curve["near"]) <= np.array(curve["probability"]))
        assert np.all(np.array(curve["error"]) >= np.array(curve["binomial"]) * 0.999)


def test_without_a_generated_sample_there_is_one_curve(reference):
    calls = []
    record = compare_diphotons(reference, settings=SETTINGS, progress=lambda *call: calls.append(call))
    assert [curve["name"] for curve in record["curves"]] == ["reference-reference"]
    assert record["generated"] is None
    assert record["metrics"] == record["differences"] == []
    assert calls[-1] == ("pairs", 3000, 3000)


def test_the_same_showers_on_both_sides_are_named(reference):
    few = SETTINGS.model_copy(update={"pairs": 50, "distances": (0.0, 12.0, 30.0)})
    record = compare_diphotons(reference, reference, few, names=("Geant4", "flow"))
    assert any(
        text.startswith("400 of 400 showers of flow near these energies") for text in record["warnings"]
    )
    assert record["curves"][0]["fit"] is None
    assert "d50" not in " ".join(metric["name"] for metric in record["metrics"])


def test_equal_energies_share_their_window(reference):
    few = SETTINGS.model_copy(update={"pairs": 50, "energies": (5000.0, 5000.0)})
    record = compare_diphotons(reference, reference, few)
    assert [photon["showers"] for photon in record["reference"]["photons"]] == [200, 200]
    assert metrics_of(record)["diphoton/delta"]["pair_showers"] == 100


def test_what_cannot_be_compared(source, grid, make_grid, photons, reference):
    coarse = make_grid(2, 15, 3.4)
    other = source(Showers(np.ones(3), np.ones((3, coarse.n_voxels)), np.arange(3)), coarse)
    with pytest.raises(GeometryError, match="expected one geometry"):
        compare_diphotons(reference, other, SETTINGS)
    with pytest.raises(DataError, match="generated: 15 showers from 14,000 to 26,000 MeV"):
        compare_diphotons(reference, source(photons(30, 1), grid), SETTINGS)
    shifted = photons(400, 13)
    moved = source(Showers(1.04 * shifted.incident_energies, shifted.voxels, shifted.ids), grid)
    few = SETTINGS.model_copy(update={"pairs": 50, "halvings": 10})
    assert any("mean energy" in text for text in compare_diphotons(reference, moved, few)["warnings"])
