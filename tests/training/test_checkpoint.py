"""Checkpoints under every fault: complete or absent, the newest good one is taken."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

from caloray.atomic import sha256_file
from caloray.errors import CheckpointError, StorageError
from caloray.training.checkpoint import CheckpointStore


class PowerCutError(BaseException):
    """Stands for a kill."""


def state(step: int) -> dict:
    return {"step": step, "flow": {"weight": torch.full((50,), float(step))}, "history": [{"loss": 0.5}]}


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.directory.iterdir())


def test_there_and_back(store):
    assert store.load_newest() is None
    store.save(7, state(7))
    found = store.load_newest()
    assert found["step"] == 7
    assert torch.equal(found["flow"]["weight"], state(7)["flow"]["weight"])
    assert found["history"] == [{"loss": 0.5}]


def test_only_the_newest_are_kept_in_the_order_of_steps(store):
    for step in (5, 50, 500, 99_999_999):
        store.save(step, state(step))
    assert names(store) == ["step-00000500", "step-99999999"]
    assert store.load_newest()["step"] == 99_999_999


@pytest.mark.parametrize("point", ["fsync", "replace", "torch.save"])
@pytest.mark.parametrize("kill", [True, False], ids=["kill", "full disk"])
def test_a_fault_during_the_write_leaves_the_older_one(store, monkeypatch, point, kill):
    """G20."""
    store.save(1, state(1))
    error = PowerCutError() if kill else OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*((torch, "save") if point == "torch.save" else (os, point)), fail)
        with pytest.raises(PowerCutError if kill else StorageError) as caught:
            store.save(2, state(2))
    if not kill:
        assert caught.value.exit_code == 74
    assert store.load_newest()["step"] == 1
    assert names(store) == ["step-00000001"]
    store.save(2, state(2))
    assert store.load_newest()["step"] == 2


def test_a_full_disk_inside_torch_is_told_as_such(store, monkeypatch):
    """torch reports it without an errno when it opens the file itself (guarantees P8)."""
    store.save(1, state(1))
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda path, *a, **k: real(Path("/dev/full") if path.name == "state.pt" else path, *a, **k),
    )
    with pytest.raises(StorageError, match="no space left"):
        store.save(2, state(2))
    monkeypatch.undo()
    assert store.load_newest()["step"] == 1


def test_what_a_killed_process_left_is_swept(store):
    store.save(1, state(1))
    shutil.copytree(store.directory / "step-00000001", store.directory / "step-00000002.tmp")
    (store.directory / "step-00000002.tmp" / "checkpoint.json").unlink()
    assert store.load_newest()["step"] == 1
    assert names(store) == ["step-00000001"]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


DAMAGE = {
    "flipped": lambda folder: flip(folder / "state.pt", (folder / "state.pt").stat().st_size // 2),
    "first byte": lambda folder: flip(folder / "state.pt", 0),
    "truncated": lambda folder: truncate(folder / "state.pt"),
    "empty": lambda folder: (folder / "state.pt").write_bytes(b""),
    "no state": lambda folder: (folder / "state.pt").unlink(),
    "no record": lambda folder: (folder / "checkpoint.json").unlink(),
    "half a record": lambda folder: (folder / "checkpoint.json").write_text('{"sha'),
    "other record": lambda folder: (folder / "checkpoint.json").write_text("[]"),
    "empty folder": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_newest_one_is_passed_over_with_a_warning(store, caplog, damage):
    """G21."""
    store.save(1, state(1))
    store.save(2, state(2))
    damage(store.directory / "step-00000002")
    with caplog.at_level(logging.WARNING):
        assert store.load_newest()["step"] == 1
    assert "step-00000002" in caplog.text
    assert "falling back" in caplog.text


def test_none_left_is_an_error_and_never_a_start_from_zero(store):
    store.save(1, state(1))
    store.save(2, state(2))
    for folder in store.directory.iterdir():
        truncate(folder / "state.pt")
    with pytest.raises(CheckpointError, match="none of 2 checkpoints verifies") as caught:
        store.load_newest()
    assert caught.value.exit_code == 66


def test_damaged_ones_do_not_count_among_those_kept(store):
    for step in (1, 2, 3):
        store.save(step, state(step))
    truncate(store.directory / "step-00000003" / "state.pt")
    store.save(4, state(4))
    assert names(store) == ["step-00000002", "step-00000003", "step-00000004"]
    truncate(store.directory / "step-00000004" / "state.pt")
    assert store.load_newest()["step"] == 2


def test_a_damaged_one_is_written_anew_and_a_good_one_left(store):
    store.save(1, state(1))
    before = (store.directory / "step-00000001" / "state.pt").stat().st_mtime_ns
    store.save(1, state(1))
    assert (store.directory / "step-00000001" / "state.pt").stat().st_mtime_ns == before
    truncate(store.directory / "step-00000001" / "state.pt")
    store.save(1, state(1))
    assert store.load_newest()["step"] == 1


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


def test_nothing_in_a_checkpoint_is_executed(store, tmp_path, monkeypatch):
    """Even with a fitting hash, only tensors and plain values are read."""
    monkeypatch.chdir(tmp_path)
    store.save(1, state(1))
    folder = store.directory / "step-00000001"
    torch.save(Evil(), folder / "state.pt")
    (folder / "checkpoint.json").write_text(
        json.dumps({"step": 1, "sha256": sha256_file(folder / "state.pt")})
    )
    with pytest.raises(CheckpointError, match="more than tensors"):
        store.load_newest()
    assert not (tmp_path / "evil-was-here").exists()


def test_the_driver_can_ask_what_would_be_passed_over(store):
    for step in (1, 2):
        store.save(step, state(step))
    assert store.damaged() == []
    (store.directory / "step-00000002" / "state.pt").write_bytes(b"junk")
    (line,) = store.damaged()
    assert "step-00000002: state.pt has sha256" in line
    assert store.load_newest()["step"] == 1
