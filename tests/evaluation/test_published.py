"""Every way in which the showers of an evaluation are not the challenge's is named."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from caloray.evaluation.axes import default_threshold
from caloray.evaluation.published import BENCHMARKS, Benchmark, benchmark_of, data_reasons
from caloray.geometry import load_geometry
from caloray.io.known import by_name, files_of

DS2 = BENCHMARKS[2]


def record_of(benchmark: Benchmark) -> dict[str, Any]:
    files = [{"name": file.name, "md5": file.md5, "sha256": "0" * 64} for file in benchmark.files]
    return {
        "geometry": {"name": benchmark.name, "digest": load_geometry(benchmark.name).digest},
        "threshold": default_threshold(load_geometry(benchmark.name)),
        "reference": {"name": "ours", "digest": "1" * 64, "showers": benchmark.showers, "files": files},
        "generated": {"name": "flow.hdf5", "digest": "2" * 64, "showers": benchmark.showers, "files": []},
        "incident_energy": {"ks_distance": 0.003, "ks_probability": 0.5, "identical": False},
    }


@pytest.fixture
def record() -> dict[str, Any]:
    return copy.deepcopy(record_of(DS2))


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda item: item.name)
def test_benchmarks_agree_with_the_rest_of_the_package(benchmark: Benchmark) -> None:
    assert data_reasons(record_of(benchmark)) == []
    assert benchmark_of(load_geometry(benchmark.name).digest) is benchmark
    assert benchmark.threshold == default_threshold(load_geometry(benchmark.name))
    assert len(benchmark.files) == len(benchmark.references)
    assert set(benchmark.files) < set(files_of(benchmark.name))
    assert all(file == by_name(file.name) and file.dataset == benchmark.name for file in benchmark.files)


def test_numbers_of_the_publication() -> None:
    found = [(one.name, one.showers, round(one.threshold, 6)) for one in BENCHMARKS]
    assert found == [
        ("ds1_photons", 121_000, 1.0),
        ("ds1_pions", 120_800, 1.0),
        ("ds2", 100_000, 0.015152),
        ("ds3", 100_000, 0.015152),
    ]


def test_the_file_is_known_by_either_hash(record: dict[str, Any]) -> None:
    record["reference"]["files"] = [{"name": "x.hdf5", "sha256": DS2.sha256[0], "md5": None}]
    assert data_reasons(record) == []
    del record["reference"]["files"]
    record["reference"]["digest"] = DS2.sha256[0]
    assert data_reasons(record) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"files": [{"name": "g4.hdf5", "md5": "0" * 32, "sha256": "3" * 64}]},
            "reference is g4.hdf5, not dataset_2_2.hdf5",
        ),
        ({"files": [], "name": "shards"}, "reference is shards, not dataset_2_2.hdf5"),
        (
            {"files": [{"name": "a", "md5": file.md5} for file in files_of("ds2")]},
            "reference is dataset_2_1.hdf5 and dataset_2_2.hdf5, not dataset_2_2.hdf5",
        ),
        (
            {"files": [{"name": "dataset_2_2.hdf5", "md5": files_of("ds2")[0].md5}]},
            "reference is dataset_2_1.hdf5, not dataset_2_2.hdf5",
        ),
        (
            {"files": [{"name": "dataset_2_2.hdf5", "md5": "0" * 32}]},
            "reference is another dataset_2_2.hdf5, not dataset_2_2.hdf5",
        ),
        (
            {"files": [{"name": name, "md5": ""} for name in "abcd"]},
            "reference is a and b and 2 more, not dataset_2_2.hdf5",
        ),
        ({"digest": "2" * 64}, "reference and generated are the same showers"),
        ({"showers": 99_999}, "99,999 reference showers instead of 100,000"),
    ],
)
def test_another_reference(record: dict[str, Any], change: dict[str, Any], expected: str) -> None:
    record["reference"] |= change
    assert data_reasons(record) == [expected]


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        ("generated", {"showers": 2143}, "2,143 generated showers instead of 100,000"),
        (
            "incident_energy",
            {"ks_probability": 1e-9},
            "incident energies of another spectrum (two-sample probability 1e-09)",
        ),
        ("geometry", {"name": "ild", "digest": "5" * 64}, "geometry ild is none of the CaloChallenge's"),
    ],
)
def test_other_showers(record: dict[str, Any], key: str, change: dict[str, Any], expected: str) -> None:
    record[key] |= change
    assert data_reasons(record) == [expected]


def test_thresholds(record: dict[str, Any]) -> None:
    record["threshold"] = 0.01515
    assert data_reasons(record) == []
    record["threshold"] = 0.0152
    assert data_reasons(record) == ["threshold 15.2 keV instead of 15.15 keV"]


def test_all_differences_are_named(record: dict[str, Any]) -> None:
    record |= {"threshold": 1.0, "reference": record["reference"] | {"files": [], "showers": 10}}
    assert len(data_reasons(record)) == 3
