"""Step ``spectrum``: one monotone map of voxel energies that puts the voxel spectrum right."""

from __future__ import annotations

__all__ = ["MOST_NODES", "SpectrumCorrection"]

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from caloray.geometry import Geometry
from caloray.postprocess.record import StepRecord, to_float32

MOST_NODES = 128
ROUNDING = 1e-9

Numbers = Annotated[tuple[float, ...], Field(min_length=2, max_length=MOST_NODES)]


class SpectrumCorrection(StepRecord):
    """A monotone cubic in normalised log-energy u = log(e / threshold) / log(largest / threshold).

    Between the nodes it is the cubic Hermite polynomial of ``values`` and ``slopes``, which is monotone
    (Fritsch and Carlson, SINUM 17 (1980) 238). Beyond either end it goes on with slope 1, that
    is with a constant factor on the energy, up to ``ceiling``. Voxels below the threshold are zeroed before
    and after. The one-dimensional correction of the voxel spectrum is that of convolutional L2LFlows
    (arXiv:2405.20407, post-processing).

    Layer energies are no longer exact after this step; let ``renormalise`` follow where they must be.
    """

    kind: Literal["spectrum"] = "spectrum"
    version: Literal[1] = 1
    threshold: float = Field(gt=0, description="Readout threshold [MeV], u = 0.")
    largest: float = Field(gt=0, description="Largest generated voxel energy of the fit [MeV], u = 1.")
    ceiling: float = Field(gt=0, lt=3e38, description="No corrected energy is larger [MeV].")
    nodes: Numbers = Field(description="u of each node, ascending from 0 to 1.")
    values: Numbers = Field(description="Corrected u at each node, never falling.")
    slopes: Numbers = Field(description="Derivative at each node.")
    fitted_on: dict[str, str | int | float] = Field(default={}, description="Data of the fit.")

    @model_validator(mode="after")
    def _is_a_monotone_map(self) -> SpectrumCorrection:
        if not len(self.nodes) == len(self.values) == len(self.slopes):
            raise ValueError("nodes, values and slopes differ in number")
        if not self.threshold < self.largest <= self.ceiling:
            raise ValueError("threshold < largest <= ceiling does not hold")
        nodes, values, slopes = (np.array(row) for row in (self.nodes, self.values, self.slopes))
        if nodes[0] != 0 or nodes[-1] != 1 or not (np.diff(nodes) > 0).all():
            raise ValueError("the nodes do not ascend from 0 to 1")
        secants = np.diff(values) / np.diff(nodes)
        least = np.minimum(np.append(secants, np.inf), np.append(np.inf, secants))
        if not ((secants >= 0).all() and (slopes >= 0).all() and (slopes <= 3 * least + ROUNDING).all()):
            raise ValueError("the map is not monotone")
        return self

    @cached_property
    def _curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(self.nodes), np.array(self.values), np.array(self.slopes)

    def correct(self, energies: np.ndarray) -> np.ndarray:
        """(K,) float64 corrected energies [MeV] of (K,) voxels at or above the threshold, not cut yet."""
        scale = np.log(self.largest / self.threshold)
        exact = energies.astype(np.float64)
        u = np.clip(np.log(exact / self.threshold) / scale, 0.0, 1.0)
        factor = np.exp(scale * (self._map(u) - u))
        return np.asarray(np.minimum(exact * factor, self.ceiling))

    def apply(self, voxels: np.ndarray, layer_energies: np.ndarray, geometry: Geometry) -> np.ndarray:
        """(n, V) float32 [MeV] from (n, V) float32 voxels; the layer energies are not looked at."""
        del layer_energies, geometry
        out = np.where(np.isnan(voxels), voxels, np.float32(0))
        lit = voxels >= np.float32(self.threshold)
        out[lit] = to_float32(self.correct(voxels[lit]), self.threshold)
        return out

    def _map(self, u: np.ndarray) -> np.ndarray:
        nodes, values, slopes = self._curve
        i = np.clip(np.searchsorted(nodes, u, side="right") - 1, 0, len(nodes) - 2)
        width, low, high = nodes[i + 1] - nodes[i], values[i], values[i + 1]
        t = (u - nodes[i]) / width
        bend = slopes[i] * (1 - t) - slopes[i + 1] * t
        cubic = low + (high - low) * t * t * (3 - 2 * t) + width * t * (1 - t) * bend
        return np.asarray(np.clip(cubic, low, high))
