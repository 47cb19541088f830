"""The forward spline and its backward in the native library: what trains flows on a CPU.

One pass over the raw parameters in either direction, instead of some fifty tensor operations; the numbers are
those of :mod:`caloray.flows.spline` up to rounding, and do not depend on the number of threads.
"""

from __future__ import annotations

__all__ = ["NativeSpline", "training_spline", "usable"]

import ctypes
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from caloray.errors import ConfigError
from caloray.native import library

if TYPE_CHECKING:
    from caloray.flows.spline import SplineConfig


class _Shape(ctypes.Structure):
    """``SplineShape`` of ``native/src/spline_train.h``."""

    _fields_ = (
        ("tail_bound", ctypes.c_double),
        ("min_width", ctypes.c_double),
        ("min_height", ctypes.c_double),
        ("min_derivative", ctypes.c_double),
        ("rows", ctypes.c_int64),
        ("features", ctypes.c_int64),
        ("bins", ctypes.c_int32),
        ("wide", ctypes.c_int32),
    )


class _Forward(ctypes.Structure):
    """``SplineForward``."""

    _fields_ = (("shape", _Shape), *((name, ctypes.c_void_p) for name in ("x", "raw", "y", "log_slope")))


class _Backward(ctypes.Structure):
    """``SplineBackward``."""

    _fields_ = (
        ("shape", _Shape),
        *((name, ctypes.c_void_p) for name in ("x", "raw", "grad_y", "grad_log", "grad_x", "grad_raw")),
    )


def usable(x: Tensor, raw: Tensor) -> bool:
    """Whether :class:`NativeSpline` can take these tensors.

    Args:
        x: (batch, features).
        raw: (batch, 3K - 1, features).
    """
    return (
        x.device.type == raw.device.type == "cpu"
        and x.dim() == 2
        and x.dtype == raw.dtype
        and x.dtype in {torch.float32, torch.float64}
        and not torch.compiler.is_compiling()
        and library.load() is not None
    )


def training_spline(device: str) -> str:
    """Which implementation evaluates and differentiates the spline of a flow on this device.

    Args:
        device: As torch names it: "cpu", "cuda", "cuda:1".

    Returns:
        "native avx512" (or another instruction set) or "torch"; worth recording with what was trained.
    """
    if torch.device(device).type == "cpu" and library.load() is not None:
        return f"native {library.isa()}"
    return "torch"


class NativeSpline(torch.autograd.Function):
    """``NativeSpline.apply(x, raw, config)``: y and log |dy/dx| as in :func:`spline_forward`.

    Only x and the raw parameters are kept for backward, which computes the rest again. Derivatives of the
    gradients are not available.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
        """Evaluate; (batch, features) and (batch, 3K - 1, features) to twice (batch, features)."""
        if raw.shape != (expected := (x.shape[0], config.n_raw, *x.shape[1:])):
            raise ConfigError(f"raw spline parameters of shape {tuple(raw.shape)}, expected {expected}")
        x, raw = x.contiguous(), raw.contiguous()
        ctx.config = config
        ctx.save_for_backward(x, raw)
        ctx.set_materialize_grads(False)
        y, log_slope = torch.empty_like(x), torch.empty_like(x)
        _run("forward", _Forward(_shape(raw, config), *_addresses(x, raw, y, log_slope)))
        return y, log_slope

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor | None, grad_log: Tensor | None) -> tuple[Tensor, Tensor, None]:
        """Gradients of x and of the raw parameters."""
        if torch.is_grad_enabled():
            raise ConfigError("the spline has no second derivatives (create_graph=True)")
        x, raw = ctx.saved_tensors
        grads = [None if grad is None else grad.contiguous() for grad in (grad_y, grad_log)]
        grad_x, grad_raw = torch.empty_like(x), torch.empty_like(raw)
        arrays = _addresses(x, raw, *grads, grad_x, grad_raw)
        _run("backward", _Backward(_shape(raw, ctx.config), *arrays))
        return grad_x, grad_raw, None


def _shape(raw: Tensor, config: SplineConfig) -> _Shape:
    return _Shape(
        config.tail_bound,
        config.min_width,
        config.min_height,
        config.min_derivative,
        raw.shape[0],
        raw.shape[2],
        config.bins,
        raw.dtype == torch.float64,
    )


def _addresses(*tensors: Tensor | None) -> list[int | None]:
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def _run(direction: str, call: ctypes.Structure) -> None:
    """Call the library; other Python threads run meanwhile."""
    function = getattr(library.load(), f"caloray_spline_train_{direction}")
    isa = ctypes.c_int32(library.ISAS.index(library.isa()))
    function(ctypes.byref(call), isa, ctypes.c_int64(torch.get_num_threads()))
