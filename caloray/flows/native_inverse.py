"""The exact inverse of a MADE in C++: packed weights, many samples per vector, any number of threads."""

from __future__ import annotations

__all__ = ["NativeInverter", "fits", "unavailable"]

import ctypes
import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from caloray.errors import ConfigError, NumericalError
from caloray.flows.schedule import DegreeSchedule
from caloray.flows.spline import SplineConfig
from caloray.native import library

_DTYPES = (torch.float32, torch.float64)


class NativeInverter:
    """Solve by the native library; the same numbers as the other back-ends up to rounding.

    A sample's result depends neither on the other samples of the batch nor on the number of threads
    (torch's, as set when it is called). Only a batch of a single sample is solved by a kernel of its own,
    whose result may differ in the last bits. The weights are copied: later changes do not show.

    Args:
        schedule: Sorted weights of the MADE, float32 or float64, on the CPU.
        spline: Shape of the spline.
        bf16: Multiply in bfloat16 where it is fastest, which is no longer exact.

    Raises:
        ConfigError: There is no native library, or the weights are not of this kind.
    """

    def __init__(self, schedule: DegreeSchedule, spline: SplineConfig, *, bf16: bool = False) -> None:
        if why_not := unavailable(bf16=bf16):
            raise ConfigError(f"there is no native inverse: {why_not}", hint="or use the backend torch")
        lib = _library()
        if not fits(schedule):
            kind = f"{schedule.final.dtype} on {schedule.final.device}"
            raise ConfigError(
                f"the native inverse takes float32 or float64 on the CPU, not {kind}",
                hint="use the backend torch, or move the model",
            )
        self.dtype = schedule.final.dtype
        self.features = schedule.features
        self.context_features = _context_features(schedule)
        if bf16 and self.dtype != torch.float32:
            raise ConfigError(f"the native inverse in bfloat16 takes float32 weights, not {self.dtype}")
        source, owned = _source(schedule, spline, bf16=bf16)
        self._handle = lib.made_create(ctypes.byref(source))
        del owned
        if not self._handle:
            raise NumericalError("no memory for the packed weights of the native inverse")
        self._solve: Callable[..., int] = lib.made_inverse
        self.packed_bytes: int = lib.made_packed_bytes(self._handle)
        # Not at the interpreter's end, when another thread may still be solving.
        weakref.finalize(self, lib.made_free, self._handle).atexit = False

    def __call__(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Solve for the data.

        Args:
            noise: (batch, D).
            context: (batch, C) or None.

        Returns:
            Data (batch, D) and log |det Jacobian| (batch,).

        Raises:
            ConfigError: Wrong shape, dtype or device.
        """
        noise = self._checked("noise", noise, self.features, len(noise))
        if context is not None and self.context_features:
            context = self._checked("context", context, self.context_features, len(noise))
            at = context.data_ptr()
        else:
            at = None
        x = torch.empty_like(noise)
        log_det = noise.new_empty(len(noise))
        status = self._solve(
            self._handle,
            noise.data_ptr(),
            at,
            x.data_ptr(),
            log_det.data_ptr(),
            len(noise),
            torch.get_num_threads(),
        )
        if status:
            raise NumericalError("no memory for the workspace of the native inverse")
        return x, log_det

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Packed weights stay in their process."""
        raise TypeError("a native inverse cannot be pickled or copied; prepare it again from the schedule")

    def _checked(self, name: str, values: Tensor, columns: int, rows: int) -> Tensor:
        if values.shape == (rows, columns) and values.dtype == self.dtype and values.device.type == "cpu":
            return values.contiguous()
        raise ConfigError(
            f"{name} is {tuple(values.shape)} {values.dtype} on {values.device}, "
            f"expected ({rows}, {columns}) {self.dtype} on cpu"
        )


def fits(schedule: DegreeSchedule) -> bool:
    """Whether the native inverse can take these weights."""
    return schedule.final.dtype in _DTYPES and schedule.final.device.type == "cpu"


def unavailable(*, bf16: bool = False) -> str:
    """Why the native inverse cannot be used and what to do; empty if it can.

    Args:
        bf16: Whether bfloat16 is asked for, which needs a processor with AMX.
    """
    if library.load() is None:
        return library.why_not()
    return library.why_not_bf16() if bf16 else ""


class _Layer(ctypes.Structure):
    """As ``LayerSource`` in made.cpp."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("weight", "bias", "context_weight", "context_bias"))


class _Source(ctypes.Structure):
    """As ``Source`` in made.cpp."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("isa", "bytes", "residual", "layers", "bf16", "unused")),
        *((name, ctypes.c_int64) for name in ("features", "hidden", "context", "direct_features", "steps")),
        ("layer", ctypes.POINTER(_Layer)),
        *((name, ctypes.c_void_p) for name in ("final_weight", "final_bias", "direct_weight")),
        ("step", ctypes.POINTER(ctypes.c_int64)),
        ("bins", ctypes.c_int64),
        *((name, ctypes.c_double) for name in ("bound", "min_width", "min_height", "min_slope")),
    )


def _source(schedule: DegreeSchedule, spline: SplineConfig, *, bf16: bool) -> tuple[_Source, list[Tensor]]:
    """The weights as the library reads them, and the tensors that own the memory."""
    owned: list[Tensor] = []

    def at(tensor: Tensor | None) -> int | None:
        if tensor is None:
            return None
        owned.append(tensor.detach().to(schedule.final.dtype).contiguous())
        return owned[-1].data_ptr()

    layers = [
        _Layer(at(layer.weight), at(layer.bias), *(at(t) for t in layer.context or (None, None)))
        for layer in schedule.layers
    ]
    # Units that see no dimension (with D = 1 all of them) come first, as a step without dimensions.
    rows = [(0, 0, 0, schedule.steps[0].ready)] if schedule.steps[0].ready else []
    rows += [(s.dims.start, s.dims.stop, s.units.start, s.units.stop) for s in schedule.steps]
    steps = [n for row in rows for n in row]
    direct = schedule.output_context
    source = _Source(
        isa=library.ISAS.index("avx512" if bf16 else library.isa()),
        bytes=schedule.final.element_size(),
        residual=schedule.residual,
        layers=len(layers),
        bf16=bf16,
        features=schedule.features,
        hidden=len(schedule.layers[0].bias),
        context=_context_features(schedule),
        direct_features=0 if direct is None else direct.shape[1],
        steps=len(rows),
        layer=(_Layer * len(layers))(*layers),
        final_weight=at(schedule.final),
        final_bias=at(schedule.final_bias),
        direct_weight=at(direct),
        step=(ctypes.c_int64 * len(steps))(*steps),
        bins=spline.bins,
        bound=spline.tail_bound,
        min_width=spline.min_width,
        min_height=spline.min_height,
        min_slope=spline.min_derivative,
    )
    return source, owned


def _context_features(schedule: DegreeSchedule) -> int:
    direct = schedule.output_context
    return schedule.context_features or (0 if direct is None else direct.shape[2])


@functools.cache
def _library() -> ctypes.CDLL:
    """The library with the types of its functions set."""
    lib = library.load()
    if lib is None:
        raise ConfigError(library.why_not())
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("made_create", pointer, [ctypes.POINTER(_Source)]),
        ("made_free", None, [pointer]),
        ("made_packed_bytes", number, [pointer]),
        ("made_inverse", ctypes.c_int32, [pointer] * 5 + [number] * 2),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
