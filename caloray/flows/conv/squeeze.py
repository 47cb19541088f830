"""Space to channels, for rectangular neighbourhoods (Dinh et al., "Real NVP", ICLR 2017, section 3.6)."""

from __future__ import annotations

__all__ = ["Squeeze"]

from nflows.transforms.base import Transform
from torch import Tensor


class Squeeze(Transform):  # type: ignore[misc]
    """Each ``rows`` x ``columns`` neighbourhood becomes channels: channel = row * columns + column within it.

    For equal factors it is nflows' ``SqueezeTransform``, which knows squares only.

    Args:
        rows: Factor of the height.
        columns: Factor of the width.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(batch, c, h, w) to (batch, c * rows * columns, h / rows, w / columns)."""
        del context
        batch, channels, height, width = inputs.shape
        small = height // self.rows, width // self.columns
        split = inputs.reshape(batch, channels, small[0], self.rows, small[1], self.columns)
        squeezed = split.permute(0, 1, 3, 5, 2, 4).reshape(batch, -1, *small)
        return squeezed, inputs.new_zeros(batch)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back."""
        del context
        batch, channels, height, width = inputs.shape
        split = inputs.reshape(batch, -1, self.rows, self.columns, height, width)
        image = split.permute(0, 1, 4, 2, 5, 3).reshape(
            batch, channels // (self.rows * self.columns), height * self.rows, width * self.columns
        )
        return image, inputs.new_zeros(batch)
