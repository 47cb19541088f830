"""Every way in which results are not the challenge's keeps them out of the ranking, and is named."""

from __future__ import annotations

import pytest

from caloray.errors import DataError
from caloray.leaderboard.benchmark import find_benchmark
from caloray.leaderboard.comparable import reasons_against
from caloray.leaderboard.entrant import read_entrant

DS2 = find_benchmark("ds2")


def reasons(path, benchmark=DS2):
    return reasons_against(read_entrant(path), benchmark)


def test_nothing_against_the_real_thing(results, save):
    assert reasons(save(results)) == ()


def test_the_file_is_known_by_either_hash(results, save):
    results["reference"]["files"] = [{"name": "x.hdf5", "sha256": DS2.sha256[0], "md5": None}]
    assert reasons(save(results)) == ()
    del results["reference"]["files"]
    results["reference"]["digest"] = DS2.sha256[0]
    assert reasons(save(results)) == ()


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda r: r["reference"].update(files=[{"name": "g4.hdf5", "md5": "0" * 32, "sha256": "3" * 64}]),
            "reference is g4.hdf5, not dataset_2_2.hdf5",
        ),
        (
            lambda r: r["reference"].update(files=[], name="shards"),
            "reference is shards, not dataset_2_2.hdf5",
        ),
        (
            lambda r: r["reference"]["files"].append({"name": "dataset_2_1.hdf5", "md5": "0", "sha256": "4"}),
            "reference is dataset_2_1.hdf5 and dataset_2_2.hdf5, not dataset_2_2.hdf5",
        ),
        (
            lambda r: r["reference"]["files"][0].update(md5="e590333e9a2da51b258288d74bd8357a"),
            "reference is dataset_2_1.hdf5, not dataset_2_2.hdf5",
        ),
        (
            lambda r: r["reference"]["files"][0].update(md5="0" * 32),
            "reference is another dataset_2_2.hdf5, not dataset_2_2.hdf5",
        ),
        (lambda r: r["generated"].update(showers=2143), "2,143 generated showers instead of 100,000"),
        (lambda r: r["reference"].update(showers=99_999), "99,999 reference showers instead of 100,000"),
        (lambda r: r.update(threshold=0.0), "threshold 0 keV instead of 15.15 keV"),
        (
            lambda r: r["incident_energy"].update(ks_probability=1e-9),
            "incident energies of another spectrum (two-sample probability 1e-09)",
        ),
        (
            lambda r: r["metrics"][0].update(comparable=False, note="2,000 showers instead of 50,000"),
            "FPD does not follow the protocol (2,000 showers instead of 50,000)",
        ),
        (
            lambda r: r["classifiers"][0]["settings"].update(width=512, epochs=20),
            "classifier low/dnn: width 512 instead of 2048, epochs 20 instead of 50",
        ),
        (
            lambda r: r["classifiers"][1].update(runs=[{}] * 3),
            "classifier low/resnet: 3 trainings instead of 10",
        ),
        (
            lambda r: r["classifiers"][1].update(comparable=False),
            "classifier low/resnet does not follow the protocol",
        ),
    ],
)
def test_each_difference_is_one_line(results, save, spoil, expected):
    spoil(results)
    assert reasons(save(results)) == (expected,)


def test_another_data_set(results, save):
    assert reasons(save(results), find_benchmark("ds3")) == ("geometry ds2, not ds3",)


def test_all_differences_are_named(results, save):
    results["threshold"] = 1.0
    results["generated"]["showers"] = 10
    assert len(reasons(save(results))) == 2


def test_broken_results(results, save, tmp_path):
    del results["generated"]["name"]
    with pytest.raises(DataError, match="incomplete results"):
        read_entrant(save(results))
    with pytest.raises(DataError, match="no results can be read"):
        read_entrant(tmp_path / "nowhere")
    with pytest.raises(DataError, match="schema"):
        read_entrant(save({"schema": "something/9"}))


def test_units_and_floors(results, save):
    entrant = read_entrant(save(results))
    assert entrant.entry.values["fpd"] == pytest.approx(100)
    assert entrant.entry.errors["fpd"] == pytest.approx(5)
    assert entrant.floors["fpd"].value == pytest.approx(10)
    assert entrant.floors["fpd"].matched == pytest.approx(150)
    assert entrant.floors["fpd"].significance == 3.0
    assert entrant.floors["kpd"].spread == pytest.approx(0.02)
    assert entrant.entry.values["separation_e_total"] == 3e-3
    assert entrant.entry.values["cpu_1"] == 81.0
    assert entrant.entry.values["parameters_generation"] == 6e6
    assert "cpu_100" not in entrant.entry.values
    assert "precision" not in entrant.entry.values
    assert set(entrant.floors) == {"fpd", "kpd", "auc_low", "separation_e_total"}
    assert entrant.hardware == "A processor, 1 CPU thread(s), back-end native avx512"
