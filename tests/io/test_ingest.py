"""Ingest: the same bytes however often it was killed, and nothing wrong gets in."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from caloray.errors import DataError, IntegrityError, StorageError
from caloray.geometry import load_geometry
from caloray.io import ingest as ingest_module
from caloray.io import ingest_plan, ingest_task
from caloray.io.ingest import (
    IngestConfig,
    SplitFractions,
    finish_ingest,
    ingest,
    plan_ingest,
    prepare_ingest,
    run_ingest_task,
)
from caloray.io.known import KnownFile
from caloray.io.lock import exclusive
from caloray.io.manifest import MANIFEST, Manifest, verify_directory
from caloray.io.shards import ShardReader
from caloray.io.split import SPLITS, assign_splits, event_ids

SAMPLE = Path(__file__).parents[2] / "data" / "geant4_par04_ds2.hdf5"
VOXELS = 368  # dataset 1 photons: ragged layers


def write(path: Path, rows: int, seed: int = 0, voxels: int = VOXELS, **attrs: Any) -> Path:
    rng = np.random.default_rng(seed)
    showers = rng.exponential(5, (rows, voxels)) * (rng.random((rows, voxels)) < 0.2)
    with h5py.File(path, "w") as file:
        file.create_dataset("showers", data=showers.astype("f4"), compression="gzip", chunks=(min(50, rows), voxels))
        file.create_dataset("incident_energies", data=rng.uniform(2e3, 5e4, (rows, 1)))
        file.attrs.update(attrs)
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "a.hdf5", 230, 1, cpu_s=12.5), write(tmp_path / "b.hdf5", 90, 2)]


def config(files: list[Path], **options: Any) -> IngestConfig:
    return IngestConfig(**{"files": files, "rows_per_shard": 100, **options})


def content(directory: Path) -> dict[str, bytes]:
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(files)}


def split_of(directory: Path) -> dict[tuple[float, ...], str]:
    """Which split each shower went to, showers told apart by their energy and first voxels."""
    found = {}
    for entry in Manifest.load(directory).shards:
        with ShardReader(directory / entry.path) as reader:
            for showers in reader.chunks():
                for energy, voxels in zip(showers.incident_energies, showers.voxels, strict=True):
                    found[(energy, *voxels[:20].tolist())] = entry.split
    return found


# ------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("chunk", [1, 77 * 4 * VOXELS, 32 << 20])
def test_every_row_arrives_once_and_unchanged(
    files: list[Path], tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
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
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(config(files), tmp_path / "one")
    monkeypatch.setattr(ingest_task, "CHUNK_BYTES", 13 * 4 * VOXELS)
    ingest(config(files), tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_the_manifest_tells_the_origin(files: list[Path], tmp_path: Path) -> None:
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
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_large_showers_make_smaller_tasks(tmp_path: Path) -> None:
    path = write(tmp_path / "big.hdf5", 1, voxels=40_500)
    (task,) = plan_ingest(IngestConfig(files=(path,))).tasks
    assert task.geometry.name == "ds3"
    rows = plan_ingest(IngestConfig(files=(path,))).request["rows_per_shard"]
    assert rows == 1600
    assert rows * 40_500 * 4 <= 256 << 20
    assert plan_ingest(IngestConfig(files=(SAMPLE,))).request["rows_per_shard"] == 2000


# ------------------------------------------------------------------ splits


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    shares=st.tuples(*[st.integers(0, 10)] * 3).filter(lambda s: sum(s) > 0),
    sha=st.binary(min_size=32, max_size=32),
)
def test_splits_follow_the_shares(seed: int, shares: tuple[int, int, int], sha: bytes) -> None:
    total = sum(shares)
    fractions = SplitFractions(**{n: s / total for n, s in zip(SPLITS, shares, strict=True)})
    ids = event_ids(sha.hex(), 0, 4000)
    assert (ids >= 0).all()
    assert len(set(ids.tolist())) == 4000
    assert np.array_equal(event_ids(sha.hex(), 1234, 1300), ids[1234:1300])
    parts = assign_splits(ids, fractions, seed)
    order = np.random.default_rng(seed).permutation(4000)
    assert np.array_equal(assign_splits(ids[order], fractions, seed), parts[order])
    for position, share in enumerate(shares):
        count = int((parts == position).sum())
        expected = share / total
        assert abs(count / 4000 - expected) <= 6 * (expected * (1 - expected) / 4000) ** 0.5


def test_split_is_the_published_one() -> None:
    """Frozen values: a change here would mix training and test data of existing directories."""
    ids = event_ids("ab" * 32, 0, 12)
    assert ids[:2].tolist() == [3535591275665178948, 7800278605129020846]
    parts = assign_splits(ids, SplitFractions(train=0.5, validation=0.25, test=0.25), 7)
    assert parts.tolist() == [0, 0, 2, 2, 0, 2, 0, 0, 0, 0, 1, 0]


def test_seed_matters_but_ids_do_not_depend_on_it() -> None:
    ids = event_ids("0" * 64, 0, 2000)
    one, two = (assign_splits(ids, SplitFractions(), seed) for seed in (0, 1))
    assert 0.2 < np.mean(one != two) < 0.5
    assert not np.array_equal(ids, event_ids("1" * 64, 0, 2000))


def test_split_is_stable_under_order_and_names(files: list[Path], tmp_path: Path) -> None:
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


def test_an_empty_split_has_no_shard(files: list[Path], tmp_path: Path) -> None:
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


# ------------------------------------------------------------------ again, killed, tampered


def test_again_does_nothing(files: list[Path], tmp_path: Path) -> None:
    ingest(config(files), tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    bytes_before = content(tmp_path / "out")
    ingest(config(files), tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")} == before
    assert content(tmp_path / "out") == bytes_before


def test_tasks_in_any_order(files: list[Path], tmp_path: Path) -> None:
    ingest(config(files), tmp_path / "one")
    plan = plan_ingest(config(files))
    prepare_ingest(plan, tmp_path / "two")
    for task in (*reversed(plan.tasks), plan.tasks[1]):
        run_ingest_task(task, tmp_path / "two")
    finish_ingest(plan, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.faults
def test_crash_at_every_rename(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rename in turn fails; no reader ever sees a partial file, and the rerun ends in the same bytes."""
    ingest(config(files), tmp_path / "good")
    good = content(tmp_path / "good")
    real, crashes = os.replace, 0
    for crash_at in itertools.count(1):
        out, calls = tmp_path / f"out{crash_at}", itertools.count(1)

        def fail(old: Any, new: Any, calls: Any = calls, crash_at: int = crash_at) -> None:
            if next(calls) == crash_at:
                raise KeyboardInterrupt
            real(old, new)

        monkeypatch.setattr(os, "replace", fail)
        try:
            ingest(config(files), out)
            break
        except KeyboardInterrupt:
            crashes += 1
            assert not (out / MANIFEST).exists()
            for name, data in content(out).items():
                assert good[name] == data
        finally:
            monkeypatch.setattr(os, "replace", real)
        ingest(config(files), out)
        assert content(out) == good
    assert crashes == len(good)  # every file once


