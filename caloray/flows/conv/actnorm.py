"""Activation normalisation (Kingma & Dhariwal, "Glow", NeurIPS 2018, section 3.1), set from data once.

nflows' ``ActNorm`` sets itself from whatever batch passes first in training mode. With several workers each
would take its own batch; here :func:`initialise_flow` does it once, on one worker, before the others get its
weights, and a flow that was not initialised refuses to train.
"""

from __future__ import annotations

__all__ = ["ActNorm", "initialise_flow"]

import torch
from nflows.transforms.normalization import ActNorm as NflowsActNorm
from torch import Tensor, nn

from caloray.errors import ConfigError

SMALLEST = 1e-6
"""Standard deviation at which a constant channel is taken as one of this spread."""


class ActNorm(NflowsActNorm):  # type: ignore[misc]
    """Scale and shift of each channel, ``y = exp(log_scale) * x + shift``; nflows' parameters and map.

    Args:
        features: Number of channels.
    """

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data to noise.

        Raises:
            ConfigError: In training mode before :func:`initialise_flow`.
        """
        del context
        if self.training and not self.initialized:
            raise ConfigError(
                "an ActNorm layer is to be trained before it was set from data",
                hint="call caloray.flows.conv.actnorm.initialise_flow with a first batch",
            )
        scale, shift = self._broadcastable_scale_shift(inputs)
        pixels = inputs.shape[-1] * inputs.shape[-2] if inputs.dim() == 4 else 1
        return torch.addcmul(shift, inputs, scale), (pixels * self.log_scale.sum()).expand(len(inputs))

    def _initialize(self, inputs: Tensor) -> None:
        """Set scale and shift so that every channel comes out with mean 0 and variance 1."""
        rows = inputs.movedim(1, -1).reshape(-1, inputs.shape[1])
        std = rows.std(dim=0).clamp_min(SMALLEST)
        self.log_scale.data.copy_(-torch.log(std))
        self.shift.data.copy_(-(rows.mean(dim=0) / std))
        self.initialized.fill_(value=True)


def initialise_flow(flow: nn.Module, target: Tensor, context: Tensor) -> int:
    """Set every ActNorm of a flow that is not set yet from one batch, in the order of the forward pass.

    BatchNorm layers use the batch's statistics in this pass and keep their running ones.

    Args:
        flow: An nflows ``Flow``.
        target: Data (batch, features).
        context: Conditions (batch, context features).

    Returns:
        How many layers were set; 0 for flows without ActNorm.
    """
    fresh = [m for m in flow.modules() if isinstance(m, ActNorm) and not bool(m.initialized)]
    if not fresh:
        return 0

    def set_from(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        module._initialize(inputs[0])  # type: ignore[operator]

    running = [m for m in flow.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in running]
    hooks = [module.register_forward_pre_hook(set_from) for module in fresh]
    was_training = flow.training
    try:
        for module in running:
            module.momentum = 0.0
        flow.train()
        with torch.no_grad():
            flow.log_prob(target, context)  # type: ignore[operator]
    finally:
        flow.train(was_training)
        for hook in hooks:
            hook.remove()
        for module, momentum in zip(running, momenta, strict=True):
            module.momentum = momentum
    return len(fresh)
