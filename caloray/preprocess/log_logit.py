r"""Voxel energies as convolutional L2LFlows see them (arXiv:2405.20407, data preprocessing).

With e the largest voxel energy of the layer in the training split,

.. math:: u = 1 + \tfrac17 \log_{10}(E / (e + 1\,\mathrm{keV}) + 10^{-7}), \qquad x = \mathrm{logit}_\alpha(u)

Empty voxels are filled with log-normal noise far below the readout threshold, and uniform noise may be added
to all voxels; neither lifts an empty voxel above the threshold.
"""

from __future__ import annotations

__all__ = ["MAXIMUM_MARGIN", "LogLogit"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from caloray.preprocess.logit import expit, logit, logit_log_slope

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
        shares = (self.noisy(voxels, fill, noise) / (maxima + MAXIMUM_MARGIN)).clamp(0.0, 1.0)
        return logit(torch.log10(shares + FLOOR) / DECADES + 1, self.alpha)

    def noisy(self, voxels: Tensor, fill: Tensor, noise: Tensor | None = None) -> Tensor:
        """Energies (n, D) [MeV] with filling and noise, as :meth:`encode` maps them; arguments as there."""
        normal = torch.special.ndtri(fill.clamp(EDGE, 1 - EDGE))
        filling = (self.fill_mean * torch.pow(10.0, self.fill_std * normal)).clamp_max(self.threshold)
        energies = torch.where(voxels > 0, voxels, filling)
        if noise is not None and self.voxel_noise:
            noisy = energies + self.voxel_noise * noise
            energies = torch.where(voxels > 0, noisy, noisy.clamp_max(self.threshold))
        return energies

    def decode(self, x: Tensor, maxima: Tensor) -> Tensor:
        """Energies (n, D) [MeV], not negative, the noise's mean taken away; no threshold is applied."""
        shares = torch.pow(10.0, DECADES * (expit(x, self.alpha) - 1)) - FLOOR
        return (shares * (maxima + MAXIMUM_MARGIN) - 0.5 * self.voxel_noise).clamp_min(0.0)

    def log_slope(self, energies: Tensor, x: Tensor, maxima: Tensor) -> Tensor:
        r"""Log |dx/dE| of the map at energies (n, D) [MeV] whose image is x (n, D), for maxima as above.

        With :math:`s = E / (e + 1\,\mathrm{keV})`, :math:`du/dE = 1 / (7 \ln(10) (s + 10^{-7})
        (e + 1\,\mathrm{keV}))`, from the definition above, times the logit's slope. An energy above the
        layer's maximum, which is clamped to it, gets the slope there.
        """
        top = maxima + MAXIMUM_MARGIN
        shares = (energies / top).clamp(0.0, 1.0)
        slope = -torch.log(DECADES * math.log(10) * (shares + FLOOR) * top)
        return slope + logit_log_slope(x, self.alpha)

    def fill_log_density(self, energies: Tensor) -> Tensor:
        r"""Log of the density [1/MeV] with which empty voxels are filled, at energies (n, D) [MeV].

        Without noise it is log-normal: with F its distribution function and z = log10(E / median) / std,
        :math:`q = \varphi(z) / (E \ln(10)\,\mathrm{std})`. With uniform noise of width w on top,
        :math:`q(E) = (F(E) - F(E - w)) / w`, its convolution with 1/w on [0, w). What the threshold cuts off
        lies as a point mass at the threshold (at most 0.2 % of fillings without noise); there the density is
        that of the filling before the cut.
        """
        tiny = torch.finfo(energies.dtype).tiny

        def standard(values: Tensor) -> Tensor:
            return torch.log10(values.clamp_min(tiny) / self.fill_mean) / self.fill_std

        upper = standard(energies)
        if not self.voxel_noise:
            widths = math.log(math.log(10) * self.fill_std * math.sqrt(2 * math.pi))
            return -0.5 * upper**2 - torch.log(energies.clamp_min(tiny)) - widths
        lower = standard(energies - self.voxel_noise)
        right = lower > 0  # there the difference of the upper tails keeps its digits
        share = torch.special.ndtr(torch.where(right, -lower, upper)) - torch.special.ndtr(
            torch.where(right, -upper, lower)
        )
        return torch.log(share.clamp_min(tiny)) - math.log(self.voxel_noise)
