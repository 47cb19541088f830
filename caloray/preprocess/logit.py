r"""The logit map that opens [0, 1] to the real line.

:math:`\mathrm{logit}_\alpha(u) = \log(v / (1 - v))` with :math:`v = \alpha + (1 - 2 \alpha) u`, as
CaloFlow (arXiv:2106.05285) and iCaloFlow (arXiv:2305.11934) use it; alpha = 1e-6 maps to about +-13.8.
"""

from __future__ import annotations

__all__ = ["expit", "logit"]

import torch
from torch import Tensor


def logit(u: Tensor, alpha: float) -> Tensor:
    """Map shares in [0, 1] (any shape) to the real line; values outside are clamped first."""
    return torch.logit(alpha + (1 - 2 * alpha) * u.clamp(0.0, 1.0))


def expit(x: Tensor, alpha: float) -> Tensor:
    """Inverse of :func:`logit`, clamped to [0, 1]."""
    return ((torch.sigmoid(x) - alpha) / (1 - 2 * alpha)).clamp(0.0, 1.0)
