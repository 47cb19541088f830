"""Wheels: with the library where there is a compiler, pure and working where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = Path(__file__).with_name("check_install.py")
LIBRARY = "caloray/native/libcaloray_native.so"
NEEDED = ("pyproject.toml", "hatch_build.py", "constraints.txt", "README.md", "LICENSE", ".gitignore")
COMPILERS = ("c++", "g++", "clang++")
needs_compiler = pytest.mark.skipif(
    not os.environ.get("CXX") and not any(map(shutil.which, COMPILERS)), reason="no C++ compiler here"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a build reads, without a library."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(ROOT / "caloray", copy / "caloray", ignore=ignored)
    for name in NEEDED:
        shutil.copy(ROOT / name, copy)
    return copy


def hatch(checkout: Path, target: str, **environment: str) -> tuple[Path, str]:
    """The built file and what the build said."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", target]
    clean = {name: value for name, value in os.environ.items() if name != "CALORAY_NATIVE_BUILD"}
    done = subprocess.run(command, cwd=checkout, env=clean | environment, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode:
        raise RuntimeError(said)
    (built,) = (checkout / "dist").iterdir()
    return built, said


def without_compiler(folder: Path) -> dict[str, str]:
    """An environment in which no compiler can be found."""
    folder.mkdir()
    return {"PATH": str(folder), "CXX": str(folder / "c++")}


def check(wheel: Path, expected: str, **environment: str) -> None:
    """Unpack the wheel and let check_install.py use it."""
    unpacked = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    command = [sys.executable, str(CHECK), expected]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CALORAY_NATIVE")}
    done = subprocess.run(
        command,
        cwd=unpacked,
        env=clean | {"PYTHONPATH": str(unpacked)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(unpacked / "caloray")


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@needs_compiler
def test_a_wheel_with_the_library(checkout: Path):
    wheel, _ = hatch(checkout, "wheel", CALORAY_NATIVE_BUILD="require")
    python, abi, platform = wheel.stem.split("-")[-3:]
    assert (python, abi) == ("py3", "none")
    assert platform != "any"
    names = names_in(wheel)
    assert LIBRARY in names
    assert not [name for name in names if name.endswith(".o") or "hatch_build" in name]
    with zipfile.ZipFile(wheel) as archive:
        (facts,) = (name for name in names if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: false" in archive.read(facts).decode()
    check(wheel, "native")


def test_a_wheel_without_a_compiler(checkout: Path, tmp_path: Path):
    """The install succeeds, says what is missing in one line, and samples with torch."""
    hidden = without_compiler(tmp_path / "empty")
    wheel, said = hatch(checkout, "wheel", **hidden)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in names_in(wheel)
    assert "goes without its native library" in said
    assert str(tmp_path / "empty" / "c++") in said
    check(wheel, "torch", **hidden)


def test_a_wheel_for_publication_does_not_go_without(checkout: Path, tmp_path: Path):
    with pytest.raises(RuntimeError, match="BuildError"):
        hatch(checkout, "wheel", CALORAY_NATIVE_BUILD="require", **without_compiler(tmp_path / "empty"))


def test_the_library_can_be_declined(checkout: Path):
    """A library that lies in the checkout is not packed either: nobody knows what it was built from."""
    (checkout / LIBRARY).write_bytes(b"old")
    wheel, _ = hatch(checkout, "wheel", CALORAY_NATIVE_BUILD="0")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in names_in(wheel)


def test_the_source_archive_has_all_sources_and_no_library(checkout: Path):
    (checkout / LIBRARY).write_bytes(b"old")
    archive, _ = hatch(checkout, "sdist")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    sources = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "caloray/native").rglob("*") if path.is_file()
    }
    sources = {name for name in sources if "__pycache__" not in name and not name.endswith((".so", ".tmp"))}
    assert sources | {"hatch_build.py", "constraints.txt"} <= names
    assert LIBRARY not in names
