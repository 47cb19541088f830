"""``caloray data``: what it prints, and the exit status for every kind of trouble."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloray.cli import main
from caloray.io import known
from caloray.io.manifest import Manifest

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    voxels = rng.exponential(20, (60, 368)) * (rng.random((60, 368)) < 0.25)
    with h5py.File(tmp_path / "small.hdf5", "w") as file:
        file["showers"] = voxels.astype("f8")
        file["incident_energies"] = rng.uniform(2e3, 5e4, (60, 1))
    return tmp_path / "small.hdf5"


def data(*words: object) -> int:
    return main(["data", *map(str, words)])


def test_ingest_inspect_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    assert data("ingest", SAMPLE, "-o", out) == 0
    manifest = Manifest.load(out)
    printed = capsys.readouterr()
    assert "1500 showers" in printed.out
    assert manifest.digest in printed.out
    assert "1500 of 1500 rows" in printed.err
    assert data("verify", out) == 0
    assert "3 shards, 1500 showers, all good" in capsys.readouterr().out
    assert data("inspect", out) == 0
    table = capsys.readouterr().out
    assert "ds2: 45 layers, 6480 voxels" in table
    assert manifest.geometry_digest in table
    assert SAMPLE.name in table
    for split, count in manifest.counts.items():
        assert [split, str(count)] in [line.split()[1:] for line in table.splitlines() if "split " in line]


def test_quiet(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("ingest", small, "-o", tmp_path / "out", "-q") == 0
    assert capsys.readouterr().err == ""


def test_inspect_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert data("inspect", SAMPLE) == 0
    printed = capsys.readouterr().out
    for part in ("float32", "1000.62 to 49967", "mean 0.9564", "sampling_fraction", "published file"):
        assert part in printed
    assert data("inspect", SAMPLE, "--json", "--rows", 100) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["statistics"]["showers"] == 100
    assert facts["md5"] == hashlib.md5(SAMPLE.read_bytes()).hexdigest()
    assert facts["geometry"]["voxels"] == 6480


def test_inspect_says_what_it_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert data("inspect", SAMPLE, "--rows", 50) == 0
    assert "(first 50 showers)" in capsys.readouterr().out


def test_published_files_are_recognised(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    md5 = hashlib.md5(small.read_bytes()).hexdigest()
    file = known.KnownFile("dataset_1_photons_1.hdf5", "ds1_photons", 8099322, md5)
    monkeypatch.setattr(known, "KNOWN", (file,))
    assert data("inspect", small, "--json") == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "ds1_photons"


def test_ingest_json_and_options(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = (
        "--split",
        "0.5,0.25,0.25",
        "--split-seed",
        3,
        "--rows-per-shard",
        25,
        "--geometry",
        "ds1_photons",
    )
    assert data("ingest", small, "-o", out, *options, "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    manifest = Manifest.load(out)
    assert facts["digest"] == manifest.digest
    assert manifest.split == {"fractions": {"train": 0.5, "validation": 0.25, "test": 0.25}, "seed": 3}
    assert {(s.source["start"], s.source["stop"]) for s in manifest.shards} == {(0, 25), (25, 50), (50, 60)}


def test_drop(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with h5py.File(small, "r+") as file:
        file["showers"][3, 0] = -1
    assert data("ingest", small, "-o", tmp_path / "out") == 65
    assert "negative voxel energy in 1 row (3)" in capsys.readouterr().err
    assert data("ingest", small, "-o", tmp_path / "dropped", "--on-invalid", "drop") == 0
    assert "dropped rows: negative 1" in capsys.readouterr().out
    assert data("inspect", tmp_path / "dropped") == 0
    assert "negative 1" in capsys.readouterr().out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error of the last command: one line, and at most one hint."""
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("ingest:")]
    assert len(lines) <= 2, lines
    assert lines[0].startswith("error[CR-")
    assert lines[1:] == [] or lines[1].startswith("hint: ")
    return lines[0]


