"""A results.json that could be ranked, as the evaluation itself writes it, and ways to spoil it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.evaluation import fpd, kpd, published
from caloray.evaluation.classifiers.config import (
    PRESETS,
    ClassifierConfig,
    DnnConfig,
    ResnetConfig,
)
from caloray.evaluation.run import evaluate
from caloray.evaluation.settings import MetricSettings
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.known import by_name
from caloray.io.source import open_source
from caloray.leaderboard.benchmark import find_benchmark
from caloray.showers import Showers

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"
SHOWERS = 450
FEW = ClassifierConfig(
    inputs=("low", "high"),
    models=("dnn", "resnet"),
    seeds=3,
    device="cpu",
    dnn=DnnConfig(width=4, epochs=1, dtype="float32"),
    resnet=ResnetConfig(planes=(1, 1, 1, 1), epochs=1, dtype="float32"),
)
OFFICIAL = MetricSettings(pairs=3, manifold=60, classifiers="official")
Save = Callable[[dict[str, Any]], Path]


def timing() -> dict[str, Any]:
    ms = {"median": 80.0, "mean": 81.0, "std": 2.0}
    return {
        "parameters": {"training": 7_000_000, "generation": 6_000_000},
        "device": "cpu",
        "hardware": "A processor",
        "threads": 1,
        "backend": "native avx512",
        "measurements": [{"batch": 1, "ms": ms}, {"batch": 100, "ms": None}, {"batch": 7, "ms": ms}],
    }


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an evaluation writes where nothing but the numbers of showers and trainings differs.

    The sizes that the challenge asks for are made small, and the reference passes for the published file.
    """
    folder = tmp_path_factory.mktemp("evaluated")
    with h5py.File(SAMPLE) as file:
        voxels, energies = file["showers"][: 2 * SHOWERS], file["incident_energies"][: 2 * SHOWERS, 0]
    ds2, geometry = find_benchmark("ds2"), load_geometry("ds2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "official", FEW)
        patch.setattr(published, "BENCHMARKS", (replace(ds2, showers=SHOWERS),))
        patch.setattr(published, "identify", lambda _: by_name(ds2.references[0]))
        for module in (fpd, kpd):
            patch.setattr(module, "FULL_SIZE", SHOWERS)
        patch.setattr(fpd, "BATCHES", 2)
        sources = []
        for i, name in enumerate(("geant4.hdf5", "flow.hdf5")):
            part = slice(i * SHOWERS, (i + 1) * SHOWERS)
            showers = Showers(energies[:SHOWERS].astype(float), voxels[part], np.arange(SHOWERS))
            write_challenge(folder / name, geometry, [showers])
            sources.append(open_source(folder / name))
        record = evaluate(*sources, names=("geant4.hdf5", "flow.hdf5"), metrics=OFFICIAL, n_halvings=2).data
        assert published.data_reasons(record) == []
    return json.loads(json.dumps(record))


@pytest.fixture
def results(evaluated: dict[str, Any]) -> dict[str, Any]:
    """The same at full size: to this nothing can be objected."""
    record = copy.deepcopy(evaluated)
    known, official = find_benchmark("ds2"), PRESETS["official"]
    for side in ("reference", "generated"):
        record[side]["showers"] = known.showers
    record["reference"]["files"][0].update(name=known.references[0], md5=known.files[0].md5)
    for item in record["classifiers"]:
        item["runs"] = [item["runs"][0] | {"seed": seed} for seed in range(official.seeds)]
        if item["model"] == "dnn":
            item["settings"] |= official.dnn.model_dump(mode="json")
    metrics = {metric["name"]: metric for metric in record["metrics"]}
    numbers = {"value": 0.1, "floor": 0.01, "spread": 0.001, "matched": 0.15, "error": 0.005}
    metrics["fpd"] |= numbers | {"significance": 3.0}
    return record | {"timing": timing()}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(record: dict[str, Any], name: str = "results.json") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        return path

    return write
