"""Calling the native library's convolutional programs."""

from __future__ import annotations

__all__ = ["Prepared", "checked"]

import ctypes
import functools
import weakref

import torch
from torch import Tensor

from caloray.errors import ConfigError, NumericalError
from caloray.flows.conv.native_layers import Program
from caloray.native import library


class Prepared:
    """A program whose plan the library has made; the packed weights are read where they are.

    Args:
        program: What it runs.

    Raises:
        NumericalError: There is no memory.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        lib = _library()
        self._handle = lib.conv_create(ctypes.byref(program.source))
        if not self._handle:
            raise NumericalError("no memory for the plan of a native convolutional program")
        # Not at the interpreter's end, when another thread may still be solving.
        weakref.finalize(self, lib.conv_free, self._handle).atexit = False

    def run(self, inputs: Tensor, planes: Tensor | None, outputs: Tensor, log_det: Tensor | None) -> None:
        """Run on torch's number of threads for (batch, ...) tensors, of which it fills the last two.

        Raises:
            NumericalError: There is no memory.
        """
        at = (None if tensor is None else tensor.data_ptr() for tensor in (inputs, planes, outputs, log_det))
        if _library().conv_inverse(self._handle, *at, len(inputs), torch.get_num_threads()):
            raise NumericalError("no memory for the workspace of a native convolutional program")


def checked(name: str, values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The values, contiguous.

    Raises:
        ConfigError: Wrong shape, dtype or device.
    """
    if values.shape == shape and values.dtype == torch.float32 and values.device.type == "cpu":
        return values.detach().contiguous()
    raise ConfigError(
        f"{name} is {tuple(values.shape)} {values.dtype} on {values.device}, expected {shape} float32 on cpu"
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """The library with the types of its functions set."""
    lib = library.load()
    if lib is None:
        raise ConfigError(library.why_not())
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("conv_create", pointer, [ctypes.c_void_p]),
        ("conv_free", None, [pointer]),
        ("conv_inverse", ctypes.c_int32, [pointer] * 5 + [number] * 2),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
