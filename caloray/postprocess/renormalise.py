"""Step ``renormalise``: every layer gets the energy that was sampled for it, and the readout threshold."""

from __future__ import annotations

__all__ = ["Renormalise"]

from typing import Literal

import numpy as np
import torch
from pydantic import Field

from caloray.geometry import Geometry
from caloray.postprocess.record import StepRecord, to_float32
from caloray.preprocess.cut import renormalise_and_cut


class Renormalise(StepRecord):
    """Scale each layer to its sampled energy and cut at the threshold, consistently with each other.

    Afterwards the sum of a layer is its sampled energy (up to the rounding of float32) or zero, and no voxel
    lies between zero and the threshold; see :func:`caloray.preprocess.cut.renormalise_and_cut`.
    """

    kind: Literal["renormalise"] = "renormalise"
    version: Literal[1] = 1
    threshold: float = Field(ge=0, description="Readout threshold [MeV].")

    def apply(self, voxels: np.ndarray, layer_energies: np.ndarray, geometry: Geometry) -> np.ndarray:
        """(n, V) float32 [MeV] from (n, V) float32 voxels and (n, L) sampled layer energies [MeV]."""
        out = np.empty(voxels.shape, dtype=np.float32)
        for layer in range(geometry.n_layers):
            span = geometry.span(layer)
            energies = torch.from_numpy(voxels[:, span].astype(np.float64))
            target = torch.from_numpy(np.array(layer_energies[:, layer], dtype=np.float64))
            scaled = renormalise_and_cut(energies, target, self.threshold).numpy()
            out[:, span] = to_float32(scaled, self.threshold)
        return out
