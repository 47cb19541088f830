r"""Voxel energies as convolutional L2LFlows see them (arXiv:2405.20407, data preprocessing).

With e the largest voxel energy of the layer in the training split,

.. math:: u = 1 + \tfrac17 \log_{10}(E / (e + 1\,\mathrm{keV}) + 10^{-7}), \qquad x = \mathrm{logit}_\alpha(u)

Empty voxels are filled with log-normal noise far below the readout threshold, and uniform noise may be added
to all voxels; neither lifts an empty voxel above the threshold.
"""

from __future__ import annotations

__all__ = ["LogLogit"]

from dataclasses import dataclass

import torch
from torch import Tensor

from caloray.preprocess.logit import expit, logit

DECADES = 7.0
FLOOR = 1e-7
MAXIMUM_MARGIN = 1e-3
EDGE = 1e-7


@dataclass(frozen=True)
class LogLogit:
    """The map and its noise.

    Args:
        alpha: Margin of the logit.
        threshold: Readout threshold [MeV]; fillings end there.
        fill_mean: Median of the filling of empty voxels [MeV].
        fill_std: Its standard deviation in decades.
        voxel_noise: Upper end of the uniform noise on all voxels [MeV]; its mean is taken away again.
    """

    alpha: float
    threshold: float
    fill_mean: float
    fill_std: float
    voxel_noise: float

    def encode(self, voxels: Tensor, maxima: Tensor, fill: Tensor, noise: Tensor | None = None) -> Tensor:
        """Voxels in flow space.

        Args:
            voxels: (n, D) energies [MeV], zero where empty.
            maxima: (n, 1) or (1, 1) largest voxel energy of the layer [MeV].
            fill: (n, D) uniform numbers in [0, 1) that become the filling.
            noise: (n, D) uniform numbers in [0, 1) that become the noise; None where there is none.
        """
        normal = torch.special.ndtri(fill.clamp(EDGE, 1 - EDGE))
        filling = (self.fill_mean * torch.pow(10.0, self.fill_std * normal)).clamp_max(self.threshold)
        energies = torch.where(voxels > 0, voxels, filling)
        if noise is not None and self.voxel_noise:
            noisy = energies + self.voxel_noise * noise
            energies = torch.where(voxels > 0, noisy, noisy.clamp_max(self.threshold))
        shares = (energies / (maxima + MAXIMUM_MARGIN)).clamp(0.0, 1.0)
        return logit(torch.log10(shares + FLOOR) / DECADES + 1, self.alpha)

    def decode(self, x: Tensor, maxima: Tensor) -> Tensor:
        """Energies (n, D) [MeV], not negative, the noise's mean taken away; no threshold is applied."""
        shares = torch.pow(10.0, DECADES * (expit(x, self.alpha) - 1)) - FLOOR
        return (shares * (maxima + MAXIMUM_MARGIN) - 0.5 * self.voxel_noise).clamp_min(0.0)
