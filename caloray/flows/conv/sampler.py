"""Back-ends of a convolutional flow's inverse: one contract, chosen when the weights are final.

All but ``native-bf16`` give the same numbers up to rounding. ``native`` runs a whole layer flow in C++, for
CPUs and float32 (:mod:`caloray.flows.conv.native_sampler`). ``torch`` and ``jacobi``, the same here since
nothing is iterated, need nothing but torch (:mod:`caloray.flows.conv.torch_sampler`). ``auto`` is ``native``
where it can be had.
"""

from __future__ import annotations

__all__ = ["ConvSampler", "prepare", "prepare_embedding"]

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.conv.fold import fold
from caloray.flows.conv.native_embedding import NativeEmbedding
from caloray.flows.conv.native_sampler import NativeConvInverse
from caloray.flows.conv.torch_sampler import FoldedInverse
from caloray.flows.inverse import resolve
from caloray.flows.names import Backend

if TYPE_CHECKING:
    from caloray.flows.conv.embedding import ContextEmbedding
    from caloray.flows.conv.transform import ConvTransform


class ConvSampler(Protocol):
    """Noise to data for one layer flow whose weights do not change any more."""

    def __call__(self, noise: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Data (batch, V) and log |det Jacobian| (batch,) for noise (batch, V), planes (batch, C, h, w)."""
        ...


def prepare(transform: ConvTransform, backend: Backend) -> ConvSampler:
    """The inverse of one layer flow by one back-end; its weights are copied.

    Raises:
        ConfigError: The back-end is not available, or not for these weights.
    """
    weight = next(transform.parameters())
    meant = resolve(backend, weight.device.type)
    if not meant.startswith("native"):
        return FoldedInverse(fold(transform), weight.dtype, weight.device)
    if weight.dtype == torch.float32 and weight.device.type == "cpu":
        return NativeConvInverse(fold(transform), bf16=meant == "native-bf16")
    if backend == "auto":
        return FoldedInverse(fold(transform), weight.dtype, weight.device)
    raise ConfigError(
        f"the back-end {backend} takes float32 on the CPU, not {weight.dtype} on {weight.device}",
        hint="use the backend torch, or move the model",
    )


def prepare_embedding(embedding: ContextEmbedding, backend: Backend) -> Callable[[Tensor], Tensor] | None:
    """The embedding's forward pass by one back-end; None where the module itself is it.

    It is exact for ``native-bf16``, too: it takes little of the time.

    Args:
        embedding: Of a layer flow; its weights are copied.
        backend: As for :func:`prepare`.

    Raises:
        ConfigError: The back-end is not available.
    """
    weight = next(embedding.parameters(), None)
    if weight is None or weight.dtype != torch.float32 or weight.device.type != "cpu":
        return None
    return NativeEmbedding(embedding) if resolve(backend, "cpu").startswith("native") else None
