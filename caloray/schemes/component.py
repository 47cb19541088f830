"""What training needs of one component, and what sampling gives, whatever the scheme."""

from __future__ import annotations

__all__ = ["Component", "Sampled"]

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.io.store import LayerStore


@dataclass(frozen=True)
class Sampled:
    """One block of showers as a scheme drew it.

    Args:
        voxels: (B, n_voxels) float32 voxel energies [MeV]; rows may hold NaN where a flow failed.
        layer_energies: (B, n_layers) float64 energies [MeV] that the layers were drawn for.
    """

    voxels: np.ndarray
    layer_energies: np.ndarray


class Component(Protocol):
    """One conditional flow of a scheme and the way from stored showers to its batches."""

    @property
    def name(self) -> str:
        """Its name within the scheme."""

    @property
    def features(self) -> int:
        """Dimension of the flow."""

    @property
    def context_features(self) -> int:
        """Number of conditioning features."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Positions of the layers that it reads."""

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""

    def build(self) -> Flow:
        """A freshly initialised flow: data (batch, features) to noise, given the context."""

    def rows(self, store: LayerStore) -> np.ndarray:
        """(R, 2) int64 pairs (shower, column of the store) that are this component's training rows."""

    def batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Target (n, features) and context (n, context_features) in ``dtype``, noise from ``draws``."""
