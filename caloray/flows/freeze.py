"""Preparing whole flows for sampling, whatever they are made of."""

from __future__ import annotations

__all__ = ["freeze"]

from torch import nn

from caloray.flows.conv.transform import ConvTransform
from caloray.flows.masked import MaskedSpline
from caloray.flows.names import Backend


def freeze(flow: nn.Module, backend: Backend) -> None:
    """Prepare the inverse of a trained flow: of every MADE, and of every convolutional composition.

    See :meth:`MaskedSpline.freeze` and :meth:`ConvTransform.freeze`.
    """
    for module in flow.modules():
        if isinstance(module, MaskedSpline | ConvTransform):
            module.freeze(backend)