def test_verify_names_exactly_the_damaged_files(
    tmp_path: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    data("ingest", small, "-o", out, "--rows-per-shard", 30)
    one, two = Manifest.load(out).of("train")
    (out / one.path).unlink()
    raw = (out / two.path).read_bytes()
    (out / two.path).write_bytes(raw[:100] + bytes([raw[100] ^ 4]) + raw[101:])
    capsys.readouterr()
    assert data("verify", out, "--json") == 66
    printed = capsys.readouterr()
    problems = json.loads(printed.out)["problems"]
    assert [(p["path"], p["kind"]) for p in problems] == [(one.path, "missing"), (two.path, "sha256")]
    assert data("verify", out) == 66
    printed = capsys.readouterr()
    assert f"{two.path}: sha256 " in printed.out
    assert two.sha256 in printed.out
    assert "2 files are not what the manifest says" in printed.err
    assert data("ingest", small, "-o", out, "--rows-per-shard", 30) == 0  # the hint works
    assert data("verify", out) == 0


def test_verify_a_file(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert data("verify", small) == 0
    assert "60 rows, all good" in capsys.readouterr().out
    with h5py.File(small, "r+") as file:
        file["showers"][3, 0] = np.nan
        file["incident_energies"][50] = -5
    assert data("verify", small) == 65
    message = one_line(capsys)
    assert "not a number in 1 row (3)" in message
    assert "incident energy zero or negative in 1 row (50)" in message
    assert data("verify", small, "--json") == 65
    assert [v["rule"] for v in json.loads(capsys.readouterr().out)["violations"]] == [
        "nan",
        "incident-energy",
    ]


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("inspect", "no.hdf5"), 65, "no.hdf5"),
        (("verify", "no.hdf5"), 65, "no.hdf5"),
        (("verify", "."), 66, "no manifest.json"),
        (("verify", "manifest.json"), 66, "no manifest.json"),
        (("verify", ".", "--json"), 66, "no manifest.json"),
        (("inspect", "."), 66, "no manifest.json"),
        (("inspect", "page.hdf5"), 65, "page.hdf5"),
        (("verify", "page.hdf5"), 65, "page.hdf5"),
        (("inspect", "small.hdf5", "--split", "train"), 65, "no split"),
        (("ingest", "no.hdf5", "-o", "out"), 65, "no.hdf5"),
        (("ingest", "page.hdf5", "-o", "out"), 65, "page.hdf5"),
        (("ingest", "small.hdf5", "small.hdf5", "-o", "out"), 65, "the same content"),
        (("ingest", "small.hdf5", "-o", "out", "--geometry", "ds9"), 65, "unknown geometry 'ds9'"),
        (("ingest", "small.hdf5", "-o", "out", "--geometry", "ds2"), 65, "small.hdf5"),
        (("ingest", "small.hdf5", "-o", "out", "--split", "0.8,0.2"), 78, "three shares"),
        (("ingest", "small.hdf5", "-o", "out", "--split", "0.8,0.2,0.2"), 78, "it must be 1"),
        (("ingest", "small.hdf5", "-o", "out", "--split", "a,b,c"), 78, "split.train"),
        (("ingest", "small.hdf5", "-o", "out", "--on-invalid", "hide"), 78, "on_invalid"),
        (("ingest", "small.hdf5", "-o", "out", "--max-ratio", "nan"), 78, "max_ratio"),
        (("ingest", "small.hdf5", "-o", "page.hdf5"), 74, "page.hdf5"),
        (("pull", "ds9", "-o", "out"), 78, "unknown data set 'ds9'"),
        (("pull", "ds2", "-o", "out", "--base-url", "file:///etc"), 78, "http"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_status(
    small: Path,
    words: tuple[str, ...],
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(small.parent)
    Path("page.hdf5").write_text("<!DOCTYPE html><html></html>")
    assert data(*words) == status
    assert says in one_line(capsys)
    assert not Path("out/manifest.json").exists()


def test_another_request(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    data("ingest", small, "-o", out)
    capsys.readouterr()
    assert data("ingest", small, "-o", out, "--split-seed", 1) == 74
    assert "another request" in one_line(capsys)


# ------------------------------------------------------------------ pull


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "www"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_pull(
    server: str,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    md5 = hashlib.md5(small.read_bytes()).hexdigest()
    file = known.KnownFile("dataset_9.hdf5", "ds9", 77, md5)
    monkeypatch.setattr(known, "KNOWN", (file,))
    folder = tmp_path / "www" / "77" / "files"
    folder.mkdir(parents=True)
    (folder / file.name).write_bytes(small.read_bytes())
    assert data("pull", "ds9", "-o", tmp_path / "got", "--base-url", server) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(tmp_path / "got" / file.name)
    assert "dataset_9.hdf5: 0.2 MB of 0.2 MB" in printed.err
    assert data("inspect", tmp_path / "got" / file.name) == 0
    (folder / file.name).write_bytes(b"something else")
    assert data("pull", "ds9", "-o", tmp_path / "again", "--base-url", server) == 66
    assert md5 in capsys.readouterr().err
