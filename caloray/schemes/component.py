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
        vetoes: (B,) int64, how many draws of each shower's layer energies the scheme threw away because
            their sum was above its largest ratio to E_inc; None where it bounds nothing.
    """

    voxels: np.ndarray
    layer_energies: np.ndarray
    vetoes: np.ndarray | None = None

    @property
    def vetoed(self) -> int:
        """Draws thrown away in the whole block."""
        return 0 if self.vetoes is None else int(self.vetoes.sum())

    def take(self, rows: slice | np.ndarray) -> Sampled:
        """The chosen showers."""
        vetoes = None if self.vetoes is None else self.vetoes[rows]
        return Sampled(self.voxels[rows], self.layer_energies[rows], vetoes)


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
