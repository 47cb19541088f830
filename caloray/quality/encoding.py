"""Integer arrays as short strings, for receipts."""

from __future__ import annotations

__all__ = ["pack", "unpack"]

import base64
import binascii
import zlib

import numpy as np

from caloray.errors import DataError

KINDS = ("i1", "i2", "i4", "i8")


def pack(values: np.ndarray) -> str:
    """The numbers in the smallest integer type that holds them, compressed, in base 64.

    Args:
        values: int64, any shape; the shape is not kept.
    """
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    kind = next(k for k in KINDS if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    data = np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()
    return f"{kind}:{base64.b64encode(zlib.compress(data, 6)).decode()}"


def unpack(text: object, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The int64 array that :func:`pack` has packed; no more is unpacked than ``shape`` needs.

    Args:
        text: What is to be unpacked; anything, it may come from a damaged file.
        shape: Of the array; one axis may be -1 and is at most 4096 long.
        where: Name of the array, for messages.

    Raises:
        DataError: Not such a string, or of another size.
    """
    kind, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if kind not in KINDS:
        raise DataError(f"{where}: no packed integers", hint="make the file again")
    size = np.dtype(kind).itemsize * int(np.prod([4096 if n < 0 else n for n in shape]))
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(rest, validate=True), size + 1)
        return np.frombuffer(data, dtype=f"<{kind}").astype(np.int64).reshape(shape)
    except (ValueError, binascii.Error, zlib.error) as error:
        raise DataError(
            f"{where}: packed integers are damaged ({error})", hint="make the file again"
        ) from error
