"""What happens when the disk, the machine or a user interferes: every promise that generation makes."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import pyarrow.parquet as pq
import pytest

from caloray import atomic
from caloray.atomic import sha256_file
from caloray.errors import NumericalError, StorageError
from caloray.generation.plan import GenerationPlan, make_plan
from caloray.generation.run import generate
from caloray.io.manifest import Manifest
from caloray.io.shards import ShardReader

pytestmark = pytest.mark.faults
Start = Callable[..., "subprocess.Popen[str]"]
N, SEED = 100, 7
ARGUMENTS = ("generate", "bundle", "-n", N, "--seed", SEED, "--blocks-per-shard", 2)


def digest(directory: Path) -> str:
    return str(Manifest.load(directory).created["content_digest"])


@pytest.fixture
def plan(model: Any) -> GenerationPlan:
    return make_plan(model, N, SEED, blocks_per_shard=2)


@pytest.fixture
def undisturbed(model: Any, plan: GenerationPlan, tmp_path: Path) -> str:
    return str(generate(model, plan, tmp_path / "undisturbed").created["content_digest"])


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.01)


def assert_only_whole_files(directory: Path, plan: GenerationPlan) -> None:
    """Whatever has a final name is complete; a manifest is there only if everything else is."""
    for path in directory.rglob("*"):
        if path.is_dir() or path.name.endswith(".tmp") or path.name == ".lock":
            continue
        if path.suffix == ".parquet":
            with ShardReader(path, plan.readout) as reader:
                assert len(reader.showers()) == plan.shard(int(path.stem.removeprefix("shard-"))).rows
        else:
            json.loads(path.read_text())
    for path in directory.glob("receipts/*.json"):
        receipt = json.loads(path.read_text())["receipt"]
        assert sha256_file(directory / receipt["path"]) == receipt["sha256"]
    if (directory / "manifest.json").exists():
        assert Manifest.load(directory).verify(directory) == []


def test_killed_driver_leaves_whole_shards_and_is_continued(
    start: Start, tmp_path: Path, plan: GenerationPlan, undisturbed: str
) -> None:
    out = tmp_path / "out"
    for index in (1, 3):
        process = start(*ARGUMENTS, "-o", out, STUB_DELAY="0.3")
        wait_for(out / f"receipts/shard-{index:05d}.json", process)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        assert not (out / "manifest.json").exists()
        assert_only_whole_files(out, plan)
    before = (out / "shards/shard-00000.parquet").stat().st_mtime_ns
    process = start(*ARGUMENTS, "-o", out)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert (out / "shards/shard-00000.parquet").stat().st_mtime_ns == before
    assert digest(out) == undisturbed
    assert not list(out.rglob("*.tmp"))
    assert sha256_file(out / "manifest.json") == sha256_file(tmp_path / "undisturbed/manifest.json")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("delay", ["0.2", "30"])
def test_a_signal_stops_within_two_seconds(
    start: Start,
    tmp_path: Path,
    plan: GenerationPlan,
    seconds_to_end: Callable[..., float],
    number: int,
    status: int,
    delay: str,
) -> None:
    """Also in the midst of a block that lasts much longer."""
    out = tmp_path / "out"
    process = start(*ARGUMENTS, "-o", out, STUB_DELAY=delay)
    wait_for(out / "plan.json", process)
    time.sleep(0.5)
    os.kill(process.pid, number)
    assert seconds_to_end(process) < 2
    _, complaints = process.communicate()
    assert process.returncode == status, complaints
    assert "run the same command again" in complaints
    assert not list(out.rglob("*.tmp"))
    assert_only_whole_files(out, plan)


def test_stopped_request_is_continued(
    start: Start, model: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str
) -> None:
    out = tmp_path / "out"
    process = start(*ARGUMENTS, "-o", out, STUB_DELAY="0.3")
    wait_for(out / "receipts/shard-00000.json", process)
    process.terminate()
    assert process.wait(60) == 143
    assert generate(model, plan, out).created["content_digest"] == undisturbed


class Crash(BaseException):
    """Stands for the end of the process."""


def crash_at(genuine: Callable[..., None], step: int, when: str) -> Callable[..., None]:
    """``genuine``, except that the process ends before, within or after its call number ``step``."""
    left = step

    def crashing(*arguments: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        if left == -1 and when == "before":
            raise Crash
        if left == -1 and when == "within" and isinstance(arguments[-1], bytes):
            genuine(*arguments[:-1], arguments[-1][:-20])
            raise Crash
        genuine(*arguments, **options)
        if left == -1:
            raise Crash

    return crashing


@pytest.mark.parametrize(
    ("owner", "call", "when"),
    [
        (os, "replace", "before"),
        (os, "replace", "after"),
        (atomic, "_fsync", "before"),
        (atomic, "_fsync", "after"),
        (pq.ParquetWriter, "write_table", "before"),
        (pq.ParquetWriter, "close", "before"),
        (Path, "write_bytes", "within"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_crash_between_any_two_steps_leaves_no_half_file(
    stub: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    call: str,
    when: str,
) -> None:
    plan = make_plan(stub.StubModel(), 40, SEED, blocks_per_shard=2)
    undisturbed = generate(stub.StubModel(), plan, tmp_path / "whole").created["content_digest"]
    step, finished = 0, False
    while not finished:
        out = tmp_path / f"crash-{step}"
        with monkeypatch.context() as patch:
            patch.setattr(owner, call, crash_at(getattr(owner, call), step, when))
            patch.setattr(atomic, "_remove", lambda _: None)  # a dead process cleans nothing up
            try:
                generate(stub.StubModel(), plan, out)
                finished = True
            except Crash:
                step += 1
        assert_only_whole_files(out, plan)
        assert generate(stub.StubModel(), plan, out).created["content_digest"] == undisturbed
        assert not list(out.rglob("*.tmp"))
    assert step >= plan.n_shards


@pytest.mark.parametrize("what", ["flipped", "truncated", "missing"])
def test_a_tampered_shard_is_made_again_with_a_warning(
    stub: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str, caplog: Any, what: str
) -> None:
    out = tmp_path / "undisturbed"
    shard = out / "shards/shard-00002.parquet"
    content = bytearray(shard.read_bytes())
    if what == "flipped":
        content[100] ^= 1
    shard.write_bytes(content[:-5] if what == "truncated" else content)
    if what == "missing":
        shard.unlink()
    model = stub.StubModel()
    with caplog.at_level(logging.WARNING, logger="caloray"):
        manifest = generate(model, plan, out)
    assert [block for block, _ in model.calls] == [4, 5]
    assert manifest.created["content_digest"] == undisturbed
    assert manifest.verify(out) == []
    assert len(caplog.records) == 1
    assert "shard-00002.parquet" in caplog.text


def test_a_tampered_receipt_is_not_believed(
    stub: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str, caplog: Any
) -> None:
    path = tmp_path / "undisturbed/receipts/shard-00001.json"
    path.write_text(path.read_text().replace('"rows": 16', '"rows": 17'))
    model = stub.StubModel()
    with caplog.at_level(logging.WARNING, logger="caloray"):
        manifest = generate(model, plan, tmp_path / "undisturbed")
    assert [block for block, _ in model.calls] == [2, 3]
    assert manifest.created["content_digest"] == undisturbed
    assert "shard-00001.json" in caplog.text


def snapshot(directory: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(directory.rglob("*"))}


@pytest.mark.parametrize("change", [{"seed": 8}, {"n": 101}, {"blocks_per_shard": 3}])
def test_another_request_in_the_same_directory_is_refused(
    model: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str, change: dict[str, Any]
) -> None:
    del undisturbed
    out = tmp_path / "undisturbed"
    before = snapshot(out)
    other = make_plan(model, **{"n": N, "seed": SEED, "blocks_per_shard": 2, **change})
    with pytest.raises(StorageError) as caught:
        generate(model, other, out)
    assert plan.digest in caught.value.message
    assert other.digest in caught.value.message
    assert snapshot(out) == before


def test_shards_of_other_origin_are_not_touched(
    model: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str
) -> None:
    del undisturbed
    out = tmp_path / "undisturbed"
    (out / "plan.json").unlink()
    before = snapshot(out)
    with pytest.raises(StorageError, match="holds other shards"):
        generate(model, plan, out)
    assert snapshot(out) == before


def test_a_file_in_place_of_the_directory(model: Any, tmp_path: Path, plan: GenerationPlan) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(StorageError, match="is a file"):
        generate(model, plan, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_only_one_driver_writes(model: Any, tmp_path: Path, plan: GenerationPlan) -> None:
    (tmp_path / "out").mkdir()
    with (
        filelock.FileLock(tmp_path / "out/.lock"),
        pytest.raises(StorageError, match="another caloray process"),
    ):
        generate(model, plan, tmp_path / "out")
    generate(model, plan, tmp_path / "out")


def test_a_full_disk_ends_with_the_finished_shards_kept(
    model: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    genuine = pq.ParquetWriter.write_table
    written: list[int] = []

    def full(self: pq.ParquetWriter, *arguments: Any, **options: Any) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(1)
        genuine(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(StorageError, match="no space left") as caught:
            generate(model, plan, out)
    assert caught.value.exit_code == 74
    assert len(list(out.glob("receipts/*.json"))) == 3
    assert not list(out.rglob("*.tmp"))
    assert_only_whole_files(out, plan)
    assert generate(model, plan, out).created["content_digest"] == undisturbed


def test_a_real_limit_on_file_size_ends_cleanly(
    start: Start, model: Any, tmp_path: Path, plan: GenerationPlan, undisturbed: str
) -> None:
    """The kernel itself refuses the write, inside the Parquet library."""
    out = tmp_path / "out"
    process = start(*ARGUMENTS, "-o", out, STUB_DELAY="0.3")
    wait_for(out / "receipts/shard-00000.json", process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 74, complaints
    assert "error[CR-500]" in complaints
    assert not list(out.rglob("*.tmp"))
    assert_only_whole_files(out, plan)
    assert generate(model, plan, out).created["content_digest"] == undisturbed


def test_a_request_that_will_not_fit_is_refused_before_writing(
    model: Any, tmp_path: Path, plan: GenerationPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"need .* kB, have 1.00 kB free"):
        generate(model, plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_space_is_watched_during_the_run(
    model: Any, tmp_path: Path, plan: GenerationPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first shard the true size of a shower is known, and it is larger than was thought."""
    size = generate(model, plan, tmp_path / "whole").shards[0].bytes
    usage = shutil.disk_usage(tmp_path)._replace(free=size + plan.estimated_bytes)
    assert usage.free < size * (plan.n_shards - 2), "the toy shards must be larger than estimated"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match=r"need .* kB"):
        generate(model, plan, tmp_path / "out")
    assert len(list(tmp_path.glob("out/receipts/*"))) == 1


def test_an_invalid_shower_leaves_the_earlier_shards(stub: Any, tmp_path: Path) -> None:
    model = stub.StubModel({(5, 1): 1})
    plan = make_plan(model, N, SEED, blocks_per_shard=2, bundle="bundle")
    with pytest.raises(NumericalError, match="block 5, seed 7: 1 showers are invalid") as caught:
        generate(model, plan, tmp_path / "out")
    assert "generate bundle -n 100 --seed 7 " in caught.value.hint
    assert "--ids 41" in caught.value.hint
    assert len(list(tmp_path.glob("out/receipts/*"))) == 2
    assert not (tmp_path / "out/manifest.json").exists()
