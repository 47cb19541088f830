"""Layers as images: from the flat voxel order to (rows, columns) and back."""

from __future__ import annotations

__all__ = ["Flatten", "Grid", "ToImage"]

from dataclasses import dataclass

from nflows.transforms.base import Transform
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """One layer as an image.

    Args:
        rows: Height: bins of r, or of x.
        columns: Width: bins of alpha, or of y.
        cyclic: Whether the last column neighbours the first.
        transposed: Whether the flat order runs over the rows fastest, as it does for (alpha, r).
    """

    rows: int
    columns: int
    cyclic: bool = False
    transposed: bool = False

    @property
    def size(self) -> int:
        """Number of voxels."""
        return self.rows * self.columns

    def images(self, flat: Tensor) -> Tensor:
        """(..., size) in flat order to (..., rows, columns)."""
        if self.transposed:
            return flat.reshape(*flat.shape[:-1], self.columns, self.rows).transpose(-1, -2)
        return flat.reshape(*flat.shape[:-1], self.rows, self.columns)

    def flat(self, images: Tensor) -> Tensor:
        """Inverse of :meth:`images`."""
        return (images.transpose(-1, -2) if self.transposed else images).flatten(-2)


class ToImage(Transform):  # type: ignore[misc]
    """Flat layers (batch, size) to images (batch, 1, rows, columns): a permutation.

    Args:
        grid: The layer.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Flat to image."""
        del context
        images = self.grid.images(inputs).unsqueeze(1).contiguous()
        return images, inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Image to flat."""
        del context
        return self.grid.flat(inputs.squeeze(1)), inputs.new_zeros(len(inputs))


class Flatten(Transform):  # type: ignore[misc]
    """Images (batch, channels, rows, columns) to (batch, channels * rows * columns).

    Args:
        shape: (channels, rows, columns).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Image to flat."""
        del context
        return inputs.flatten(1), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Flat to image."""
        del context
        return inputs.reshape(-1, *self.shape), inputs.new_zeros(len(inputs))
