"""What training needs of one component, and what sampling gives, whatever the scheme."""

from __future__ import annotations

__all__ = ["Component", "Sampled"]

from collections.abc import Sequence
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
        log_prob: (B,) float64 logarithm of the density of what the flows drew, in their own spaces, summed
            over the layer energies and all layers. A layer without energy that is empty whatever its flow
            says adds nothing; after vetoes it is that of the draw that was kept, not divided by the share of
            draws that are. NaN where a flow failed; None where nobody worked it out.
    """

    voxels: np.ndarray
    layer_energies: np.ndarray
    vetoes: np.ndarray | None = None
    log_prob: np.ndarray | None = None

    @staticmethod
    def joined(parts: Sequence[Sampled]) -> Sampled:
        """One after the other; all of the same scheme."""
        if len(parts) == 1:
            return parts[0]

        def stacked(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        def optional(name: str) -> np.ndarray | None:
            return None if getattr(parts[0], name) is None else stacked(name)

        return Sampled(stacked("voxels"), stacked("layer_energies"), optional("vetoes"), optional("log_prob"))

    @property
    def vetoed(self) -> int:
        """Draws thrown away in the whole block."""
        return 0 if self.vetoes is None else int(self.vetoes.sum())

    def take(self, rows: slice | np.ndarray) -> Sampled:
        """The chosen showers."""
        vetoes = None if self.vetoes is None else self.vetoes[rows]
        log_prob = None if self.log_prob is None else self.log_prob[rows]
        return Sampled(self.voxels[rows], self.layer_energies[rows], vetoes, log_prob)


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

    def measured_batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same target x and context as :meth:`batch`, and the logarithm of the volume that goes with x.

        ``log p(x) + log_volume`` is the log density of the energies E of a row with respect to Lebesgue
        measure per MeV for each voxel or layer with E > 0 and a point mass for each with E = 0, whatever
        noise, filling, margin and space the maps use. With y the noisy or filled energies and x = f(y),

            log_volume = log |det dx/dy| - sum over empty entries of log q(y),

        where q [1/MeV] is the density of what fills an empty entry: 1/w for uniform noise of width w. The
        mean over the noise of -log p(x) - log_volume is then at least -log P(E) by Jensen's inequality, and
        equal to it for empty entries where p has the shape of q there (variational dequantisation, Theis
        et al., arXiv:1511.01844; Ho et al., arXiv:1902.00275). Noise on an entry with E > 0 counts as a
        part of E in the same sense: p's density of E is that of its y less the noise.

        A row's density is given its context. Rows that the scheme leaves out, because sampling does not ask
        a flow for empty layers, are left out here as well.

        Returns:
            Target and context as :meth:`batch`, and (n,) float64 log_volume [log MeV^-k, k entries > 0];
            minus infinity for a row beyond the range of the maps, which nothing that is sampled reaches.
        """
