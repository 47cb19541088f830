"""The inverse of a convolutional flow in C++: one call per layer and batch, any number of threads."""

from __future__ import annotations

__all__ = ["NativeConvInverse"]

from typing import Any

import torch
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.conv.fold import FoldedFlow
from caloray.flows.conv.native_call import Prepared, checked
from caloray.flows.conv.native_program import compile_flow
from caloray.flows.native_inverse import unavailable


class NativeConvInverse:
    """Solve by the native library, in float32; the same numbers as in torch up to rounding.

    A shower's result depends neither on the other showers of the batch nor on the number of threads (torch's,
    as set when it is called). The weights are copied: later changes do not show.

    Args:
        flow: The folded layer flow.
        bf16: Convolve in bfloat16, which is faster for batches from about ten on, and not exact.

    Raises:
        ConfigError: There is no native library, or no bfloat16.
    """

    def __init__(self, flow: FoldedFlow, *, bf16: bool = False) -> None:
        if why_not := unavailable(bf16=bf16):
            raise ConfigError(f"there is no native inverse: {why_not}", hint="or use the backend torch")
        self.channels, self.rows, self.columns = flow.order.shape
        self.context = flow.context
        program = compile_flow(flow, bf16=bf16)
        self.tile, self.packed_bytes = int(program.source.tile), program.packed_bytes
        self._prepared = Prepared(program)

    def __call__(self, noise: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Solve for the data.

        Args:
            noise: (batch, V) float32.
            planes: (batch, C, h, w) float32.

        Returns:
            Data (batch, V) and log |det Jacobian| (batch,).

        Raises:
            ConfigError: Wrong shape, dtype or device.
        """
        batch, image = len(noise), (self.rows, self.columns)
        noise = checked("noise", noise, (batch, self.channels * self.rows * self.columns))
        planes = checked("planes", planes, (batch, self.context, *image))
        x, log_det = torch.empty_like(noise), noise.new_empty(batch)
        self._prepared.run(noise, planes, x, log_det)
        return x, log_det

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Packed weights stay in their process."""
        raise TypeError("a native inverse cannot be pickled or copied; prepare it again from the flow")
