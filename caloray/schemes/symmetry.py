"""Symmetries of a layer's voxels, as ways to make more training rows of one."""

from __future__ import annotations

__all__ = ["Turn", "draw_turns"]

from dataclasses import dataclass

import torch
from torch import Tensor

from caloray.preprocess.conditions import DIRECTION


@dataclass(frozen=True)
class Turn:
    """One symmetry for each row of a batch.

    Args:
        voxels: (n, D) the flat index in the old layer of each voxel of the new one.
        signs: (n, 2) signs of x and y of a direction; applied before the exchange.
        exchanged: (n,) whether x and y change places.
    """

    voxels: Tensor
    signs: Tensor
    exchanged: Tensor

    def layer(self, voxels: Tensor) -> Tensor:
        """Voxels (n, D), each row turned."""
        return voxels.gather(1, self.voxels)

    def conditions(self, values: Tensor | None, names: tuple[str, ...]) -> Tensor | None:
        """Conditions (n, P) with their directions turned alike."""
        if values is None or not {*names} & {*DIRECTION[:2]}:
            return values
        x, y = (values[:, names.index(name)] for name in DIRECTION[:2])
        x, y = x * self.signs[:, 0], y * self.signs[:, 1]
        turned = values.clone()
        turned[:, names.index(DIRECTION[0])] = torch.where(self.exchanged, y, x)
        turned[:, names.index(DIRECTION[1])] = torch.where(self.exchanged, x, y)
        return turned


def draw_turns(kind: str, shape: tuple[int, int], count: int, draws: torch.Generator) -> Turn:
    """Random symmetries for ``count`` rows.

    Args:
        kind: "rotate": turned and mirrored in alpha; "flip": x and y mirrored, and exchanged where the layer
            is square; one of the 8 symmetries of the square, or of the 4 of the rectangle.
        shape: Bins of the slow and of the fast axis: (alpha, r) or (x, y).
        count: Rows n.
        draws: Source of randomness.
    """
    first, second = shape
    if kind == "rotate":
        shift = torch.randint(first, (count, 1), generator=draws)
        sign = 2 * torch.randint(2, (count, 1), generator=draws) - 1
        alpha = (shift + sign * torch.arange(first)) % first
        index = (alpha[:, :, None] * second + torch.arange(second)).view(count, -1)
        return Turn(index, torch.ones(count, 2), torch.zeros(count, dtype=torch.bool))
    chosen = torch.randint(2, (count, 3), generator=draws)
    if first != second:
        chosen[:, 2] = 0
    x, y = (
        torch.where(chosen[:, [axis]] > 0, torch.arange(size).flip(0), torch.arange(size))
        for axis, size in enumerate(shape)
    )
    grid = x[:, :, None] * second + y[:, None, :]
    exchanged = chosen[:, 2] > 0
    if first == second:
        grid = torch.where(exchanged[:, None, None], grid.transpose(1, 2), grid)
    return Turn(grid.reshape(count, -1), 1 - 2.0 * chosen[:, :2], exchanged)
