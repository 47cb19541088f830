"""Permutations between the MADEs of a flow."""

from __future__ import annotations

__all__ = ["FixedPermutation"]

import torch
from nflows.transforms.permutations import Permutation
from torch import Tensor


class FixedPermutation(Permutation):  # type: ignore[misc]
    """Nflows' permutation with its inverse kept, where nflows sorts again in every call.

    Args:
        permutation: (D,) int64; output d is input ``permutation[d]``.
    """

    def __init__(self, permutation: Tensor) -> None:
        super().__init__(permutation)
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (batch, D) back to inputs, and zeros (batch,)."""
        del context
        return inputs.index_select(1, self._inverse_permutation), inputs.new_zeros(len(inputs))

    @property
    def _inverse_permutation(self) -> Tensor:
        buffer = self._permutation
        state = (id(buffer), buffer._version, buffer.data_ptr())
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, torch.argsort(buffer))
        return self._kept[1]
