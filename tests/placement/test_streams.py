"""Files in, files out: all formats agree, bytes are reproducible, nothing half-written stays."""

from __future__ import annotations

import json

import numpy as np
import pytest

from caloray.errors import ConfigError, DataError, InterruptedRunError, StorageError
from caloray.geometry import load_geometry
from caloray.interrupt import StopRequest
from caloray.io.challenge import write_challenge
from caloray.io.hits import HitReader, HitSource
from caloray.io.ingest import IngestConfig, ingest
from caloray.io.shards import READOUT, ShardWriter
from caloray.io.source import open_source
from caloray.placement import Placement, PlaceSettings, Withdrawal, regular_cells
from caloray.placement.cells import ListedCells
from caloray.placement.record import restore
from caloray.placement.streams import format_of, place_showers, preview, recorded_placement
from caloray.placement.work import Placing, TakingBack
from caloray.showers import Showers

COARSE = load_geometry("ild_30x30x30")
NAMES = ("direction_x", "direction_y", "direction_z")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Showers of whole cells near the axis, with directions."""
    rng = np.random.default_rng(2)
    n = 30
    voxels = np.zeros((n, 30, 30, 30), "f4")
    voxels[:, :, 11:19, 11:19] = rng.exponential(1.0, (n, 30, 8, 8)) * (rng.random((n, 30, 8, 8)) < 0.2)
    slope = rng.uniform(-0.1, 0.1, (n, 2))
    flight = np.concatenate([slope, np.ones((n, 1))], axis=1)
    flight /= np.linalg.norm(flight, axis=1, keepdims=True)
    conditions = {name: flight[:, axis] for axis, name in enumerate(NAMES)}
    path = tmp_path_factory.mktemp("showers") / "along_track.hdf5"
    energies = rng.uniform(1e3, 4e4, n).astype("f4")
    write_challenge(path, COARSE, [Showers(energies, voxels.reshape(n, -1), np.arange(n), conditions)])
    return path


def work(**values):
    settings = PlaceSettings.of(**{"impact": "uniform", "shear": True, "seed": 3, "points": False} | values)
    return Placing(Placement(COARSE, settings, regular_cells(COARSE, 1)))


def run(source, what, output, form=None, **more):
    return place_showers(source, what, output, format_of(output, form), **more)


def read(path):
    return Showers.concatenate(list(open_source(path).chunks(7)))


def test_all_formats_hold_the_same_showers(file, tmp_path):
    shards = tmp_path / "shards"
    ingest(IngestConfig(files=[file], rows_per_shard=10), shards)
    facts = {
        form: run(open_source(origin), work(impact="fixed", at=(1.0, 2.0)), tmp_path / name)
        for form, origin, name in (
            ("hits", file, "placed.parquet"),
            ("hdf5", file, "placed.hdf5"),
            ("shards", shards, "placed"),
        )
    }
    hits, hdf5, sharded = (read(tmp_path / name) for name in ("placed.parquet", "placed.hdf5", "placed"))
    np.testing.assert_array_equal(hits.voxels, hdf5.voxels)
    mine, other = np.argsort(hits.incident_energies), np.argsort(sharded.incident_energies)
    np.testing.assert_array_equal(hits.voxels[mine], sharded.voxels[other])
    for showers in (hits, hdf5):
        assert set(showers.conditions) == {*NAMES, "impact_x", "impact_y"}
        np.testing.assert_array_equal(showers.conditions["impact_x"], hits.conditions["impact_x"])
    assert open_source(tmp_path / "placed.hdf5").conditions["impact_x"] == "mm"
    for key in ("kept", "outside", "cut"):
        assert facts["hits"][key] == pytest.approx(facts["shards"][key], rel=1e-12)
    assert open_source(tmp_path / "placed").manifest.counts == open_source(shards).manifest.counts
    assert facts["hits"]["bytes"] == (tmp_path / "placed.parquet").stat().st_size


@pytest.mark.parametrize("name", ["placed.parquet", "placed.hdf5"])
def test_same_request_same_bytes_whatever_the_chunks(file, tmp_path, name, monkeypatch):
    run(open_source(file), work(points=True), tmp_path / name)
    first = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    monkeypatch.setattr("caloray.placement.streams.VOXELS_PER_CHUNK", 4 * COARSE.n_voxels)
    done = []
    run(open_source(file), work(points=True), tmp_path / name, progress=done.append)
    assert (tmp_path / name).read_bytes() == first
    assert done == [4] * 7 + [2]


def test_hits_can_be_placed_again(file, tmp_path):
    still = {"impact": "fixed", "shear": False, "threshold": 0.0}
    run(open_source(file), work(**still), tmp_path / "same.parquet")
    run(open_source(tmp_path / "same.parquet"), work(), tmp_path / "from_hits.parquet")
    run(open_source(file), work(), tmp_path / "direct.parquet")
    one, two = read(tmp_path / "from_hits.parquet"), read(tmp_path / "direct.parquet")
    np.testing.assert_array_equal(one.voxels, two.voxels)


@pytest.mark.parametrize("name", ["placed.parquet", "placed.hdf5"])
def test_the_record_leads_back(file, tmp_path, name):
    """Whole cells: shear off, entry on an edge; what comes back is what went in."""
    there = work(impact="fixed", at=(2 * 5.088333, -5.088333), shear=False, threshold=0.0)
    run(open_source(file), there, tmp_path / name)
    source = open_source(tmp_path / name)
    placement = restore(recorded_placement(source), source.geometry, None, tmp_path / name)
    assert placement.settings == there.placement.settings
    run(source, TakingBack(Withdrawal(placement, COARSE)), tmp_path / "back.hdf5")
    found, before = read(tmp_path / "back.hdf5"), read(file)
    np.testing.assert_array_equal(found.voxels, before.voxels)
    assert set(found.conditions) == set(NAMES)
    assert recorded_placement(open_source(tmp_path / "back.hdf5")) is None


def test_drawn_entries_are_known_on_the_way_back(file, tmp_path):
    run(open_source(file), work(threshold=0.0, box=40), tmp_path / "placed.parquet")
    source = HitSource(tmp_path / "placed.parquet")
    placement = restore(recorded_placement(source), source.geometry, None, source.path)
    assert placement.settings.impact == "recorded"
    run(source, TakingBack(Withdrawal(placement, COARSE, points=False)), tmp_path / "back.parquet")
    found, before = read(tmp_path / "back.parquet"), read(file)
    np.testing.assert_allclose(found.layer_energies(COARSE), before.layer_energies(COARSE), rtol=1e-5)
    x = np.arange(30) + 0.5
    for axis in (2, 3):
        means = [
            (s.voxels.reshape(-1, 30, 30, 30).sum(axis=(1, 5 - axis)) * x).sum(axis=1) / s.voxels.sum(axis=1)
            for s in (found, before)
        ]
        np.testing.assert_allclose(*means, atol=1e-4)  # split by area twice: the centre stays


def test_a_table_has_to_be_the_same_on_the_way_back(file, tmp_path):
    edges = np.linspace(-200, 200, 81)
    listed = np.stack([edges[:-1], edges[1:]], axis=1)
    cells = ListedCells(((listed, listed),) * 30)
    placement = Placement(COARSE, PlaceSettings(), cells)
    run(open_source(file), Placing(placement), tmp_path / "placed.hdf5")
    source = open_source(tmp_path / "placed.hdf5")
    text = recorded_placement(source)
    assert restore(text, COARSE, cells, file).cells is cells
    with pytest.raises(DataError, match="none is given"):
        restore(text, COARSE, None, file)
    with pytest.raises(DataError, match="another one is given"):
        restore(text, COARSE, ListedCells(((listed, listed + 1),) * 30), file)
    for broken in ("{", "[]", "{}", '{"settings": {"box": -1}, "cells": {}}'):
        with pytest.raises(DataError, match="malformed"):
            restore(broken, COARSE, None, file)


def test_preview_writes_nothing(file, tmp_path):
    facts = preview(open_source(file), work())
    assert facts["previewed"] == facts["showers"] == 30
    assert facts["kept_share"] + facts["cut_share"] + facts["outside_share"] == pytest.approx(1)


def test_a_stop_leaves_nothing(file, tmp_path):
    stop = StopRequest()
    stop.request()
    for name in ("placed.parquet", "placed.hdf5"):
        with pytest.raises(InterruptedRunError):
            run(open_source(file), work(), tmp_path / name, stop=stop)
    assert not list(tmp_path.iterdir())


def test_refusals(file, tmp_path):
    source = open_source(file)
    with pytest.raises(StorageError, match="is the input"):
        run(source, work(), file)
    with pytest.raises(StorageError, match="exists already"):
        run(source, work(), tmp_path, "hits")
    with pytest.raises(ConfigError, match="shards are made from shards"):
        run(source, work(), tmp_path / "new")
    with pytest.raises(ConfigError, match="without a box"):
        run(source, work(box=None), tmp_path / "placed.hdf5")
    with pytest.raises(ConfigError, match="--format 'root'"):
        format_of(tmp_path / "a", "root")
    with pytest.raises(DataError, match="no such file"):
        open_source(tmp_path / "none.hdf5")
    assert not list(tmp_path.iterdir())


def test_a_merged_parquet_file_is_placed_as_the_file_that_it_came_from(file, tmp_path):
    merged = tmp_path / "merged.parquet"
    described = {READOUT: json.dumps(COARSE.to_dict())}
    source = open_source(file)
    with ShardWriter(merged, COARSE, described, source.conditions, layout="sparse") as writer:
        for showers in source.chunks(7):
            writer.append(showers)
    fixed = work(impact="fixed", at=(1.0, 2.0))
    run(source, fixed, tmp_path / "a.hdf5")
    run(open_source(merged), fixed, tmp_path / "b.hdf5")
    np.testing.assert_array_equal(read(tmp_path / "a.hdf5").voxels, read(tmp_path / "b.hdf5").voxels)
    assert recorded_placement(open_source(merged)) is None


def test_without_a_box_all_cells_are_written(file, tmp_path):
    facts = run(open_source(file), work(box=None, threshold=0.0), tmp_path / "all.parquet")
    assert facts["outside"] == 0
    with HitReader(tmp_path / "all.parquet") as reader:
        (hits,) = reader.chunks()
    assert hits.x.min() < 0
    assert not hits.corners.any()
    assert float(hits.energies.sum(dtype=float)) == pytest.approx(facts["deposited"], rel=1e-6)
