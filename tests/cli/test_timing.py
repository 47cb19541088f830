"""``caloray model time``: table, record and refusals."""

from __future__ import annotations

import json

from caloray.cli import main
from caloray.io.challenge import write_challenge


def run(bundle, *words) -> int:
    return main(["model", "time", str(bundle), "--repetitions", "2", "--limit", "60", *map(str, words)])


def test_table_and_record(bundle_path, toy, tmp_path, capsys):
    write_challenge(tmp_path / "g4.hdf5", toy.GEOMETRY, [toy.showers(100)], attrs={"cpu_s": 50.0})
    out = tmp_path / "timing.json"
    words = ("--batch", 1, "--batch", 20, "--reference", tmp_path / "g4.hdf5", "-o", out)
    assert run(bundle_path, *words) == 0
    captured = capsys.readouterr()
    for word in ("ms per shower", "times Geant4", "1 thread(s)", "500 ms of CPU per shower", "to sample"):
        assert word in captured.out
    assert "timing: cpu, batch 20" in captured.err
    record = json.loads(out.read_text())
    assert [item["batch"] for item in record["measurements"]] == [1, 20]
    assert len(record["geant4"]["speed_up"]) == 2


def test_json(bundle_path, capsys):
    assert run(bundle_path, "--batch", 2, "--json", "--threads", 1) == 0
    assert json.loads(capsys.readouterr().out)["measurements"][0]["batch"] == 2


def test_skipped_is_said(bundle_path, capsys):
    assert main(["model", "time", str(bundle_path), "--batch", "8", "--limit", "1e-6"]) == 0
    text = capsys.readouterr().out
    assert "skipped" in text
    assert "may take longer than the limit of 1e-06 s" in text


def test_unknown_time_of_geant4_is_said(bundle_path, toy, tmp_path, capsys):
    write_challenge(tmp_path / "g4.hdf5", toy.GEOMETRY, [toy.showers(30)])
    assert run(bundle_path, "--batch", 1, "--reference", tmp_path / "g4.hdf5") == 0
    assert "unknown: no number in the HDF5 attribute 'cpu_s'" in capsys.readouterr().out


def test_troubles(bundle_path, tmp_path, capsys):
    assert run(bundle_path, "--reference", tmp_path / "nowhere") == 65
    assert run(bundle_path, "--device", "cuda:99", "--batch", 1) in {70, 78}
    assert run(bundle_path, "--backend", "abacus", "--batch", 1) == 78
    assert "there is no back-end 'abacus'" in capsys.readouterr().err


def test_inspect_counts_parameters(bundle_path, capsys):
    assert main(["model", "inspect", str(bundle_path)]) == 0
    assert "to train" in capsys.readouterr().out
    assert main(["model", "inspect", str(bundle_path), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["parameters"]
    assert counts["training"] == counts["generation"] == sum(counts["components"].values())
