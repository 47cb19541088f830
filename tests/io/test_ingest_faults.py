"""Ingest killed, damaged, repeated, misdirected: the same bytes in the end, or a clear refusal."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caloray.errors import DataError, IntegrityError, StorageError
from caloray.io.ingest import (
    IngestConfig,
    SplitFractions,
    finish_ingest,
    ingest,
    plan_ingest,
    prepare_ingest,
    run_ingest_task,
)
from caloray.io.lock import exclusive
from caloray.io.manifest import MANIFEST

Config = Callable[..., IngestConfig]
Content = Callable[[Path], dict[str, bytes]]
WriteFile = Callable[..., Path]


def test_again_does_nothing(files: list[Path], tmp_path: Path, config: Config, content: Content) -> None:
    ingest(config(files), tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    bytes_before = content(tmp_path / "out")
    ingest(config(files), tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")} == before
    assert content(tmp_path / "out") == bytes_before


def test_tasks_in_any_order(files: list[Path], tmp_path: Path, config: Config, content: Content) -> None:
    ingest(config(files), tmp_path / "one")
    plan = plan_ingest(config(files))
    prepare_ingest(plan, tmp_path / "two")
    for task in (*reversed(plan.tasks), plan.tasks[1]):
        run_ingest_task(task, tmp_path / "two")
    finish_ingest(plan, tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.faults
def test_crash_at_every_rename(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, content: Content
) -> None:
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
def test_kill_9_and_again(files: list[Path], tmp_path: Path, config: Config, content: Content) -> None:
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
@pytest.mark.parametrize(
    "damage", ["flip", "truncate", "remove", "receipt", "foreign receipt", "swapped receipt", "no receipt"]
)
def test_damage_is_repaired_by_a_rerun(
    files: list[Path],
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
    config: Config,
    content: Content,
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
        case "swapped receipt":
            shutil.copy(out / "receipts/task-00000.json", receipt)
        case "no receipt":
            receipt.unlink()
    ingest(config(files), out)
    assert content(out) == good
    assert ("part-00001.parquet" in caplog.text) == (damage in {"flip", "truncate", "remove"})


@pytest.mark.parametrize("change", ["split_seed", "split", "rows_per_shard", "on_invalid", "files"])
def test_another_request_in_the_same_directory(
    files: list[Path], tmp_path: Path, change: str, config: Config, content: Content
) -> None:
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


def test_a_request_that_was_refused_before_its_first_shard_holds_no_directory(
    files: list[Path], tmp_path: Path, config: Config, content: Content
) -> None:
    prepare_ingest(plan_ingest(config(files, split_seed=1)), tmp_path / "out")
    ingest(config(files), tmp_path / "out")
    ingest(config(files), tmp_path / "good")
    assert content(tmp_path / "out") == content(tmp_path / "good")


def test_every_row_dropped(files: list[Path], tmp_path: Path, config: Config) -> None:
    with pytest.raises(DataError, match=r"no row of .* was kept.*deposit"):
        ingest(config(files, max_ratio=1e-9, on_invalid="drop"), tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()


@pytest.mark.parametrize("present", ["manifest", "receipts", "request"])
def test_a_directory_of_something_else(
    files: list[Path], tmp_path: Path, present: str, config: Config
) -> None:
    out = tmp_path / "out"
    ingest(config(files), out)
    if present == "request":
        (out / "request.json").write_text("{}")
    else:
        (out / "request.json").unlink()
        (out / {"manifest": "receipts", "receipts": MANIFEST}[present]).rename(tmp_path / "away")
    with pytest.raises(StorageError, match="another request"):
        ingest(config(files), out)


def test_one_writer_at_a_time(files: list[Path], tmp_path: Path, config: Config) -> None:
    with exclusive(tmp_path / "out"), pytest.raises(StorageError, match="another caloray process"):
        ingest(config(files), tmp_path / "out")
    ingest(config(files), tmp_path / "out")


def test_output_that_cannot_be_made(files: list[Path], tmp_path: Path, config: Config) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        ingest(config(files), tmp_path / "out")


def test_too_small_a_disk(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Config, content: Content
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(StorageError, match=r"need .*B, have 10 bytes free"):
        ingest(config(files), tmp_path / "out")
    assert content(tmp_path / "out") == {}


def test_the_same_file_twice(files: list[Path], tmp_path: Path, config: Config) -> None:
    copy = shutil.copy(files[0], tmp_path / "copy.hdf5")
    with pytest.raises(DataError, match="the same content as"):
        plan_ingest(config([*files, Path(copy)]))


def test_files_of_two_geometries(
    files: list[Path], tmp_path: Path, config: Config, write_file: WriteFile
) -> None:
    other = write_file(tmp_path / "c.hdf5", 5, voxels=533)
    with pytest.raises(
        DataError, match=r"c\.hdf5: geometry ds1_pions \(533 voxels\), but .*a\.hdf5 has ds1_photons"
    ):
        plan_ingest(config([*files, other]))


def test_named_geometry_must_fit(files: list[Path], config: Config) -> None:
    assert plan_ingest(config(files, geometry="ds1_photons")).geometry.name == "ds1_photons"
    with pytest.raises(DataError, match=r"a\.hdf5"):
        plan_ingest(config(files, geometry="ds2"))


def test_missing_file(tmp_path: Path, config: Config) -> None:
    with pytest.raises(DataError, match=r"no\.hdf5"):
        plan_ingest(config([tmp_path / "no.hdf5"]))


def test_file_that_changed_after_planning(
    files: list[Path], tmp_path: Path, config: Config, write_file: WriteFile
) -> None:
    plan = plan_ingest(config(files))
    prepare_ingest(plan, tmp_path / "out")
    for path in files:
        write_file(path, 40, seed=9)
    with pytest.raises(DataError, match="changed since"):
        run_ingest_task(plan.tasks[0], tmp_path / "out")
    for path in files:
        path.unlink()
    with pytest.raises(DataError, match="changed since"):
        run_ingest_task(plan.tasks[0], tmp_path / "out")


def test_unfinished_tasks_make_no_manifest(files: list[Path], tmp_path: Path, config: Config) -> None:
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
