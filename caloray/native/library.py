"""Find the native library, check that it is the one of these sources, and say why not if it cannot be used.

The environment variable CALORAY_NATIVE_ISA (baseline, avx2 or avx512) makes kernels that are prepared from
then on use an older instruction set than this processor's newest: for tests, and to compare machines.
CALORAY_NATIVE=0 (or off, false, no) does without the library.
"""

from __future__ import annotations

__all__ = ["ISAS", "isa", "isas", "load", "why_not", "why_not_bf16"]

import ctypes
import functools
import os
import struct
from pathlib import Path
from typing import NamedTuple

from caloray.errors import ConfigError
from caloray.native.build import LIBRARY, SOURCES, digest

ISAS = ("baseline", "avx2", "avx512")
_REBUILD = "rebuild with `python -m caloray.native.build`"

_BF16 = (
    "",
    "the library was built by a compiler that does not know AMX (g++ 11 or clang++ 12 do), or not for x86-64",
    "this processor has no AMX tiles for bfloat16",
    "the operating system does not permit the use of AMX (Linux does from 5.16 on)",
)


class _Found(NamedTuple):
    handle: ctypes.CDLL | None
    why_not: str


def load() -> ctypes.CDLL | None:
    """The library, or None where there is none that fits; :func:`why_not` then has the reason."""
    return _found().handle


def why_not() -> str:
    """Why :func:`load` gives None, and what to do; empty if it gives the library."""
    return _found().why_not


def isas() -> tuple[str, ...]:
    """Instruction sets that this processor can run, oldest first; empty without the library."""
    library = load()
    return () if library is None else ISAS[: library.caloray_newest_isa() + 1]


def isa() -> str:
    """The instruction set to use; its place in ``ISAS`` is its number in the C interface.

    Raises:
        ConfigError: CALORAY_NATIVE_ISA names one that this processor cannot run, or there is no library.
    """
    known = isas()
    if not known:
        raise ConfigError(f"there is no native library: {why_not()}")
    wanted = os.environ.get("CALORAY_NATIVE_ISA", "").lower() or known[-1]
    if wanted not in known:
        raise ConfigError(
            f"CALORAY_NATIVE_ISA is {wanted!r}, but this processor runs {', '.join(known)}",
            hint="unset it to use the newest",
        )
    return wanted


def _found() -> _Found:
    switch = os.environ.get("CALORAY_NATIVE", "")
    if switch.lower() in {"0", "off", "false", "no"}:
        return _Found(None, f"CALORAY_NATIVE={switch} is set")
    return _find()


def why_not_bf16() -> str:
    """Why products in bfloat16 cannot be had here; empty if they can."""
    library = load()
    return why_not() if library is None else _BF16[library.caloray_request_bf16()]


@functools.cache
def _find() -> _Found:
    if not LIBRARY.exists():
        return _Found(None, f"{LIBRARY} was not built: build it with `python -m caloray.native.build`")
    try:
        if _is_cut_off(LIBRARY):
            return _Found(None, f"{LIBRARY} is not complete: {_REBUILD}")
        library = ctypes.CDLL(str(LIBRARY))
        library.caloray_digest.restype = ctypes.c_char_p
        built_from = library.caloray_digest().decode()
    except (OSError, AttributeError) as error:
        return _Found(None, f"{LIBRARY} cannot be loaded ({error}): {_REBUILD}")
    if SOURCES.is_dir() and built_from != digest():
        return _Found(None, f"{LIBRARY} was built from other sources than {SOURCES}: {_REBUILD}")
    return _Found(library, "")


def _is_cut_off(path: Path) -> bool:
    """Whether an ELF file ends before its table of sections: loading it would end in a bus error."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        header = file.read(64)
    if header[:6] != b"\x7fELF\x02\x01" or len(header) < 64:
        return False
    (table,) = struct.unpack_from("<Q", header, 0x28)
    size, number = struct.unpack_from("<HH", header, 0x3A)
    return bool(path.stat().st_size < table + size * number)
