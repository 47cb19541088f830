"""The inverse spline by Triton: one kernel instead of about fifty, for GPUs.

Triton comes with PyTorch's CUDA builds; nothing imports it before it is asked for.
"""

from __future__ import annotations

__all__ = ["available", "triton_spline_inverse", "why_not"]

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.spline import SplineConfig

_LANES = 128


def available() -> bool:
    """Whether the kernel can run on this machine's GPU."""
    return not why_not()


def why_not() -> str:
    """What is missing, in a few words; empty if nothing is."""
    if find_spec("triton") is None:
        return "Triton is not installed"
    if not torch.cuda.is_available():
        return "no CUDA device"
    return ""


def triton_spline_inverse(y: Tensor, raw: Tensor, config: SplineConfig) -> tuple[Tensor, Tensor]:
    """Same contract and, up to rounding in float64, same numbers as ``spline_inverse``; not differentiable.

    Args:
        y: (batch, features) on a CUDA device.
        raw: (batch, 3K - 1, features), there too.
        config: The spline's shape.

    Returns:
        x and log |dx/dy|, both (batch, features) in the dtype of ``y``.

    Raises:
        ConfigError: Triton is not installed.
    """
    y, raw = y.contiguous(), raw.contiguous()
    x, log_slope = torch.empty_like(y), torch.empty_like(y)
    if y.numel():
        grid = (-(-y.numel() // _LANES),)
        shape = _shape(config, y.device)
        _kernel()[grid](y, raw, x, log_slope, y.numel(), y.shape[1], shape, bins=config.bins, lanes=_LANES)
    return x, log_slope


@cache
def _kernel() -> Any:
    try:
        from caloray.flows.triton_kernels import inverse_kernel
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the Triton spline needs Triton, which is not installed",
            hint="use caloray.flows.spline.spline_inverse",
        ) from error
    return inverse_kernel


@cache
def _shape(config: SplineConfig, device: torch.device) -> Tensor:
    """The spline's numbers on the device; as kernel arguments they would be rounded to float32."""
    numbers = [config.tail_bound, config.min_width, config.min_height, config.min_derivative]
    return torch.tensor(numbers, dtype=torch.float64, device=device)
