r"""The logit map that opens [0, 1] to the real line.

:math:`\mathrm{logit}_\alpha(u) = \log(v / (1 - v))` with :math:`v = \alpha + (1 - 2 \alpha) u`, as
CaloFlow (arXiv:2106.05285) and iCaloFlow (arXiv:2305.11934) use it; alpha = 1e-6 maps to about +-13.8.
"""

from __future__ import annotations

__all__ = ["expit", "logit", "logit_log_slope"]

import math

import torch
from torch import Tensor


def logit(u: Tensor, alpha: float) -> Tensor:
    """Map shares in [0, 1] (any shape) to the real line; values outside are clamped first."""
    return torch.logit(alpha + (1 - 2 * alpha) * u.clamp(0.0, 1.0))


def expit(x: Tensor, alpha: float) -> Tensor:
    """Inverse of :func:`logit`, clamped to [0, 1]."""
    return ((torch.sigmoid(x) - alpha) / (1 - 2 * alpha)).clamp(0.0, 1.0)


def logit_log_slope(x: Tensor, alpha: float) -> Tensor:
    r"""Log |dx/du| of :func:`logit` at its value x (any shape).

    With v = sigmoid(x), :math:`dx/du = (1 - 2 \alpha) / (v (1 - v))`, from the definition above. A share
    outside [0, 1] gets the slope at the end that it is clamped to.
    """
    sigmoid = torch.nn.functional.logsigmoid
    return math.log1p(-2 * alpha) - sigmoid(x) - sigmoid(-x)
