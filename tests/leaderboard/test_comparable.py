"""Every way in which results are not the challenge's keeps them out of the ranking, and is named."""

from __future__ import annotations

import pytest

from caloray.errors import DataError
from caloray.leaderboard.benchmark import find_benchmark
from caloray.leaderboard.columns import COLUMNS
from caloray.leaderboard.comparable import reasons_against, remarks
from caloray.leaderboard.entrant import METRICS, OPTIONAL, SEPARATIONS, read_entrant

DS2 = find_benchmark("ds2")


def reasons(path, benchmark=DS2):
    return reasons_against(read_entrant(path), benchmark)


def row(record, name):
    return next(metric for metric in record["metrics"] if metric["name"] == name)


def classifier(record, model):
    return next(item for item in record["classifiers"] if (item["input"], item["model"]) == ("low", model))


def test_the_evaluation_writes_what_is_read(evaluated):
    """Names and flags are those of a real evaluation by the whole protocol."""
    names = {metric["name"]: metric["comparable"] for metric in evaluated["metrics"]}
    assert set(METRICS) <= set(names)
    assert set(OPTIONAL) < set(METRICS)
    required = set(METRICS) - set(OPTIONAL)
    assert {name for name, comparable in names.items() if comparable} == required | {
        name.replace("auc", "jsd") for name in required if "/" in name
    }
    observables = {one["observable"] for one in evaluated["separations"]}
    assert set(SEPARATIONS) - {"centre_eta", "centre_phi", "width_eta"} <= observables
    columns = {column.key for column in COLUMNS}
    assert {key for key, _ in METRICS.values()} | set(SEPARATIONS.values()) <= columns


def test_nothing_against_the_real_thing(results, save):
    assert reasons(save(results)) == ()


def test_columns_that_are_not_comparable_are_left_out_one_by_one(results, save):
    entrant = read_entrant(save(results))
    left = ["auc_resnet", "coverage", "density", "precision", "recall"]
    assert sorted(entrant.left_out) == left
    assert set(left) <= set(entrant.entry.values)
    assert not set(left) & set(entrant.ranked_entry.values)
    assert not set(left) & set(entrant.ranked_entry.errors)
    assert {"fpd", "kpd", "auc_low", "auc_high"} <= set(entrant.ranked_entry.values)
    labels = "AUC ResNet, precision, recall, density, coverage"
    assert remarks(entrant)[0].endswith(f"as the published numbers: {labels}")
    row(results, "prdc/density")["comparable"] = True
    assert "density" in read_entrant(save(results)).ranked_entry.values


def test_a_resnet_that_is_not_the_challenges_costs_its_column_only(results, save):
    classifier(results, "resnet")["runs"] = []
    classifier(results, "resnet")["settings"]["epochs"] = 1
    assert reasons(save(results)) == ()


def test_other_data_do_not_blame_the_protocol(results, save):
    """An evaluation on other showers writes that none of its numbers is comparable."""
    results["threshold"] = 0.0
    for record in (*results["metrics"], *results["classifiers"]):
        record["comparable"] = False
    results["not_comparable"] = ["threshold 0 keV instead of 15.15 keV", "something else"]
    assert reasons(save(results)) == ("threshold 0 keV instead of 15.15 keV", "something else")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda r: r["generated"].update(showers=2143), "2,143 generated showers instead of 100,000"),
        (
            lambda r: row(r, "fpd").update(comparable=False, note="2,000 showers instead of 50,000"),
            "Fréchet physics distance does not follow the protocol (2,000 showers instead of 50,000)",
        ),
        (
            lambda r: classifier(r, "dnn")["settings"].update(width=512, epochs=20),
            "classifier low/dnn: epochs 20 instead of 50, width 512 instead of 2048",
        ),
        (
            lambda r: classifier(r, "dnn").update(runs=[{}] * 3),
            "classifier low/dnn: 3 trainings instead of 10",
        ),
        (
            lambda r: classifier(r, "dnn").update(comparable=False),
            "classifier low/dnn does not follow the protocol",
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
    kpd = row(results, "kpd")
    assert entrant.floors["kpd"].spread == pytest.approx(1e3 * kpd["spread"])
    response = next(one for one in results["separations"] if one["observable"] == "e_ratio")
    assert entrant.entry.values["separation_e_total"] == response["separation"]
    assert entrant.entry.values["cpu_1"] == 81.0
    assert entrant.entry.values["parameters_generation"] == 6e6
    assert "cpu_100" not in entrant.entry.values
    assert {"fpd", "kpd", "auc_low", "auc_resnet", "recall", "separation_e_total"} <= set(entrant.floors)
    assert entrant.hardware == "A processor, 1 CPU thread(s), back-end native avx512"
