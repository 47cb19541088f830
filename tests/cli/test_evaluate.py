"""``caloray evaluate``: files in, table, results and figures out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from caloray.cli import main
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.showers import Showers

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    with h5py.File(SAMPLE) as file:
        voxels, energies = file["showers"][:200], file["incident_energies"][:200, 0]
    paths = tmp_path / "geant4.hdf5", tmp_path / "flow.hdf5"
    for path, part in zip(paths, (slice(0, 100), slice(100, 200)), strict=True):
        write_challenge(path, load_geometry("ds2"), [Showers(energies[part], voxels[part], np.arange(100))])
    return paths


def run(*words: object) -> int:
    return main(["evaluate", "--quick", *map(str, words)])


def test_prints_values_beside_floors(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(*pair, "-o", out, "--no-figures") == 0
    text = capsys.readouterr().out
    for word in (
        "floor",
        "significance",
        "E_tot / E_inc",
        "hit voxels",
        "layer_energy (mean of",
        "100 showers of",
    ):
        assert word in text
    assert "\x1b" not in text
    record = json.loads((out / "results.json").read_text())
    assert record["reference"]["name"] == "geant4.hdf5"
    assert record["generated"]["showers"] == 100
    row = next(row for row in record["separations"] if row["observable"] == "e_ratio")
    assert f"{row['separation']:.2e}" in text
    assert not (out / "figures").exists()


def test_json_and_figures(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def draw(results: list[dict[str, Any]], directory: Path, labels: tuple[str, ...]) -> list[Path]:
        drawn.extend((*labels, *(one["schema"] for one in results)))
        return [directory / "01.png"]

    def write_page(results: Any, labels: tuple[str, ...], figures: Path, path: Path) -> Path:
        return path

    monkeypatch.setattr("caloray.report.draw", draw)
    monkeypatch.setattr("caloray.report.write_page", write_page)
    words = ("--json", "--threshold", "0.1", "--seed", "5", "--reference-label", "Geant4 11.4")
    assert run(*pair, "-o", tmp_path / "out", *words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["threshold"] == 0.1
    assert facts["seed"] == 5
    assert len(facts["separations"]) == 18
    assert facts["figures"] == [str(tmp_path / "out" / "figures" / "01.png")]
    assert drawn == ["Geant4 11.4", "flow.hdf5", "caloray-results/2"]
    assert facts["page"] == str(tmp_path / "out" / "report.html")


def test_split_of_a_shard_directory(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "ingest", str(pair[0]), "-o", str(tmp_path / "shards")]) == 0
    out = tmp_path / "out"
    assert run(tmp_path / "shards", pair[1], "-o", out, "--no-figures", "--split", "train") == 0
    n = json.loads((out / "results.json").read_text())["reference"]["showers"]
    assert 20 < n < 100
    assert "is compared whole" not in capsys.readouterr().err
    assert run(tmp_path / "shards", pair[1], "-o", out, "--no-figures") == 0
    assert "is compared whole, with the showers that models were trained on" in capsys.readouterr().err


def test_troubles(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", pair[1], "-o", tmp_path / "out") == 65
    assert "nowhere: no such file or directory" in capsys.readouterr().err
    write_challenge(
        tmp_path / "ds1.hdf5",
        load_geometry("ds1_photons"),
        [Showers(np.full(30, 1e3), np.ones((30, 368)), np.arange(30))],
    )
    assert run(pair[0], tmp_path / "ds1.hdf5", "-o", tmp_path / "out") == 65
    assert "6480 voxels" in capsys.readouterr().err
    assert run(pair[0], pair[0], "-o", tmp_path / "out", "--no-figures") == 0
    assert "warning: reference and generated are the same showers" in capsys.readouterr().err


def test_several_models_on_one_page(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caloray.report.draw", lambda *_: [])
    out = tmp_path / "out"
    assert run(pair[0], pair[1], pair[0], "-o", out, "--label", "flow", "--label", "geant4 again") == 0
    for folder in ("flow", "geant4_again"):
        assert json.loads((out / folder / "results.json").read_text())["generated"]["showers"] == 100
    page = (out / "report.html").read_text()
    assert "flow" in page
    assert "geant4 again" in page
    assert str(out / "report.html") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--label", "a", "--label", "b"), 78, "2 labels for 1 samples"),
        (("--label", " "), 78, "label ' ' is empty, taken, or like another one"),
        (("--split", "test"), 78, "--split test: "),
        (("--classifiers", "forest"), 78, "--classifiers 'forest': expected one of none, trees"),
        (("--timing", "nowhere.json"), 65, "nowhere.json: no record can be read"),
        (("--run", "."), 78, "no tracking.json of a run that has reached MLflow"),
        (("--training", "nowhere"), 65, "nowhere: no such file"),
    ],
)
def test_options_that_cannot_be(
    pair: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    status: int,
    message: str,
) -> None:
    assert run(*pair, "-o", tmp_path / "out", "--no-figures", *words) == status
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_record_of_something_else(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "time.json").write_text('{"schema": "caloray-diphoton/1"}')
    assert run(*pair, "-o", tmp_path / "out", "--timing", tmp_path / "time.json") == 65
    assert "schema 'caloray-diphoton/1' without device" in capsys.readouterr().err


def test_a_place_that_cannot_be_is_refused_before_any_work(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(*pair, "-o", tmp_path / "file" / "sub") == 74
    assert "file: is a file, expected a directory" in (error := capsys.readouterr().err)
    assert "showers" not in error.splitlines()[0]


@pytest.mark.parametrize("labels", [("a/b", "a_b"), ("figures", "b"), ("..", "b")])
def test_two_models_never_share_a_folder(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: tuple[str, str]
) -> None:
    words = [word for label in labels for word in ("--label", label)]
    assert run(pair[0], pair[1], pair[0], "-o", tmp_path / "out", "--no-figures", *words) in {0, 78}
    made = sorted(path.parent.name for path in (tmp_path / "out").rglob("results.json"))
    assert len(made) in {0, 2}
    assert "figures" not in made
