r"""Voxel energies on a logarithmic scale, with a place of their own for empty voxels.

:math:`x = 2 (\log_{10}(E / \mathrm{MeV}) + 1.5)`. Empty voxels get a log-normal filling far below the readout
threshold, as convolutional L2LFlows fills them (arXiv:2405.20407, data preprocessing). Filling and signal
stay apart at the same place for every layer energy, which a spline learns once instead of once per energy.
"""

from __future__ import annotations

__all__ = ["from_log_space", "log_space_log_volume", "to_log_space"]

import math

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


def log_space_log_volume(voxels: Tensor, x: Tensor, mean: float, spread: float) -> Tensor:
    r"""What turns the log density of x into that of the energies, for each voxel.

    For a hit :math:`\log|dx/dE| = \log(2 / (E \ln 10))`, from the definition above. For an empty voxel
    :math:`-\log q(x)`, where q, the density of its filling in flow space, is normal about
    :math:`2 (\log_{10}(\mathrm{mean}) + 1.5)` with standard deviation 2 spread (cut at 5.2 of them, beyond
    which lie 2e-7 of it).

    Args:
        voxels: (n, D) energies [MeV], zero where empty.
        x: (n, D) what :func:`to_log_space` made of them.
        mean: Median of the filling [MeV].
        spread: Its standard deviation in decades.
    """
    tiny = torch.finfo(voxels.dtype).tiny
    slope = math.log(SCALE / math.log(10)) - torch.log(voxels.clamp_min(tiny))
    width = SCALE * spread
    standard = (x - SCALE * (math.log10(mean) + CENTRE)) / width
    empty = 0.5 * standard**2 + math.log(width * math.sqrt(2 * math.pi))
    return torch.where(voxels > 0, slope, empty)
