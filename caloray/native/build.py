"""Compile the native library: ``python -m caloray.native.build``, or as a program without caloray installed.

Needs a C++17 compiler ($CXX, or c++, g++ or clang++ on the path) and nothing else. Files ``src/kernel_*.cpp``
are compiled once per instruction set (see ``src/isa.h``), ``src/amx_*.cpp`` for AMX where the compiler knows
it, all other ``src/*.cpp`` once.
"""

from __future__ import annotations

__all__ = ["LIBRARY", "SOURCES", "BuildError", "build", "digest", "main"]

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
LIBRARY = HERE / "libcaloray_native.so"

# NaN must survive (no -ffast-math); the library brings neither exceptions nor the C++ run-time library.
_FLAGS = [
    *("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"),
    *("-ffp-contract=fast", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics"),
    *("-Wall", "-Wextra", "-Wno-psabi", "-Wno-unknown-warning-option"),
]
_X86 = {
    "baseline": ["-DCALORAY_VECTOR_BYTES=16"],
    "avx2": ["-DCALORAY_VECTOR_BYTES=32", "-mavx2", "-mfma"],
    "avx512": [
        *("-DCALORAY_VECTOR_BYTES=64", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        *("-mavx2", "-mfma", "-mprefer-vector-width=512"),
    ],
}
_OTHERS = {"baseline": ["-DCALORAY_VECTOR_BYTES=16"]}
# A missing symbol shows when linking, not when loading.
_LINK = ["-Wl,--as-needed", "-Wl,-z,defs"] if sys.platform == "linux" else []
# For files amx_*.cpp, where the compiler knows these options.
_AMX = [*_X86["avx512"], "-mamx-tile", "-mamx-bf16", "-mavx512bf16"]


class BuildError(RuntimeError):
    """No compiler, or one that could not compile the library; the message ends with its output."""


def digest() -> str:
    """Hash of all sources and compiler options: a library built from others is out of date."""
    parts = [repr((_FLAGS, _X86, _AMX)).encode()]
    for path in sorted(SOURCES.iterdir()):
        if path.suffix in {".h", ".cpp"}:
            parts += [path.name.encode(), path.read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def build(output: Path = LIBRARY) -> Path:
    """Compile and link; the old library stays until the new one is complete.

    Args:
        output: Where the library goes.

    Returns:
        ``output``.

    Raises:
        BuildError: There is no compiler, or it failed.
    """
    compiler = _compiler()
    if not os.access(output.parent, os.W_OK) or output.is_dir():
        raise BuildError(f"cannot write {output}")
    with tempfile.TemporaryDirectory(prefix="caloray-native-") as folder:
        jobs = _jobs(compiler, Path(folder))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, jobs))
        linked = output.with_name(f".{output.name}.{os.getpid()}.tmp")
        objects = sorted(str(path) for path in Path(folder).glob("*.o"))
        try:
            _run([*compiler, "-shared", "-pthread", *_LINK, *objects, "-o", str(linked)])
            os.replace(linked, output)
        except OSError as error:
            raise BuildError(f"cannot write {output}: {error.strerror}") from error
        finally:
            linked.unlink(missing_ok=True)
    return output


def main() -> int:
    """Build and say where the library is; the exit status."""
    if len(sys.argv) > 1:
        sys.stdout.write(f"{__doc__}\n")
        return 0 if sys.argv[1] in {"-h", "--help"} else 2
    try:
        path = build()
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{path}\n")
    return 0


def _jobs(compiler: list[str], folder: Path) -> list[list[str]]:
    """The commands that compile all sources into a folder."""
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    isas = _X86 if is_x86 else _OTHERS
    amx = {"amx": _AMX} if is_x86 and sys.platform == "linux" and _has_amx(compiler, folder) else {}
    common = [*_FLAGS, f'-DCALORAY_DIGEST="{digest()}"']
    common += ["-DCALORAY_X86"] * is_x86 + ["-DCALORAY_AMX"] * bool(amx)
    jobs = []
    for source in sorted(SOURCES.glob("*.cpp")):
        kind = source.name.partition("_")[0]
        variants = isas if kind == "kernel" else amx if kind == "amx" else {"": []}
        for isa, flags in variants.items():
            target = folder / f"{source.stem}_{isa}.o"
            named = [*flags, f"-DCALORAY_ISA={isa}"] if isa else []
            jobs.append([*compiler, *common, *named, "-c", str(source), "-o", str(target)])
    return jobs


def _has_amx(compiler: list[str], folder: Path) -> bool:
    """Whether compiler and assembler (often the older of the two) know AMX."""
    source = folder / "probe.cc"
    source.write_text("#include <immintrin.h>\nvoid probe() { _tile_dpbf16ps(0, 1, 2); }\n")
    try:
        _run([*compiler, *_AMX, "-c", str(source), "-o", str(folder / "probe.out")])
    except BuildError:
        return False
    return True


def _compiler() -> list[str]:
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(f"CXX={os.environ['CXX']}: {error}") from error
    if chosen:
        return chosen
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise BuildError("no C++ compiler: install g++ or clang++, or set CXX")


def _run(command: list[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise BuildError(f"cannot run the C++ compiler {command[0]}: {error.strerror}") from error
    if result.returncode:
        raise BuildError(
            f"the C++ compiler {command[0]} ended with status {result.returncode} (CXX chooses another)\n"
            f"{result.stderr[-4000:]}\n{shlex.join(command)}"
        )


if __name__ == "__main__":
    sys.exit(main())
