"""Write-then-rename under every fault between two system calls."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from caloray import atomic
from caloray.errors import StorageError

SYSCALLS = ["fsync-file", "replace", "fsync-folder"]


class PowerCutError(BaseException):
    """Stands for a kill: no code of ours may swallow it."""


@pytest.fixture
def fail_at(monkeypatch):
    """Make the chosen system call of a write raise."""

    def install(point: str, error: BaseException) -> None:
        real = os.fsync
        synced = []

        def fsync(descriptor: int) -> None:
            folder = Path(f"/proc/self/fd/{descriptor}").is_dir()
            synced.append(folder)
            if point == ("fsync-folder" if folder else "fsync-file"):
                raise error
            real(descriptor)

        def replace(source, target) -> None:
            raise error

        monkeypatch.setattr(os, "fsync", fsync)
        if point == "replace":
            monkeypatch.setattr(os, "replace", replace)

    return install


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_what_was_written_is_there_and_hashed(tmp_path):
    digest = atomic.write_bytes(tmp_path / "deep" / "er" / "a.bin", b"abc")
    assert (tmp_path / "deep" / "er" / "a.bin").read_bytes() == b"abc"
    assert digest == atomic.sha256_bytes(b"abc") == atomic.sha256_file(tmp_path / "deep" / "er" / "a.bin")
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert [p.name for p in (tmp_path / "deep" / "er").iterdir()] == ["a.bin"]


@pytest.mark.parametrize(
    "kind", [PowerCutError(), OSError(errno.EIO, "input/output error")], ids=["kill", "error"]
)
@pytest.mark.parametrize("point", SYSCALLS)
@pytest.mark.parametrize("before", [None, b"old"], ids=["new", "overwritten"])
def test_a_fault_between_any_two_calls_leaves_old_or_new_never_a_part(tmp_path, fail_at, point, kind, before):
    target = tmp_path / "a.bin"
    if before is not None:
        target.write_bytes(before)
    fail_at(point, kind)
    with pytest.raises(PowerCutError if isinstance(kind, PowerCutError) else StorageError):
        atomic.write_bytes(target, b"new content")
    expected = (
        {"a.bin": b"new content"} if point == "fsync-folder" else {} if before is None else {"a.bin": before}
    )
    assert contents(tmp_path) == expected


def test_the_content_is_synced_before_the_rename_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        calls.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        real_sync(descriptor)

    def replace(source, target):
        calls.append("replace")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    atomic.write_bytes(tmp_path / "a", b"a")
    assert calls == ["file", "replace", "folder"]
    calls.clear()
    with atomic.staging_directory(tmp_path / "folder") as temporary:
        (temporary / "one").write_text("1")
        (temporary / "two").write_text("2")
    assert calls == ["file", "file", "folder", "replace", "folder"]


def test_an_exception_in_the_block_leaves_nothing(tmp_path):
    def fail() -> None:
        with atomic.staging(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not list(tmp_path.iterdir())


def fill_the_disk(target: Path) -> None:
    with atomic.staging(target) as temporary, temporary.open("wb") as file:
        file.write(b"x")
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")


def test_a_full_disk_is_status_74_with_what_to_do(tmp_path):
    with pytest.raises(StorageError, match="no space left") as caught:
        fill_the_disk(tmp_path / "a")
    assert caught.value.exit_code == 74
    assert str(tmp_path / "a") in caught.value.message
    assert "same command again" in caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_is_needed_is_told(tmp_path):
    (tmp_path / "plain").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        atomic.write_bytes(tmp_path / "plain" / "a", b"a")
    with (
        pytest.raises(StorageError, match="cannot be written"),
        atomic.staging_directory(tmp_path / "plain" / "b"),
    ):
        pass


def test_sweep_takes_only_what_is_stale(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "a.json.12-ab.tmp").write_text("{")
    (tmp_path / "step-1.tmp").mkdir()
    (tmp_path / "step-1.tmp" / "state.pt").write_text("")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.tmp").write_text("")
    assert [p.name for p in atomic.sweep(tmp_path)] == ["a.json.12-ab.tmp", "step-1.tmp"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.json", "b.tmp", "below"]
    assert atomic.sweep(tmp_path) == []
    assert atomic.sweep(tmp_path / "absent") == []


def test_what_staging_left_can_be_removed_for_one_name_only(tmp_path):
    mine, other, longer = "a.db.12-0123abcd.tmp", "plan.json.12-0123abcd.tmp", "a.db.json.12-0123abcd.tmp"
    kept = [other, longer, "a.db.tmp", "a.db.12-0123abcd.tmp.gz"]
    for name in (mine, *kept):
        (tmp_path / name).write_text("x")
    assert [p.name for p in atomic.sweep_staged(tmp_path, "a.db")] == [mine]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)
    assert [p.name for p in atomic.sweep_staged(tmp_path)] == [longer, other]


def test_what_a_thread_is_writing_is_not_stale(tmp_path):
    """A campaign sweeps its directory while its mirror builds a database there."""
    with atomic.staging(tmp_path / "a.db") as temporary:
        temporary.write_text("x")
        with ThreadPoolExecutor(1) as other:
            for name in (None, "a.db"):
                assert other.submit(atomic.sweep_staged, tmp_path, name).result() == []
    left = temporary.with_name(temporary.name)
    left.write_text("by a process with the same id, long ago")
    assert atomic.sweep_staged(tmp_path) == [left]
    assert (tmp_path / "a.db").read_text() == "x"


def test_what_this_thread_could_not_finish_is_stale(tmp_path):
    """An interruption may come between two frames; the traceback then keeps the first from cleaning up."""
    broken_off = atomic.staging(tmp_path / "a.db")
    broken_off.__enter__().write_text("x")
    assert [path.name.rsplit(".", 2)[0] for path in atomic.sweep_staged(tmp_path)] == ["a.db"]
    assert list(tmp_path.iterdir()) == []


def test_sweep_does_not_follow_links(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "link.tmp").symlink_to(kept)
    atomic.sweep(folder)
    assert not list(folder.iterdir())
    assert (kept / "file").exists()


def write_folder(final: Path) -> None:
    with atomic.staging_directory(final) as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "a").write_text("a")


@pytest.mark.parametrize("kind", [PowerCutError(), OSError(errno.ENOSPC, "full")], ids=["kill", "error"])
@pytest.mark.parametrize("point", SYSCALLS)
def test_a_folder_is_complete_or_absent(tmp_path, fail_at, point, kind):
    fail_at(point, kind)
    expected = PowerCutError if isinstance(kind, PowerCutError) else StorageError
    with pytest.raises(expected):
        write_folder(tmp_path / "final")
    assert not list(tmp_path.iterdir())


def test_a_folder_replaces_nothing(tmp_path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "old").write_text("old")
    with pytest.raises(StorageError), atomic.staging_directory(final) as temporary:
        (temporary / "new").write_text("new")
    assert [p.name for p in tmp_path.rglob("*")] == ["final", "old"]


def test_json_is_canonical_and_strict(tmp_path):
    assert atomic.digest_json({"b": [1, 2.5], "a": None}) == atomic.digest_json({"a": None, "b": [1, 2.5]})
    assert atomic.digest_json({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert atomic.digest_json([1, 2]) != atomic.digest_json([2, 1])
    with pytest.raises(ValueError):
        atomic.digest_json(float("nan"))
    with pytest.raises(ValueError):
        atomic.write_json(tmp_path / "a.json", {"x": float("inf")})
    assert atomic.write_json(tmp_path / "a.json", {"b": 1, "a": 2}) == atomic.sha256_file(tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == '{\n "a": 2,\n "b": 1\n}\n'


def test_too_little_space_is_refused_with_both_figures(tmp_path):
    atomic.require_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(StorageError, match=r"need 1000000000\.00 GB, have \d+\.\d\d GB") as caught:
        atomic.require_space(tmp_path / "not" / "yet", 10**18)
    assert caught.value.context["needed"] == 10**18
    assert not list(tmp_path.iterdir())
