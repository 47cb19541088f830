"""Readout threshold and normalisation of a sampled layer, made consistent with each other."""

from __future__ import annotations

__all__ = ["renormalise_and_cut"]

import torch
from torch import Tensor


def renormalise_and_cut(voxels: Tensor, target: Tensor, threshold: float) -> Tensor:
    """Scale each layer to its energy and remove what then lies below the threshold, at once.

    With the voxels sorted upwards and R_k the sum of voxel k and all larger ones, the smallest k is taken
    whose voxel times target / R_k reaches the threshold; smaller voxels are zeroed and the rest scaled by
    that factor. Afterwards the layer sum equals the target and no voxel lies below the threshold; a layer
    whose target is below the threshold is empty. The procedure is that of convolutional L2LFlows
    (arXiv:2405.20407, post-processing).

    Args:
        voxels: (batch, D) non-negative energies in any unit.
        target: (batch,) layer energies [MeV].
        threshold: Readout threshold [MeV].

    Returns:
        (batch, D) energies [MeV]; a row with a number that is not finite is NaN throughout.
    """
    ascending, order = voxels.sort(dim=1)
    above = ascending.flip(1).cumsum(1).flip(1)
    factor = target[:, None] / above.clamp_min(torch.finfo(above.dtype).tiny)
    passes = (ascending * factor >= threshold) & (target[:, None] >= threshold)
    kept = passes.cumsum(dim=1) > 0
    first = passes.to(torch.uint8).argmax(dim=1, keepdim=True)
    scaled = torch.where(kept, ascending * factor.gather(1, first), torch.zeros_like(ascending))
    scaled = scaled.where(torch.isfinite(above[:, :1] * target[:, None]), torch.nan)
    return torch.zeros_like(voxels).scatter(1, order, scaled)
