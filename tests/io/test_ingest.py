"""Ingest: every row arrives once, unchanged, and nothing impossible gets in."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from caloray.errors import DataError
from caloray.geometry import load_geometry
from caloray.io import ingest as ingest_module
from caloray.io import ingest_plan, ingest_task
from caloray.io.ingest import (
    IngestConfig,
    SplitFractions,
    ingest,
    plan_ingest,
)
from caloray.io.known import KnownFile
from caloray.io.manifest import MANIFEST, Manifest, verify_directory
from caloray.io.shards import ShardReader
from caloray.io.split import event_ids

Config = Callable[..., IngestConfig]
Content = Callable[[Path], dict[str, bytes]]
WriteFile = Callable[..., Path]
SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"
VOXELS = 368  # dataset 1 photons: ragged layers


def split_of(directory: Path) -> dict[tuple[float, ...], str]:
    """Which split each shower went to, showers told apart by their energy and first voxels."""
    found = {}
    for entry in Manifest.load(directory).shards:
        with ShardReader(directory / entry.path) as reader:
            for showers in reader.chunks():
                for energy, voxels in zip(showers.incident_energies, showers.voxels, strict=True):
                    found[(energy, *voxels[:20].tolist())] = entry.split
    return found


@pytest.mark.parametrize("chunk", [1, 77 * 4 * VOXELS, 32 << 20])
def test_every_row_arrives_once_and_unchanged(
    files: list[Path], tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    monkeypatch.setattr(ingest_task, "CHUNK_BYTES", chunk)
    manifest = ingest(config(files), tmp_path / "out")
    assert verify_directory(tmp_path / "out") == []
    assert manifest == Manifest.load(tmp_path / "out")
    assert (manifest.kind, manifest.rows(), manifest.dropped) == ("geant4", 320, {})
    expected = {}
    for source in manifest.sources:
        with h5py.File(tmp_path / source["name"]) as file:
            ids = event_ids(source["sha256"], 0, source["rows"])
            rows = zip(file["incident_energies"][:, 0], file["showers"][:], strict=True)
            expected |= dict(zip(ids.tolist(), rows, strict=True))
    seen = []
    for entry in manifest.shards:
        with ShardReader(tmp_path / "out" / entry.path, load_geometry("ds1_photons")) as reader:
            showers = reader.showers()
        assert len(showers) == entry.rows
        assert entry.path.startswith(entry.split)
        for row, event in enumerate(showers.ids.tolist()):
            energy, voxels = expected[event]
            assert showers.incident_energies[row] == energy
            assert np.array_equal(showers.voxels[row], voxels)
            seen.append(event)
    assert sorted(seen) == sorted(expected)
    assert sum(manifest.counts.values()) == 320
    assert len({entry.path for entry in manifest.shards}) == len(manifest.shards) <= 4 * 3


def test_chunk_size_does_not_change_the_bytes(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, content: Content
) -> None:
    ingest(config(files), tmp_path / "one")
    monkeypatch.setattr(ingest_task, "CHUNK_BYTES", 13 * 4 * VOXELS)
    ingest(config(files), tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_manifest_tells_the_origin(files: list[Path], tmp_path: Path, config: Config) -> None:
    manifest = ingest(config(files, split_seed=5), tmp_path / "out")
    by_name = {source["name"]: source for source in manifest.sources}
    assert by_name["a.hdf5"]["attrs"]["cpu_s"] == 12.5
    assert by_name["a.hdf5"]["rows"] == 230
    assert len(by_name["b.hdf5"]["md5"]) == 32
    assert by_name["b.hdf5"]["dataset"] is None
    assert manifest.split == {"fractions": {"train": 0.8, "validation": 0.1, "test": 0.1}, "seed": 5}
    assert manifest.created["request"] == plan_ingest(config(files, split_seed=5)).digest
    assert manifest.geometry_digest == load_geometry("ds1_photons").digest
    assert str(tmp_path) not in (tmp_path / "out" / MANIFEST).read_text()
    ranges = {tuple(entry.source.values()) for entry in manifest.shards}
    assert {(start, stop) for _, start, stop in ranges} == {(0, 100), (100, 200), (200, 230), (0, 90)}


def test_known_files_are_recognised(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    known = KnownFile("dataset_1_photons_1.hdf5", "ds1_photons", 1, "0" * 32)
    monkeypatch.setattr(ingest_plan, "identify", lambda _: known)
    assert ingest(config(files), tmp_path / "out").sources[0]["dataset"] == "ds1_photons"


def test_the_sample_in_the_repository(tmp_path: Path) -> None:
    manifest = ingest(IngestConfig(files=(SAMPLE,)), tmp_path / "out")
    assert manifest.rows() == 1500
    assert manifest.geometry["name"] == "ds2"
    assert manifest.counts["train"] == pytest.approx(1200, abs=60)
    assert 250 < manifest.sources[0]["attrs"]["cpu_s"] < 300
    assert SAMPLE.stat().st_size < 6e6


def test_large_showers_make_smaller_tasks(tmp_path: Path, write_file: WriteFile) -> None:
    path = write_file(tmp_path / "big.hdf5", 1, voxels=40_500)
    (task,) = plan_ingest(IngestConfig(files=(path,))).tasks
    assert task.geometry.name == "ds3"
    rows = plan_ingest(IngestConfig(files=(path,))).request["rows_per_shard"]
    assert rows == 1600
    assert rows * 40_500 * 4 <= 256 << 20
    assert plan_ingest(IngestConfig(files=(SAMPLE,))).request["rows_per_shard"] == 2000


def test_split_is_stable_under_order_and_names(
    files: list[Path], tmp_path: Path, config: Config, content: Content
) -> None:
    ingest(config(files), tmp_path / "one")
    renamed = [tmp_path / "y.hdf5", tmp_path / "x.hdf5"]
    for old, new in zip(files, renamed, strict=True):
        shutil.copy(old, new)
    ingest(config(renamed[::-1]), tmp_path / "two")
    ingest(config(files[:1]), tmp_path / "alone")
    one, two, alone = (split_of(tmp_path / name) for name in ("one", "two", "alone"))
    assert one == two
    assert alone.items() <= one.items()
    same = {k: v for k, v in content(tmp_path / "one").items() if k != MANIFEST}
    assert same == {k: v for k, v in content(tmp_path / "two").items() if k != MANIFEST}


def test_an_empty_split_has_no_shard(files: list[Path], tmp_path: Path, config: Config) -> None:
    only = SplitFractions(train=1, validation=0, test=0)
    manifest = ingest(config(files, split=only), tmp_path / "out")
    assert manifest.counts == {"train": 320}
    with pytest.raises(DataError, match="no split 'test'"):
        manifest.of("test")


@pytest.mark.parametrize(
    "options",
    [
        {"split": {"train": 0.5, "validation": 0.1, "test": 0.1}},
        {"split": {"train": 1.5, "validation": -0.5, "test": 0}},
        {"split": {"train": float("nan"), "validation": 0, "test": 0}},
        {"files": []},
        {"rows_per_shard": 0},
        {"split_seed": -1},
        {"on_invalid": "ignore"},
        {"max_ratio": 0},
        {"rows_per_shards": 10},
    ],
)
def test_config_is_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IngestConfig(**{"files": [SAMPLE], **options})


@pytest.fixture
def spoiled(tmp_path: Path, write_file: WriteFile) -> Path:
    path = write_file(tmp_path / "bad.hdf5", 150, 4)
    with h5py.File(path, "r+") as file:
        file["showers"][7, 3] = np.nan
        file["showers"][8, 3] = -1
        file["showers"][120, 0] = np.inf
        file["showers"][121, 0] = -2
        file["incident_energies"][30] = 0
        file["showers"][31, :] = 1e5
    return path


def test_bad_rows_are_rejected_by_default(spoiled: Path, tmp_path: Path, config: Config) -> None:
    with pytest.raises(DataError) as caught:
        ingest(config([spoiled]), tmp_path / "out")
    for part in (
        "bad.hdf5",
        "not a number in 1 row (7)",
        "negative voxel energy in 1 row (8)",
        "(30)",
        "(31)",
    ):
        assert part in caught.value.message
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert not list((tmp_path / "out").rglob("*.parquet*"))


@pytest.mark.parametrize("chunk", [10 * 4 * VOXELS, 32 << 20])
def test_bad_rows_can_be_dropped_and_are_counted(
    spoiled: Path, tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch, config: Config
) -> None:
    monkeypatch.setattr(ingest_task, "CHUNK_BYTES", chunk)
    manifest = ingest(config([spoiled], on_invalid="drop"), tmp_path / "out")
    expected = {"nan": 1, "negative": 2, "infinite": 1, "incident-energy": 1, "deposit": 1}
    assert manifest.dropped == expected
    assert manifest.rows() == 144
    bad = event_ids(manifest.sources[0]["sha256"], 0, 150)[[7, 8, 30, 31, 120, 121]]
    for entry in manifest.shards:
        with ShardReader(tmp_path / "out" / entry.path) as reader:
            assert not set(reader.ids().tolist()) & set(bad.tolist())
            assert np.isfinite(reader.showers().voxels).all()
    assert ingest(config([spoiled], on_invalid="drop"), tmp_path / "out").dropped == expected


def test_the_largest_ratio_is_a_choice(tmp_path: Path, config: Config, write_file: WriteFile) -> None:
    path = write_file(tmp_path / "a.hdf5", 20)
    with pytest.raises(DataError, match="deposit far above"):
        ingest(config([path], max_ratio=1e-3), tmp_path / "out")


PEAK = """
import resource, sys
from pathlib import Path
from caloray.io.ingest import IngestConfig, ingest
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ingest(IngestConfig(files=[sys.argv[1]]), Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def test_memory_is_bounded_for_the_largest_showers(tmp_path: Path) -> None:
    """1,800 showers of 40,500 voxels are 292 MB; the ingest may add at most 500 MiB, for any number."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "big.hdf5", "w") as file:
        voxels = file.create_dataset("showers", (1800, 40_500), "f4", chunks=(50, 40_500), compression="lzf")
        for start in range(0, 1800, 300):
            voxels[start : start + 300] = rng.random((300, 40_500), dtype="f4") > 0.97
        file["incident_energies"] = np.full((1800, 1), 1e5)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "big.hdf5"), str(tmp_path / "out")]
    started = time.monotonic()
    added = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert added < 500, f"{added} MiB in {time.monotonic() - started:.0f} s"


def test_progress_ends_at_the_number_of_rows(
    files: list[Path], tmp_path: Path, config: Config, content: Content
) -> None:
    calls: list[tuple[int, int]] = []
    ingest(config(files), tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert calls[-1] == (320, 320)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert ingest_module.REQUEST in content(tmp_path / "out")