KILLED = """
import os, signal, sys
from pathlib import Path
from caloray.io import ingest_task
from caloray.io.ingest import IngestConfig, ingest
append, left = ingest_task.ShardWriter.append, [int(sys.argv[2])]
def counted(self, showers):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    append(self, showers)
ingest_task.ShardWriter.append = counted
ingest(IngestConfig(files=sys.argv[3:], rows_per_shard=100), Path(sys.argv[1]))
"""


@pytest.mark.faults
def test_kill_9_and_again(files: list[Path], tmp_path: Path) -> None:
    ingest(config(files), tmp_path / "good")
    out = tmp_path / "out"
    for appends in (2, 5, 5):
        command = [sys.executable, "-c", KILLED, str(out), str(appends), *map(str, files)]
        assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
        assert not (out / MANIFEST).exists()
        assert list(out.rglob("*.tmp"))
    ingest(config(files), out)
    assert content(out) == content(tmp_path / "good")
    assert not list(out.rglob("*.tmp"))


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "receipt", "foreign receipt", "no receipt"])
def test_damage_is_repaired_by_a_rerun(
    files: list[Path], tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    ingest(config(files), out)
    good = content(out)
    shard, receipt = out / "train/part-00001.parquet", out / "receipts/task-00001.json"
    raw = shard.read_bytes()
    match damage:
        case "flip":
            shard.write_bytes(raw[:500] + bytes([raw[500] ^ 1]) + raw[501:])
        case "truncate":
            shard.write_bytes(raw[:-1])
        case "remove":
            shard.unlink()
        case "receipt":
            receipt.write_text("{")
        case "foreign receipt":
            value = json.loads(receipt.read_text())
            value["shards"][0]["path"] = "../../evil.parquet"
            receipt.write_text(json.dumps(value))
        case "no receipt":
            receipt.unlink()
    ingest(config(files), out)
    assert content(out) == good
    assert ("part-00001.parquet" in caplog.text) == (damage in {"flip", "truncate", "remove"})


# ------------------------------------------------------------------ refused


@pytest.mark.parametrize("change", ["split_seed", "split", "rows_per_shard", "on_invalid", "files"])
def test_another_request_in_the_same_directory(files: list[Path], tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    ingest(config(files), out)
    before = content(out)
    options: dict[str, Any] = {
        "split_seed": 1,
        "split": SplitFractions(train=0.5, validation=0.5, test=0),
        "rows_per_shard": 50,
        "on_invalid": "drop",
        "files": files[:1],
    }
    other = config(**{"files": files, change: options[change]})
    with pytest.raises(StorageError) as caught:
        ingest(other, out)
    assert plan_ingest(config(files)).digest in caught.value.message
    assert plan_ingest(other).digest in caught.value.message
    assert content(out) == before


@pytest.mark.parametrize("present", ["manifest", "receipts", "request"])
def test_a_directory_of_something_else(files: list[Path], tmp_path: Path, present: str) -> None:
    out = tmp_path / "out"
    ingest(config(files), out)
    if present == "request":
        (out / "request.json").write_text("{}")
    else:
        (out / "request.json").unlink()
        (out / {"manifest": "receipts", "receipts": MANIFEST}[present]).rename(tmp_path / "away")
    with pytest.raises(StorageError, match="another request"):
        ingest(config(files), out)


def test_one_writer_at_a_time(files: list[Path], tmp_path: Path) -> None:
    with exclusive(tmp_path / "out"), pytest.raises(StorageError, match="another caloray process"):
        ingest(config(files), tmp_path / "out")
    ingest(config(files), tmp_path / "out")


def test_output_that_cannot_be_made(files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        ingest(config(files), tmp_path / "out")


def test_too_small_a_disk(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(StorageError, match=r"need .* GB, have 0\.00 GB free"):
        ingest(config(files), tmp_path / "out")
    assert content(tmp_path / "out") == {}


def test_the_same_file_twice(files: list[Path], tmp_path: Path) -> None:
    copy = shutil.copy(files[0], tmp_path / "copy.hdf5")
    with pytest.raises(DataError, match="the same content as"):
        plan_ingest(config([*files, Path(copy)]))


def test_files_of_two_geometries(files: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "c.hdf5", 5, voxels=533)
    with pytest.raises(DataError, match=r"c\.hdf5: geometry ds1_pions \(533 voxels\), but .*a\.hdf5 has ds1_photons"):
        plan_ingest(config([*files, other]))


def test_named_geometry_must_fit(files: list[Path]) -> None:
    assert plan_ingest(config(files, geometry="ds1_photons")).geometry.name == "ds1_photons"
    with pytest.raises(DataError, match=r"a\.hdf5"):
        plan_ingest(config(files, geometry="ds2"))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.hdf5"):
        plan_ingest(config([tmp_path / "no.hdf5"]))


def test_file_that_changed_after_planning(files: list[Path], tmp_path: Path) -> None:
    plan = plan_ingest(config(files))
    prepare_ingest(plan, tmp_path / "out")
    for path in files:
        write(path, 40, seed=9)
    with pytest.raises(DataError, match="changed since"):
        run_ingest_task(plan.tasks[0], tmp_path / "out")
    for path in files:
        path.unlink()
    with pytest.raises(DataError, match="changed since"):
        run_ingest_task(plan.tasks[0], tmp_path / "out")


def test_unfinished_tasks_make_no_manifest(files: list[Path], tmp_path: Path) -> None:
    plan = plan_ingest(config(files))
    prepare_ingest(plan, tmp_path / "out")
    entries = [run_ingest_task(task, tmp_path / "out") for task in plan.tasks[:-1]]
    with pytest.raises(IntegrityError, match=r"task 3 is not finished"):
        finish_ingest(plan, tmp_path / "out")
    run_ingest_task(plan.tasks[-1], tmp_path / "out")
    (tmp_path / "out" / entries[0][0].path).unlink()
    with pytest.raises(IntegrityError, match=r"task 0 is not finished"):
        finish_ingest(plan, tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()


# ------------------------------------------------------------------ bad rows


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    path = write(tmp_path / "bad.hdf5", 150, 4)
    with h5py.File(path, "r+") as file:
        file["showers"][7, 3] = np.nan
        file["showers"][8, 3] = -1
        file["showers"][120, 0] = np.inf
        file["showers"][121, 0] = -2
        file["incident_energies"][30] = 0
        file["showers"][31, :] = 1e5
    return path


def test_bad_rows_are_rejected_by_default(spoiled: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        ingest(config([spoiled]), tmp_path / "out")
    for part in ("bad.hdf5", "not a number in 1 row (7)", "negative voxel energy in 1 row (8)", "(30)", "(31)"):
        assert part in caught.value.message
    assert not (tmp_path / "out" / MANIFEST).exists()
    assert not list((tmp_path / "out").rglob("*.parquet*"))


@pytest.mark.parametrize("chunk", [10 * 4 * VOXELS, 32 << 20])
def test_bad_rows_can_be_dropped_and_are_counted(
    spoiled: Path, tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
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


def test_the_largest_ratio_is_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.hdf5", 20)
    with pytest.raises(DataError, match="deposit far above"):
        ingest(config([path], max_ratio=1e-3), tmp_path / "out")


# ------------------------------------------------------------------ memory

PEAK = """
import resource, sys
from pathlib import Path
from caloray.io.ingest import IngestConfig, ingest
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ingest(IngestConfig(files=[sys.argv[1]]), Path(sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def test_memory_is_bounded_for_the_largest_showers(tmp_path: Path) -> None:
    """2,400 showers of 40,500 voxels are 389 MB; the ingest may add at most 500 MiB, however many there are."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "big.hdf5", "w") as file:
        voxels = file.create_dataset("showers", (2400, 40_500), "f4", chunks=(50, 40_500), compression="lzf")
        for start in range(0, 2400, 400):
            voxels[start : start + 400] = rng.random((400, 40_500), dtype="f4") > 0.97
        file["incident_energies"] = np.full((2400, 1), 1e5)
    command = [sys.executable, "-c", PEAK, str(tmp_path / "big.hdf5"), str(tmp_path / "out")]
    started = time.monotonic()
    added = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert added < 500, f"{added} MiB in {time.monotonic() - started:.0f} s"


def test_progress_ends_at_the_number_of_rows(files: list[Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    ingest(config(files), tmp_path / "out", lambda done, total: calls.append((done, total)))
    assert calls[-1] == (320, 320)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert ingest_module.REQUEST in content(tmp_path / "out")
