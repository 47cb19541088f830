"""A results.json that could be ranked, and ways to spoil it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caloray.evaluation.results import SCHEMA
from caloray.geometry import load_geometry
from caloray.leaderboard.benchmark import OFFICIAL_CLASSIFIERS, find_benchmark

Save = Callable[[dict[str, Any]], Path]


def metric(name: str, value: float, floor: float, **more: Any) -> dict[str, Any]:
    """A metric as evaluations write it."""
    return {
        "name": name,
        "label": name.upper(),
        "value": value,
        "floor": floor,
        "spread": 0.1 * floor,
        "matched": 1.5 * value,
        "significance": 3.0,
        "error": 0.05 * value,
        "comparable": True,
        "note": "",
        **more,
    }


def classifier(kind: str, model: str, auc: float) -> dict[str, Any]:
    return {
        "input": kind,
        "model": model,
        "comparable": True,
        "settings": dict(OFFICIAL_CLASSIFIERS[model]),
        "runs": [{"seed": seed, "auc": auc} for seed in range(10)],
    }


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


def complete(dataset: str = "ds2") -> dict[str, Any]:
    """Results to which nothing can be objected."""
    official = find_benchmark(dataset)
    geometry = load_geometry(dataset)
    files = [{"name": file.name, "md5": file.md5, "sha256": "0" * 64} for file in official.files]
    separation = {"observable": "e_ratio", "separation": 3e-3, "floor": 4e-4, "floor_spread": 1e-4}
    return {
        "schema": SCHEMA,
        "geometry": {"name": geometry.name, "digest": geometry.digest},
        "threshold": official.threshold,
        "reference": {"name": "ours", "digest": "1" * 64, "showers": official.showers, "files": files},
        "generated": {"name": "flow.hdf5", "digest": "2" * 64, "showers": official.showers},
        "incident_energy": {"ks_distance": 0.003, "ks_probability": 0.5, "identical": False},
        "warnings": [],
        "summary": {},
        "separations": [separation, {**separation, "observable": "hits"}],
        "metrics": [
            metric("fpd", 0.1, 0.01),
            metric("kpd", 2e-4, -3e-5, spread=2e-5),
            metric("auc/low/dnn", 0.6, 0.5),
            metric("auc/high/trees", 0.9, 0.5, comparable=False),
            metric("precision", 0.7, 0.8, comparable=False),
        ],
        "classifiers": [classifier("low", "dnn", 0.6), classifier("low", "resnet", 0.9)],
        "timing": timing(),
    }


@pytest.fixture
def results() -> dict[str, Any]:
    return copy.deepcopy(complete())


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def write(record: dict[str, Any], name: str = "results.json") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record))
        return path

    return write
