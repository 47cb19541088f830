"""Symmetries of a layer's voxels, as ways to make more training rows of one."""

from __future__ import annotations

__all__ = ["Turn", "draw_turns", "require_symmetric", "require_turnable"]

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.preprocess.conditions import DIRECTION

TURNED = (DIRECTION[:2], ("impact_x", "impact_y"))
"""Conditions that are the x and y of a vector: "flip" moves them as it moves voxels."""
UNTOUCHED = (DIRECTION[2], "theta")
"""Conditions that no turn about the shower axis changes."""
SAME_EDGES = 1e-9
SAME_ANGLES = 1e-6


@dataclass(frozen=True)
class Turn:
    """One symmetry for each row of a batch.

    Args:
        voxels: (n, D) the flat index in the old layer of each voxel of the new one.
        signs: (n, 2) signs of x and y of a direction or a place; applied before the exchange.
        exchanged: (n,) whether x and y change places.
    """

    voxels: Tensor
    signs: Tensor
    exchanged: Tensor

    def layer(self, voxels: Tensor) -> Tensor:
        """Voxels (n, D), each row turned."""
        return voxels.gather(1, self.voxels)

    def conditions(self, values: Tensor | None, names: tuple[str, ...]) -> Tensor | None:
        """Conditions (n, P) with their directions and places of entry turned alike."""
        pairs = [pair for pair in TURNED if {*pair} <= {*names}]
        if values is None or not pairs:
            return values
        turned = values.clone()
        for first, second in ([names.index(name) for name in pair] for pair in pairs):
            x, y = values[:, first] * self.signs[:, 0], values[:, second] * self.signs[:, 1]
            turned[:, first] = torch.where(self.exchanged, y, x)
            turned[:, second] = torch.where(self.exchanged, x, y)
        return turned


def require_turnable(kind: str, names: Sequence[str]) -> None:
    """Refuse conditions of which it is not known how they follow the voxels.

    Args:
        kind: "none", "rotate" or "flip".
        names: The model's conditions.

    Raises:
        ConfigError: "rotate" with anything but theta and direction_z; "flip" with anything but these,
            directions and places of entry, or with x or y of such a vector alone.
    """
    pairs = TURNED if kind == "flip" else ()
    known = {*UNTOUCHED, *(name for pair in pairs if {*pair} <= {*names} for name in pair)}
    left = [name for name in names if name not in known]
    if kind != "none" and left:
        both = "".join(f", {' with '.join(pair)}" for pair in pairs)
        raise ConfigError(
            f"scheme.augment: {kind} turns showers but not their condition {', '.join(left)}",
            hint=f"set scheme.augment: none, or name only {', '.join(sorted(UNTOUCHED))}{both}",
        )


def require_symmetric(kind: str, geometry: Geometry) -> None:
    """Refuse a readout that its turns would not map onto itself.

    Args:
        kind: "none", "rotate" (equal bins of alpha round the whole circle, the same in all layers) or
            "flip" (edges of x and y symmetric about 0, and equal where there are as many).
        geometry: The readout.

    Raises:
        ConfigError: Its kind or the edges of a layer do not suit.
    """
    wanted = {"rotate": "cylindrical", "flip": "cartesian"}.get(kind, geometry.kind)
    if geometry.kind != wanted:
        raise ConfigError(
            f"scheme.augment: {kind} needs a {wanted} geometry, {geometry.name} is {geometry.kind}",
            hint="rotate is for (alpha, r) layers, flip for (x, y) layers, none for any",
        )
    problem = {"rotate": _unturnable, "flip": _unflippable}.get(kind, lambda _: "")(geometry)
    if problem:
        raise ConfigError(
            f"scheme.augment: {kind} does not suit geometry {geometry.name}, {problem}",
            hint="set scheme.augment: none",
        )


def _unturnable(geometry: Geometry) -> str:
    start, count = geometry.layers[0].first[0], geometry.layers[0].shape[0]
    expected = start + 2 * np.pi * np.arange(count + 1) / count
    for layer in geometry.layers:
        if len(layer.first) != count + 1 or not _same(layer.first, expected, SAME_ANGLES):
            return (
                f"layer {layer.id}: edges of alpha are not {count} equal bins from {start:g} round the circle"
            )
    return ""


def _unflippable(geometry: Geometry) -> str:
    for layer in geometry.layers:
        for axis, edges in zip("xy", (layer.first, layer.second), strict=True):
            if not _same(edges, -np.array(edges)[::-1], SAME_EDGES):
                ends = f"{edges[0]:g} to {edges[-1]:g} mm"
                return f"layer {layer.id}: edges of {axis}, {ends}, are not symmetric about 0"
        if len(layer.first) == len(layer.second) and not _same(layer.first, layer.second, SAME_EDGES):
            return f"layer {layer.id}: as many bins in x as in y, but other edges"
    return ""


def _same(found: Sequence[float], expected: Sequence[float] | np.ndarray, slack: float) -> bool:
    """Whether edges agree up to ``slack`` times the largest of them."""
    found_, expected_ = np.asarray(found), np.asarray(expected)
    return bool(np.abs(found_ - expected_).max() <= slack * np.abs(expected_).max())


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
