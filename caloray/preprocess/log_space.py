r"""Voxel energies on a logarithmic scale, with a place of their own for empty voxels.

:math:`x = 2 (\log_{10}(E / \mathrm{MeV}) + 1.5)`. Empty voxels get a log-normal filling far below the readout
threshold, as convolutional L2LFlows fills them (arXiv:2405.20407, data preprocessing). Filling and signal
stay apart at the same place for every layer energy, which a spline learns once instead of once per energy.
"""

from __future__ import annotations

__all__ = ["from_log_space", "to_log_space"]

import torch
from torch import Tensor

CENTRE = 1.5
SCALE = 2.0
EDGE = 1e-7


def to_log_space(voxels: Tensor, fill: Tensor, mean: float, spread: float) -> Tensor:
    """Map voxel energies to flow space.

    Args:
        voxels: (n, D) energies [MeV], zero where empty.
        fill: (n, D) uniform numbers in [0, 1) that become the filling of empty voxels.
        mean: Median of the filling [MeV].
        spread: Its standard deviation in decades.
    """
    centre = torch.log10(torch.tensor(mean, dtype=voxels.dtype))
    filling = centre + spread * torch.special.ndtri(fill.clamp(EDGE, 1 - EDGE))
    tiny = torch.finfo(voxels.dtype).tiny
    logs = torch.where(voxels > 0, torch.log10(voxels.clamp_min(tiny)), filling)
    return SCALE * (logs + CENTRE)


def from_log_space(x: Tensor, threshold: float) -> Tensor:
    """Energies (n, D) [MeV]; what lies below the threshold is zero."""
    energies = torch.pow(10.0, x / SCALE - CENTRE)
    return torch.where(energies < threshold, torch.zeros_like(energies), energies)
