"""A small made-up record of an evaluation that has every key a report can show."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Make = Callable[..., dict[str, Any]]

EDGES = {
    "e_ratio": np.linspace(0.5, 1.5, 21),
    "incident_energy": np.geomspace(1e3, 1e5, 11),
    "voxel_energy": np.geomspace(0.1, 1e3, 11),
    "hits": np.linspace(-0.5, 40.5, 11),
    "start": np.arange(-1.5, 3),
    "r50": np.linspace(0, 20, 11),
    "depth_mean": np.linspace(0, 2, 11),
    "layer_energy": np.geomspace(0.1, 1e3, 11),
    "sparsity": np.linspace(0, 1, 11),
    "layer_hits": np.linspace(-0.5, 9.5, 11),
    "centre_r": np.linspace(0, 20, 11),
    "width_r": np.linspace(0, 20, 11),
}
LAYERED = ("layer_energy", "sparsity", "layer_hits", "centre_r", "width_r")
LOG = ("incident_energy", "voxel_energy", "layer_energy")


def histogram(
    rng: np.random.Generator, observable: str, layer: int | None, shift: float, showers: tuple[int, int]
) -> dict[str, Any]:
    edges = EDGES[observable]
    middle = np.linspace(-2, 2, len(edges) - 1)
    shapes = np.exp(-0.5 * middle**2), np.exp(-0.5 * (middle - shift) ** 2)
    sides = []
    for shape, number in zip(shapes, showers, strict=True):
        counts = np.random.default_rng(len(edges)).multinomial(number, shape / shape.sum()).tolist()
        side: dict[str, Any] = {"counts": counts, "underflow": 0, "overflow": 1}
        if observable == "voxel_energy":
            side["sum_squares"] = [4 * count for count in counts]
        sides.append(side)
    value = float(0.01 + 0.1 * shift + 0.001 * rng.random())
    return {
        "name": observable if layer is None else f"{observable}/{layer:02d}",
        "observable": observable,
        "layer": layer,
        "window": None,
        "scale": "log" if observable in LOG else "linear",
        "edges": edges.tolist(),
        "reference": sides[0],
        "generated": sides[1],
        "separation": value,
        "floor": 0.0117,
        "floor_spread": 0.0021,
        "ratio": value / 0.0117,
        "significance": (value - 0.0117) / 0.0021,
        "chi2": 12.5,
        "ndf": 10,
        "chi2_per_ndf": 1.25,
        "chi2_floor": 0.98,
        "chi2_floor_spread": 0.31,
        "chi2_significance": None if observable == "voxel_energy" else 0.9,
        "chi2_rank": [13, 20],
    }


def metric(name: str, label: str, value: float, **other: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "name": name,
        "label": label,
        "value": value,
        "floor": 0.0123,
        "spread": 0.00456,
        "matched": value + 0.00789,
        "showers": [1234, 567],
        "pair_showers": 283,
        "pairs": 10,
        "error": 0.00321,
        "better": "lower",
        "comparable": False,
        "settings": {"batch": 77, "floors": [0.25, 0.5]},
        "note": "",
    } | other
    sign = 1 if made["better"] == "lower" else -1
    spread = made["spread"]
    return made | {"significance": sign * (made["matched"] - made["floor"]) / spread if spread else None}


def classifier(value: float) -> dict[str, Any]:
    rate = np.linspace(0, 1, 11)
    return {
        "input": "high",
        "model": "trees",
        "title": "boosted trees on high-level features",
        "comparable": False,
        "settings": {"leaves": 31},
        "auc": metric("auc/high/trees", "AUC, boosted trees", value, floor=0.501),
        "jsd": metric("jsd/high/trees", "JSD, boosted trees", 0.0654),
        "roc": {"fpr": rate.tolist(), "tpr": (rate**0.5).tolist()},
        "floor_roc": {"fpr": rate.tolist(), "tpr": rate.tolist()},
        "calibration": {"predicted": [0.2, 0.8], "observed": [0.25, 0.7], "counts": [40, 60]},
        "runs": [{"seed": 5, "auc": 0.6171, "auc_raw": 0.6272, "jsd": 0.05, "epochs": 3, "best_epoch": 2}],
    }


def timing(factor: float) -> dict[str, Any]:
    ms = {
        "median": 12.34 * factor,
        "low": 11.0 * factor,
        "high": 15.0 * factor,
        "mean": 12.5,
        "std": 0.5,
        "least": 10.5,
    }
    done = {
        "batch": 100,
        "showers": 1000,
        "repetitions": 10,
        "ms": ms,
        "cpu_ms": ms,
        "skipped": None,
        "note": "",
    }
    skipped = done | {"batch": 10_000, "ms": None, "cpu_ms": None, "skipped": "out of memory"}
    first = done | {"batch": 1}
    return {
        "device": "cpu",
        "hardware": "a processor",
        "threads": 1,
        "machine": {"cpu": "a processor"},
        "parameters": {"training": 98765, "generation": 98765},
        "measurements": [first, done, skipped],
        "geant4": {
            "seconds": 1.75,
            "note": "",
            "speed_up": [{"batch": 100, "value": 141.8, "low": 120.0, "high": 160.0}],
        },
    }


def means(scale: float, n: int) -> dict[str, Any]:
    values = np.linspace(40.0, 60.0, n)
    return {
        "reference": {"mean": values.tolist(), "error": [1.5] * n},
        "generated": {"mean": (scale * values).tolist(), "error": [1.5] * n},
        "ratio": {"value": [scale] * n, "error": [0.04] * n},
    }


def geometry() -> dict[str, Any]:
    layer = {"first": [-np.pi, 0.0, np.pi], "second": [0.0, 10.0, 20.0], "depth": None}
    layers = [{"id": 0, **layer}, {"id": 12, **layer}]
    described = {"name": "tiny", "kind": "cylindrical", "particle": "electron", "layers": layers}
    return described | {"digest": "9" * 64, "binning": "other"}


def separations(histograms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for observable in EDGES:
        first = next(one for one in histograms if one["observable"] == observable)
        layered = observable in LAYERED
        rows.append(
            {
                "observable": observable,
                "histograms": 2 if layered else 1,
                **{k: first[k] for k in ("separation", "floor", "floor_spread", "ratio", "significance")},
                **{k: v for k, v in first.items() if k.startswith("chi2_")},
                "worst_layer": 1 if layered else None,
                "worst_separation": 0.0777,
                "outside": {"reference": 0.0, "generated": 0.0123},
            }
        )
    return rows


def summary() -> dict[str, Any]:
    single = {
        side: {"value": value, "error": 0.0011}
        for side, value in (("reference", 0.9511), ("generated", 0.9622), ("ratio", 1.0117))
    }
    worst = {"layer": 1, "share": 0.4, "ratio": 1.0444, "error": 0.0555}
    names = ("e_ratio_mean", "e_ratio_width", "hits_mean", "sparsity_mean")
    return dict.fromkeys(names, single) | {"worst_layer": worst, "worst_layer_share": 0.005}


def profile(shift: float, condition: str = "theta") -> dict[str, Any]:
    """Two quantities in three bins; nothing generated in the last."""
    quantities = []
    for name, label, unit in (("e_ratio", "E_tot / E_inc", ""), ("centre_along", "centre along", "mm")):
        quantities.append(
            {
                "name": name,
                "label": label,
                "unit": unit,
                "reference": {"mean": [0.81, 0.82, 0.83], "error": [0.011, 0.012, 0.013]},
                "generated": {"mean": [0.8, 0.8 - 0.1 * shift, None], "error": [0.011, 0.012, None]},
                "floor": [0.016, 0.017, None],
                "pulls": [-0.5, -4.321, None],
                "chi2": 18.9,
                "ndf": 2,
                "metric": f"profile/{condition}/{name}",
            }
        )
    return {
        "condition": condition,
        "label": "θ" if condition == "theta" else condition,
        "unit": "deg",
        "edges": [0.0, 17.0, 31.0, 44.0],
        "middles": [9.0, 24.0, 38.0],
        "showers": {"reference": [300, 300, 300], "generated": [300, 300, 0]},
        "quantities": quantities,
    }


@pytest.fixture
def make_profile() -> Make:
    """Made-up profiles: ``make_profile(shift, condition)``."""
    return profile


def extras(shift: float) -> dict[str, Any]:
    """What a record may lack."""
    voxels = np.geomspace(0.01, 10.0, 8)
    matrices = {"reference": [[1.0, 0.4], [0.4, 1.0]], "generated": [[1.0, 0.3], [0.3, None]]}
    return {
        "average_voxels": {"reference": voxels.tolist(), "generated": (1.05 * voxels).tolist()},
        "correlations": matrices | {"difference_floor": 0.02},
        "metrics": [
            metric("fpd", "Fréchet physics distance", 0.0432, note="567 showers, not 100,000"),
            metric("coverage", "coverage", 0.912, better="higher", comparable=True, floor=0.95),
            metric("copies", "copies", 0.0, spread=0.0),
        ],
        "classifiers": [classifier(0.6173 + 0.1 * shift)],
        "timing": timing(1.0 + shift),
        "diphoton": None,
        "versions": {"numpy": "2.4.6"},
    }


def record(name: str = "gen.hdf5", shift: float = 0.2, *, showers: int = 567) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    sizes = 1234, showers
    histograms = [histogram(rng, o, None, shift, sizes) for o in EDGES if o not in LAYERED]
    histograms += [histogram(rng, o, i, shift, sizes) for o in LAYERED for i in range(2)]
    vectors = {"layer_energy", "layer_hits", "radial_energy"}
    return {
        "schema": "caloray-results/2",
        "caloray": "0.1.0",
        "geometry": geometry(),
        "radial_edges": [0.0, 10.0, 20.0],
        "threshold": 0.0151515,
        "seed": 4,
        "halvings": 20,
        "reference": {"name": "ref.hdf5", "digest": "a" * 64, "showers": 1234},
        "generated": {"name": name, "digest": "b" * 64, "showers": showers},
        "incident_energy": {"identical": False, "ks_distance": 0.0345, "ks_probability": 0.678},
        "warnings": ["the incident energies differ"],
        "summary": summary(),
        "separations": separations(histograms),
        "means": {
            key: means(1.0 + 0.1 * shift, 2 if key in vectors else 1)
            for key in (*sorted(vectors), "e_ratio", "hits", "sparsity")
        },
        "average_shower": {"reference": [[9.0, 3.0], [4.0, 1.0]], "generated": [[9.0, 2.9], [4.1, 0.0]]},
        "histograms": histograms,
        **extras(shift),
    }


@pytest.fixture
def make() -> Make:
    """Made-up records: ``make(name, shift, showers=...)``."""
    return record


@pytest.fixture(scope="session")
def pair() -> list[dict[str, Any]]:
    """Two models against one reference."""
    return [copy.deepcopy(record("teacher")), record("student", 0.6, showers=300)]
