"""``caloray leaderboard``: readable tables, JSON, and models that are kept apart."""

from __future__ import annotations

import json

import pytest

from caloray.cli import main
from caloray.evaluation.results import SCHEMA
from caloray.geometry import load_geometry
from caloray.io.known import by_name


def results(threshold: float = 0.5e-3 / 0.033) -> dict:
    """A small results.json of a dataset-2 model, ranked as it is."""
    known, geometry = by_name("dataset_2_2.hdf5"), load_geometry("ds2")
    files = [{"name": known.name, "md5": known.md5, "sha256": "0" * 64}]
    fpd = {"name": "fpd", "label": "FPD", "value": 0.1, "floor": 0.01, "spread": 0.001, "error": 0.005}
    fpd |= {"matched": 0.12, "significance": 110.0}
    return {
        "schema": SCHEMA,
        "geometry": {"name": "ds2", "digest": geometry.digest},
        "threshold": threshold,
        "reference": {"name": "g4", "digest": "1" * 64, "showers": 100_000, "files": files},
        "generated": {"name": "myflow.hdf5", "digest": "2" * 64, "showers": 100_000},
        "incident_energy": {"ks_probability": 0.5, "identical": False},
        "separations": [],
        "metrics": [{**fpd, "comparable": True, "note": ""}],
        "classifiers": [],
        "timing": None,
    }


def run(*words) -> int:
    return main(["leaderboard", *map(str, words)])


@pytest.mark.parametrize("dataset", ["ds1_photons", "ds1_pions", "ds2", "ds3"])
@pytest.mark.parametrize("sort", ["fpd", "auc-low", "cpu-1"])
def test_tables_fit_into_a_hundred_columns(dataset, sort, capsys):
    assert run(dataset, "--sort", sort, "--all-columns") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    headings = [line for line in lines if line.strip().startswith("model")]
    assert len(headings) == 4
    after = lines[lines.index(headings[0]) + 2]
    assert after.split()[0] == "GEANT4"


def test_published_numbers_with_their_errors(capsys):
    assert run("ds2") == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "CaloDREAM" in line)
    assert line.split() == [
        "1",
        "CaloDREAM",
        "CFM",
        "24.6(10)",
        "0.02(4)",
        "0.531(3)",
        "0.521(2)",
        "0.681(15)",
    ]
    assert "arXiv:2410.21611" in text
    assert run("ds3", "--sort", "gpu-100") == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "conv. L2LFlows" in line)
    assert line.split() == [
        "7",
        "conv.",
        "L2LFlows",
        "195M",
        "195M",
        "2,357",
        "340",
        "429",
        "1,430",
        "16.0",
        "6.75",
    ]


def test_your_model_in_the_ranking(tmp_path, capsys):
    (tmp_path / "results.json").write_text(json.dumps(results()))
    assert run("ds2", tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    mine = next(line for line in lines if "> myflow.hdf5" in line)
    assert mine.split()[:5] == ["2", ">", "myflow.hdf5", "yours", "100(5)"]
    assert any(line.split() == ["FPD", "x1e3", "100(5)", "120", "10.0(10)", "+110.0"] for line in lines)
    assert not any("not comparable" in line for line in lines)


def test_times_of_your_machine_have_a_star(tmp_path, capsys):
    times = [{"batch": 100, "ms": {"mean": 1.0, "std": 0.1}}]
    timing = {"parameters": {"training": 7e6, "generation": 6e6}, "device": "cpu", "measurements": times}
    timing |= {"hardware": "A processor", "threads": 1, "backend": "native"}
    (tmp_path / "results.json").write_text(json.dumps(results() | {"timing": timing}))
    assert run("ds2", tmp_path, "--sort", "cpu-100") == 0
    text = capsys.readouterr().out
    mine = next(line for line in text.splitlines() if "> myflow.hdf5" in line)
    assert mine.split() == ["1", ">", "myflow.hdf5", "7M", "6M", "-", "1.00*", "-", "-", "-", "-"]
    assert "* other hardware: times on A processor" in text


def test_your_model_apart(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results(threshold=0.0)))
    assert run("ds2", path) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("not comparable, so not ranked"))
    assert "myflow.hdf5" in lines[start]
    assert lines[start + 1] == "  - threshold 0 keV instead of 15.15 keV"
    assert not any("> myflow.hdf5" in line for line in lines)
    assert run("ds2", path, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["apart"][0]["reasons"] == ["threshold 0 keV instead of 15.15 keV"]
    assert len(facts["rows"]) == 18
    assert facts["rows"][0]["name"] == "GEANT4"


def test_troubles(tmp_path, capsys):
    assert run("ds22") == 78
    assert "did you mean 'ds2'?" in capsys.readouterr().err
    assert run("ds2", "--sort", "auc-lwo") == 78
    assert "did you mean 'auc-low'?" in capsys.readouterr().err
    assert run("ds2", tmp_path / "nowhere.json") == 65
    assert "no results can be read" in capsys.readouterr().err
