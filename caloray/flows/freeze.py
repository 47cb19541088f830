"""Preparing whole flows for sampling, whatever they are made of."""

from __future__ import annotations

__all__ = ["freeze"]

from torch import nn

from caloray.flows.conv.embedding import ContextEmbedding
from caloray.flows.conv.transform import ConvTransform
from caloray.flows.masked import MaskedSpline
from caloray.flows.names import Backend


def freeze(flow: nn.Module, backend: Backend) -> None:
    """Prepare a trained flow: every MADE, every convolutional composition and its embedding of the context.

    See :meth:`MaskedSpline.freeze` and :meth:`ConvTransform.freeze`.
    """
    for module in flow.modules():
        if isinstance(module, MaskedSpline | ConvTransform | ContextEmbedding):
            module.freeze(backend)
