"""The carried numbers are the published ones; the expected values are copied from the source by hand."""

from __future__ import annotations

import math

import pytest

from caloray.errors import ConfigError
from caloray.leaderboard.benchmark import find_benchmark
from caloray.leaderboard.columns import COLUMNS, by_option
from caloray.leaderboard.published import FLOOR, load_published

# Data set, submission, column, value and error to the digits of the tables.
BY_HAND = [
    ("ds1_photons", "GEANT4", "fpd", 0.119, 0.0534),
    ("ds1_photons", "CaloDiffusion", "auc_low", 0.6346, 0.0028),
    ("ds1_photons", "CaloFlow student", "gpu_100", 0.79, None),
    ("ds1_photons", "CaloForest", "parameters_generation", 3.84e9, None),
    ("ds1_pions", "GEANT4", "auc_low", 0.6089, 0.0035),
    ("ds1_pions", "GEANT4", "auc_high", 0.5579, 0.0024),
    ("ds1_pions", "DNN CaloSim", "fpd", 464.69, 2.25),
    ("ds2", "GEANT4", "fpd", 10.78, 0.79),
    ("ds2", "CaloDREAM", "auc_resnet", 0.6812, 0.0148),
    ("ds2", "conv. L2LFlows", "kpd", 0.271, 0.090),
    ("ds2", "iCaloFlow teacher", "cpu_1", 250_171, None),
    ("ds2", "CaloVAE+INN", "fpd", 5443.43, 27.23),
    ("ds3", "GEANT4", "kpd", -0.009, 0.047),
    ("ds3", "iCaloFlow student", "parameters_training", 187.42e6, None),
    ("ds3", "Calo-VQ", "gpu_10000", 0.98, None),
    ("ds3", "L2LFlows MAF", "log_posterior_resnet", -9.87, None),
]


@pytest.mark.parametrize(("dataset", "name", "key", "value", "error"), BY_HAND)
def test_numbers_are_the_published_ones(dataset, name, key, value, error):
    entry = next(entry for entry in load_published(dataset) if entry.name == name)
    assert entry.values[key] == pytest.approx(value, rel=8e-3, abs=6e-4)
    if error is not None:
        assert entry.errors[key] == pytest.approx(error, rel=2e-2, abs=6e-4)


@pytest.mark.parametrize(
    ("dataset", "rows"), [("ds1_photons", 16), ("ds1_pions", 13), ("ds2", 18), ("ds3", 16)]
)
def test_every_submission_is_there(dataset, rows):
    entries = load_published(dataset)
    assert len({entry.name for entry in entries}) == len(entries) == rows
    assert entries[0].name == FLOOR
    assert all(entry.kind and entry.family for entry in entries)
    for entry in entries:
        assert {"fpd", "kpd", "auc_low", "auc_high"} <= set(entry.values) & set(entry.errors)
        assert all(math.isfinite(number) for number in (*entry.values.values(), *entry.errors.values()))
        assert 0.49 < entry.values["auc_low"] <= 1


def test_what_was_not_measured_is_missing():
    entries = {entry.name: entry for entry in load_published("ds2")}
    assert "cpu_10000" not in entries["CaloDiffusion"].values
    assert "auc_resnet" not in load_published("ds1_pions")[1].values


def test_columns_have_one_spelling_each():
    assert len({column.key for column in COLUMNS}) == len(COLUMNS)
    assert by_option("gpu-10000").key == "gpu_10000"


@pytest.mark.parametrize(("name", "meant"), [("ds4", "ds"), ("DS2", "ds2"), ("pions", "ds1_pions")])
def test_unknown_data_set(name, meant):
    with pytest.raises(ConfigError, match="no data set") as caught:
        find_benchmark(name)
    assert "known: ds1_photons, ds1_pions, ds2, ds3" in caught.value.hint
    assert meant in caught.value.hint


def test_unknown_column():
    with pytest.raises(ConfigError) as caught:
        by_option("auc-lo")
    assert caught.value.hint == "did you mean 'auc-low'?"
