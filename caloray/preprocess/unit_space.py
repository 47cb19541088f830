r"""Layer energies as shares of what is left: CaloFlow's unit space.

For layers 0 ... L-1 with energies E_i and incident energy E_inc (arXiv:2210.14245, section on data
preprocessing):

.. math:: u_0 = \frac{\sum_i E_i}{s E_\mathrm{inc}}, \qquad u_k = \frac{E_{k-1}}{\sum_{j \ge k-1} E_j},
\quad k = 1 ... L-1

The scale s is the largest E_tot / E_inc of the training split, so that u_0 stays in [0, 1]: the link
between deposited and incident energy is part of the representation instead of something that the flow has
to find.
"""

from __future__ import annotations

__all__ = ["from_unit_space", "to_unit_space", "unit_space_log_det"]

import torch
from torch import Tensor


def to_unit_space(layer_energies: Tensor, incident: Tensor, scale: float) -> Tensor:
    """Shares in [0, 1].

    Args:
        layer_energies: (batch, L) energies [MeV], positive (noise added).
        incident: (batch,) incident energies [MeV].
        scale: Largest E_tot / E_inc.

    Returns:
        (batch, L) shares.
    """
    remaining = layer_energies.flip(1).cumsum(1).flip(1)
    total = remaining[:, :1] / (scale * incident[:, None])
    shares = layer_energies[:, :-1] / remaining[:, :-1].clamp_min(torch.finfo(remaining.dtype).tiny)
    return torch.cat([total, shares], dim=1).clamp(0.0, 1.0)


def from_unit_space(shares: Tensor, incident: Tensor, scale: float) -> Tensor:
    """Layer energies (batch, L) [MeV] from shares (batch, L) and incident energies (batch,) [MeV]."""
    total = shares[:, :1] * scale * incident[:, None]
    left = torch.cat([torch.ones_like(total), (1 - shares[:, 1:]).cumprod(dim=1)], dim=1)
    taken = torch.cat([shares[:, 1:], torch.ones_like(total)], dim=1)
    return total * left * taken


def unit_space_log_det(layer_energies: Tensor, incident: Tensor, scale: float) -> Tensor:
    r"""Log |det du/dE| of :func:`to_unit_space`, (batch,).

    With :math:`T_k = \sum_{j \ge k} E_j`, whose determinant is 1, :math:`u_0 = T_0 / (s E_\mathrm{inc})` and
    :math:`u_k = 1 - T_k / T_{k-1}` are triangular in T, so that

    .. math:: \log|\det| = -\log(s E_\mathrm{inc}) - \sum_{k=1}^{L-1} \log T_{k-1}

    A total above the scale, which is clamped, counts as the map would without its clamp.

    Args:
        layer_energies: (batch, L) energies [MeV], positive (noise added).
        incident: (batch,) incident energies [MeV].
        scale: Largest E_tot / E_inc.
    """
    remaining = layer_energies.flip(1).cumsum(1).flip(1)[:, :-1]
    tiny = torch.finfo(remaining.dtype).tiny
    return -torch.log(scale * incident) - torch.log(remaining.clamp_min(tiny)).sum(dim=1)
