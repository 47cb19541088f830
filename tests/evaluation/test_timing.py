"""The record of a timing, on the toy model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from threadpoolctl import threadpool_info

from caloray.bundle import Bundle
from caloray.calibration.rewrite import with_postprocess
from caloray.errors import ConfigError, DataError, GeometryError
from caloray.evaluation import timing
from caloray.evaluation.parameters import count_parameters
from caloray.evaluation.timing import SCHEMA, TimingSettings, add_geant4, time_bundle
from caloray.io.challenge import write_challenge
from caloray.io.origin import geant4_time
from caloray.postprocess.renormalise import Renormalise

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"
QUICK = TimingSettings(batches=(1, 3, 20), repetitions=2, limit=60)


@pytest.fixture(scope="module")
def record(bundle_path):
    return time_bundle(bundle_path, QUICK)


@pytest.fixture
def geant4(toy, tmp_path):
    """A file of the toy detector with 50 CPU seconds for its 100 showers."""

    def write(**attrs):
        path = tmp_path / "geant4.hdf5"
        write_challenge(path, toy.GEOMETRY, [toy.showers(100)], attrs=attrs)
        return "geant4.hdf5", geant4_time(path, toy.GEOMETRY)

    return write


def test_structure(record, bundle_path):
    bundle = Bundle.load(bundle_path)
    assert record["schema"] == SCHEMA
    assert record["bundle"] == bundle.digest
    assert record["energies"] == [pytest.approx(value) for value in bundle.energy_range]
    assert record["threads"] == 1
    assert record["machine"]["cpu"] == record["hardware"] != ""
    assert record["machine"]["torch"] == str(torch.__version__)
    assert record["load_s"] > 0
    assert record["geant4"] is None
    assert [item["batch"] for item in record["measurements"]] == [1, 3, 20]
    assert [item["rows_at_once"] for item in record["measurements"]] == [1, 3, 8]
    for item in record["measurements"]:
        assert item["skipped"] is None
        assert item["first_s"] > 0
        assert item["showers"] > 0
        assert item["ms"]["least"] <= item["ms"]["median"]
        assert item["peak_memory_mb"] > 1
        assert item["peak_gpu_mb"] is None
    peaks = [item["peak_memory_mb"] for item in record["measurements"]]
    assert peaks == sorted(peaks)
    json.dumps(record, allow_nan=False)


def test_what_is_timed_is_the_whole_way_of_the_bundle(bundle_path, tmp_path):
    """Post-processing included: the threshold of the step is in the showers."""
    made = with_postprocess(bundle_path, tmp_path / "made", (Renormalise(threshold=200.0),))
    plain, corrected = (
        timing._drawing(bundle, (2e3, 4e4), 1)(8, 0) for bundle in (Bundle.load(bundle_path), made)
    )
    assert (plain[plain > 0] < 200.0).any()
    assert (corrected[corrected > 0] >= 200.0).all()
    assert (corrected > 0).any()


def test_parameters_are_those_of_the_flows(record, toy, bundle_path):
    flows = {name: toy.scheme().component(name).build() for name in toy.COMPONENTS}
    expected = {name: sum(p.numel() for p in flow.parameters()) for name, flow in flows.items()}
    found = count_parameters(Bundle.load(bundle_path).file)
    assert dict(found.components) == expected
    assert found.training == found.generation == sum(expected.values())
    assert record["parameters"] == found.to_dict()


def test_threads_are_put_back(bundle_path):
    before = torch.get_num_threads()
    record = time_bundle(bundle_path, TimingSettings(batches=(1,), repetitions=1, threads=before + 1))
    assert torch.get_num_threads() == before
    assert record["threads"] == before + 1


def busy(record, share):
    """The record with a number of CPUs kept busy per batch."""
    items = []
    for item, cpus in zip(record["measurements"], share, strict=True):
        items.append(item | {"cpu_ms": item["cpu_ms"] | {"median": cpus * item["ms"]["median"]}})
    return record | {"measurements": items}


def test_speed_up(record, geant4):
    found = add_geant4(busy(record, [1.0, 0.4, 1.04]), *geant4(cpu_s=50.0))["geant4"]
    assert found["seconds"] == pytest.approx(0.5)
    assert found["showers"] == 100
    for row, item in zip(found["speed_up"], record["measurements"], strict=True):
        assert row["value"] == pytest.approx(500.0 / item["ms"]["median"])
        assert row["low"] <= row["value"] <= row["high"]
    assert found["note"].startswith("machines may differ")
    assert record["geant4"] is None


def test_no_speed_up_where_more_than_one_cpu_worked(record, geant4):
    found = add_geant4(busy(record, [1.0, 1.3, 1.0]), *geant4(cpu_s=50.0))["geant4"]
    assert [row["batch"] for row in found["speed_up"]] == [1, 20]
    assert "no speed-up for batch 3: it used 1.30 CPUs" in found["note"]


def test_libraries_keep_to_the_threads(bundle_path, monkeypatch):
    seen = []

    def described(file):
        seen.extend(one["num_threads"] for one in threadpool_info())
        return count_parameters(file)

    monkeypatch.setattr(timing, "_measurements", lambda bundle, *_: [described(bundle.file)])
    before = threadpool_info()
    time_bundle(bundle_path, TimingSettings(threads=1))
    assert seen
    assert set(seen) == {1}
    assert threadpool_info() == before


def test_other_threads_are_noted():
    item = {"ms": {"median": 1.0}, "cpu_ms": {"median": 2.2}}
    assert timing._disturbed(item, 1) == "not only the 1 thread(s) asked for worked: 2.20 CPUs"
    assert timing._disturbed(item, 3) == ""
    assert "disturbed" in timing._disturbed(item | {"cpu_ms": {"median": 0.5}}, 1)


def test_speed_up_is_for_one_thread(record, geant4):
    found = add_geant4(record | {"threads": 2}, *geant4(cpu_s=50.0))["geant4"]
    assert found["speed_up"] == []
    assert "one CPU thread only" in found["note"]


def test_other_energies_are_noted(record, geant4):
    found = add_geant4(record, *geant4(cpu_s=50.0, emin=1e3, emax=1e6))["geant4"]
    assert "for 1000 to 1e+06 MeV" in found["note"]


def test_unknown_time_of_geant4(record, geant4):
    found = add_geant4(record, *geant4())["geant4"]
    assert found["seconds"] is None
    assert found["speed_up"] == []
    assert "'cpu_s'" in found["note"]


def test_troubles(bundle_path, tmp_path):
    with pytest.raises(GeometryError, match="ds2"):
        time_bundle(bundle_path, QUICK, reference=SAMPLE)
    with pytest.raises(DataError, match="nowhere"):
        time_bundle(bundle_path, QUICK, reference=tmp_path / "nowhere")
    for wrong in ({"batches": (0,)}, {"batches": ()}, {"repetitions": 0}, {"threads": 0}, {"limit": 0.0}):
        with pytest.raises(ConfigError, match="timing"):
            TimingSettings(**wrong)
