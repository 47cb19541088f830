"""Building and finding the native library."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from caloray.errors import ConfigError
from caloray.native import build, library

has_library = pytest.mark.skipif(library.load() is None, reason=library.why_not())


@pytest.fixture
def fresh(monkeypatch):
    """Look for the library again, in this test only."""
    library._find.cache_clear()
    monkeypatch.delenv("CALORAY_NATIVE", raising=False)
    yield monkeypatch
    monkeypatch.undo()
    library._find.cache_clear()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A library of the one file that describes it."""
    sources = tmp_path / "src"
    sources.mkdir()
    for name in ("isa.h", "library.cpp"):
        shutil.copy(build.SOURCES / name, sources)
    monkeypatch.setattr(build, "SOURCES", sources)
    return sources


@has_library
def test_it_tells_its_instruction_sets(monkeypatch):
    assert library.why_not() == ""
    assert library.isas() == library.ISAS[: len(library.isas())]
    monkeypatch.delenv("CALORAY_NATIVE_ISA", raising=False)
    assert library.isa() == library.isas()[-1]
    monkeypatch.setenv("CALORAY_NATIVE_ISA", "baseline")
    assert library.isa() == "baseline"


@has_library
def test_an_unknown_instruction_set_is_refused(monkeypatch):
    monkeypatch.setenv("CALORAY_NATIVE_ISA", "mmx")
    with pytest.raises(ConfigError, match=r"'mmx'.*baseline"):
        library.isa()


def test_what_was_not_built(fresh, tmp_path):
    fresh.setattr(library, "LIBRARY", tmp_path / "none.so")
    assert library.load() is None
    assert library.isas() == ()
    assert "was not built: build it with `python -m caloray.native.build`" in library.why_not()
    with pytest.raises(ConfigError, match="was not built"):
        library.isa()


def test_what_is_no_library(fresh, tmp_path):
    (tmp_path / "broken.so").write_text("not ELF")
    fresh.setattr(library, "LIBRARY", tmp_path / "broken.so")
    assert library.load() is None
    assert "cannot be loaded" in library.why_not()
    assert "rebuild with" in library.why_not()


@has_library
def test_a_library_that_was_cut_off_is_not_loaded(fresh, tmp_path):
    """Loading it would end the process by a signal."""
    whole = library.LIBRARY.read_bytes()
    fresh.setattr(library, "LIBRARY", tmp_path / "cut.so")
    for size in (len(whole) - 1, len(whole) // 2, 30_000, 64):
        library._find.cache_clear()
        (tmp_path / "cut.so").write_bytes(whole[:size])
        assert library.load() is None
        assert "is not complete: rebuild with" in library.why_not()


@pytest.mark.parametrize("word", ["0", "off", "False", "no"])
def test_it_can_be_switched_off(fresh, word):
    fresh.setenv("CALORAY_NATIVE", word)
    assert library.load() is None
    assert library.why_not() == f"CALORAY_NATIVE={word} is set"


@has_library
def test_other_sources_than_it_was_built_from(fresh):
    fresh.setattr(library, "digest", lambda: "0")
    assert library.load() is None
    assert "built from other sources" in library.why_not()
    assert "rebuild with `python -m caloray.native.build`" in library.why_not()


@has_library
def test_an_installation_without_sources_needs_no_comparison(fresh, tmp_path):
    fresh.setattr(library, "digest", lambda: "0")
    fresh.setattr(library, "SOURCES", tmp_path / "src")
    assert library.load() is not None


def test_the_digest_follows_the_sources(tiny):
    before = build.digest()
    (tiny / "isa.h").write_text((tiny / "isa.h").read_text() + "\n")
    assert build.digest() != before


@has_library
def test_building_leaves_one_file(tiny, tmp_path):
    output = tmp_path / "out" / "lib.so"
    output.parent.mkdir()
    assert build.build(output) == output
    assert [path.name for path in output.parent.iterdir()] == ["lib.so"]


@has_library
def test_a_file_that_does_not_compile_keeps_the_old_library(tiny, tmp_path):
    output = tmp_path / "lib.so"
    output.write_text("old")
    (tiny / "library.cpp").write_text("int main( {")
    with pytest.raises(build.BuildError, match=r"library\.cpp"):
        build.build(output)
    assert output.read_text() == "old"


def test_no_compiler(tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler"):
        build.build(tmp_path / "lib.so")
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    with pytest.raises(build.BuildError, match="cannot run the C\\+\\+ compiler"):
        build.build(tmp_path / "lib.so")


def test_build_runs_alone_and_reports_failure(tmp_path):
    # Without caloray on the path: a wheel is built before anything is installed.
    program = Path(shutil.copy(build.__file__, tmp_path))
    (tmp_path / "src").mkdir()
    environment = {"PATH": str(tmp_path), "CXX": ""}
    result = subprocess.run([sys.executable, "-S", program], capture_output=True, text=True, env=environment)
    assert result.returncode == 1
    assert result.stderr.startswith("no C++ compiler")
