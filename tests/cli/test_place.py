"""``caloray place``: options become a placement, results are told, errors are one line."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from caloray.cli.place import EXAMPLE, place
from caloray.errors import CaloRayError
from caloray.geometry import load_geometry
from caloray.io.challenge import write_challenge
from caloray.io.source import open_source
from caloray.showers import Showers

FINE = load_geometry("ild_30x90x90")
NAMES = ("direction_x", "direction_y", "direction_z")


def write(path: Path, geometry=FINE, direction=(0.6, 0.0, 0.8), n=3) -> Path:
    rng = np.random.default_rng(3)
    bins = geometry.layers[0].shape[0]
    voxels = np.zeros((n, geometry.n_layers, bins, geometry.layers[0].shape[1]), "f4")
    middle = slice(bins // 2 - 6, bins // 2 + 6)
    voxels[:, :, middle, middle] = rng.exponential(1.0, voxels[:, :, middle, middle].shape)
    conditions = {name: np.full(n, part) for name, part in zip(NAMES, direction or (), strict=False)}
    showers = Showers(np.full(n, 1e4), voxels.reshape(n, -1), np.arange(n), conditions)
    write_challenge(path, geometry, [showers])
    return path


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    return write(tmp_path_factory.mktemp("fine") / "fine.hdf5")


def run(*words: object):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(place)
    return CliRunner().invoke(app, [str(word) for word in words])


def facts_of(*words: object):
    result = run(*words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


def refused(*words: object) -> CaloRayError:
    error = run(*words).exception
    assert isinstance(error, CaloRayError), error
    assert "\n" not in error.message
    return error


def test_plain_re_binning_for_a_coarse_model(fine, tmp_path):
    facts = facts_of(fine, "-o", tmp_path / "x1.hdf5", "--no-shear", "--threshold", 0)
    assert facts["geometry"] == "ild_30x30x30"
    assert facts["kept_share"] == pytest.approx(1)
    (one,), (other,) = (open_source(path).chunks(10) for path in (tmp_path / "x1.hdf5", fine))
    pooled = other.voxels.reshape(3, 30, 30, 3, 30, 3).sum(axis=(3, 5), dtype=float)
    np.testing.assert_allclose(one.voxels, pooled.reshape(3, -1), rtol=1e-6)
    assert set(one.conditions) == set(NAMES)


def test_report(fine, tmp_path):
    result = run(fine, "-o", tmp_path / "placed.parquet", "--impact-uniform", "--points", "--seed", 4)
    assert result.exit_code == 0, result.output
    for words in ("3", "uniform", "along the track", "outside the box", "per shower (dense: 108,000)"):
        assert words in result.stdout
    assert "a larger --box" in result.stderr


def test_shear_is_done_where_directions_are_known(fine, tmp_path):
    straight = write(tmp_path / "straight.hdf5", direction=None)
    assert facts_of(fine, "-o", tmp_path / "a.parquet", "--dry-run")["settings"]["shear"] is True
    assert facts_of(straight, "-o", tmp_path / "a.parquet", "--dry-run")["settings"]["shear"] is False
    error = refused(straight, "-o", tmp_path / "a.parquet", "--shear")
    assert error.exit_code == 65
    assert "no directions" in error.message
    assert not (tmp_path / "a.parquet").exists()


def test_box_is_as_wide_as_the_grid(fine, tmp_path):
    for coarsen, box in ((1, 90), (3, 30), (4, 23)):
        facts = facts_of(fine, "-o", tmp_path / "a.parquet", "--coarsen", coarsen, "--dry-run")
        assert facts["settings"]["box"] == box
    assert facts_of(fine, "-o", tmp_path / "a.parquet", "--box", 0, "--dry-run")["settings"]["box"] is None


def test_entries(fine, tmp_path):
    def entry(*words):
        return facts_of(fine, "-o", tmp_path / "a.parquet", "--dry-run", *words)["settings"]

    assert entry("--impact", "1.5,-2")["at"] == [1.5, -2.0]
    assert entry("--impact", "centre")["at"] == pytest.approx([2.5441665, 2.5441665])
    assert entry("--impact-uniform")["impact"] == "uniform"
    assert refused(fine, "-o", tmp_path / "a.parquet", "--impact", "recorded").exit_code == 65
    for words in (("--impact", "1"), ("--impact", "nan,0"), ("--impact", "1,2", "--impact-uniform")):
        assert refused(fine, "-o", tmp_path / "a.parquet", *words).exit_code == 78


def test_a_threshold_that_leaves_nothing_is_told(fine, tmp_path):
    result = run(fine, "-o", tmp_path / "placed.parquet", "--threshold", 1e9)
    assert result.exit_code == 0
    assert "no cell is left above the threshold" in result.stderr


def test_layers_are_moved_once(fine, tmp_path):
    first = facts_of(fine, "-o", tmp_path / "there.parquet", "--coarsen", 1)
    again = facts_of(tmp_path / "there.parquet", "-o", tmp_path / "again.parquet", "--coarsen", 3)
    assert first["settings"]["shear"] is True
    assert again["settings"]["shear"] is False
    asked = facts_of(tmp_path / "there.parquet", "-o", tmp_path / "b.parquet", "--coarsen", 3, "--shear")
    assert asked["settings"]["shear"] is True


def test_there_and_back(fine, tmp_path):
    options = ("--coarsen", 1, "--impact", "3.392222,-1.696111", "--no-shear", "--threshold", 0)
    facts_of(fine, "-o", tmp_path / "there.parquet", *options)
    facts = facts_of(tmp_path / "there.parquet", "-o", tmp_path / "back.hdf5", "--back")
    assert facts["settings"]["inverse"] is True
    with h5py.File(fine) as one, h5py.File(tmp_path / "back.hdf5") as other:
        np.testing.assert_array_equal(one["showers"][:], other["showers"][:])


def test_back_takes_no_options_that_it_would_not_follow(fine, tmp_path):
    facts_of(fine, "-o", tmp_path / "there.parquet", "--coarsen", 1, "--no-shear", "--threshold", 0)
    back = (tmp_path / "there.parquet", "-o", tmp_path / "back.hdf5", "--back")
    for words in (
        ("--impact", "0,0"),
        ("--no-shear",),
        ("--coarsen", 1),
        ("--seed", 0),
        ("--box-around", "entry"),
    ):
        error = refused(*back, *words)
        assert error.exit_code == 78
        assert words[0].replace("no-", "") in error.message
    assert "no --impact-uniform" in refused(*back, "--impact-uniform").message
    for showers in (tmp_path / "there.parquet", fine):
        assert "no --box" in refused(showers, *back[1:], "--box", 30).message
    assert not (tmp_path / "back.hdf5").exists()
    facts_of(*back, "--points", "--threshold", 0.01)


def test_back_from_showers_that_no_record_describes(fine, tmp_path):
    """Sub-cells of a detector that a simulation wrote: here all at one place, entry given by hand."""
    options = ("--impact", "1.696111,0", "--no-shear", "--grid", "ild_30x30x30")
    facts = facts_of(fine, "-o", tmp_path / "x.hdf5", "--back", *options)
    assert facts["geometry"] == "ild_30x30x30"
    assert facts["kept_share"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("layer,offset_x,offset_y\n0,1,1\n", "cells for 1 layers, the showers have 30"),
        ("layers: [{ids: 0-29, x: [[0, 2], [1, 3]], y: {width: 5}}]", "overlap"),
        ("layers: [{ids: 0-29, x: [[.nan, 2]], y: {width: 5}}]", "not a number"),
    ],
)
def test_bad_tables(fine, tmp_path, text, words):
    path = tmp_path / ("t.csv" if text.startswith("layer,") else "t.yaml")
    path.write_text(text)
    error = refused(fine, "-o", tmp_path / "a.parquet", "--phases", path)
    assert error.exit_code == 65
    assert words in error.message


def test_a_table_of_offsets(fine, tmp_path):
    path = tmp_path / "offsets.csv"
    path.write_text("layer,offset_x,offset_y\n" + "".join(f"{i},{0.1 * i},0\n" for i in range(30)))
    facts = facts_of(fine, "-o", tmp_path / "a.parquet", "--phases", path, "--box", 0, "--threshold", 0)
    assert facts["kept_share"] == pytest.approx(1)


def test_other_input(fine, tmp_path):
    out = ("-o", tmp_path / "a.parquet")
    ds2 = load_geometry("ds2")
    write_challenge(tmp_path / "ds2.hdf5", ds2, [Showers([1e3], np.ones((1, ds2.n_voxels)), [0])])
    assert "cylindrical" in refused(tmp_path / "ds2.hdf5", *out).message
    flat = write(tmp_path / "flat.hdf5", direction=(1.0, 0.0, 0.0))
    assert "not into the calorimeter" in refused(flat, *out).message
    bad = write(tmp_path / "bad.hdf5")
    with h5py.File(bad, "r+") as file:
        file["showers"][1, 100_000] = np.nan
    assert refused(bad, *out).exit_code == 65
    assert refused(tmp_path / "none.hdf5", *out).exit_code == 65
    assert refused(fine, "-o", tmp_path / "shards").exit_code == 78
    assert refused(fine, *out, "--threshold", -1).exit_code == 78
    assert not (tmp_path / "a.parquet").exists()
