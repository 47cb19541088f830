"""First pass over the reference: the largest energies, and quantiles where no official range exists."""

from __future__ import annotations

__all__ = ["Extremes"]

from dataclasses import dataclass, field

import numpy as np

from caloray.observables import Observables

TAIL = 0.001


@dataclass
class Extremes:
    """What the histogram ranges need to know of the reference.

    Args:
        n_layers: Number of layers.
        keep_shapes: Keep centres and widths (float32) to take quantiles of them.
    """

    n_layers: int
    keep_shapes: bool = False
    voxel: float = 0.0
    hits: float = 0.0
    incident: tuple[float, float] = (np.inf, 0.0)
    layers: np.ndarray = field(init=False)
    _shapes: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layers = np.zeros(self.n_layers)

    def add(self, observables: Observables, voxels: np.ndarray, energies: np.ndarray) -> None:
        """Take in N showers: their observables, (N, V) voxels [MeV] and (N,) incident energies [MeV]."""
        if not len(energies):
            return
        self.voxel = max(self.voxel, float(voxels.max()))
        self.hits = max(self.hits, float(observables.total_hits.max()))
        low, high = self.incident
        self.incident = min(low, float(energies.min())), max(high, float(energies.max()))
        self.layers = np.maximum(self.layers, observables.layer_energies.max(axis=0))
        if self.keep_shapes:
            for kind, values in (("centre", observables.centres), ("width", observables.widths)):
                for name, array in values.items():
                    self._shapes.setdefault(f"{kind}_{name}", []).append(array.astype(np.float32))

    def range(self, observable: str, layer: int) -> tuple[float, float]:
        """Range [mm] without the outermost 0.1 % on either side, widened by a tenth; from 0 for widths."""
        parts = self._shapes.get(observable, [np.zeros((1, self.n_layers))])
        values = np.concatenate([part[:, layer] for part in parts])
        low, high = (float(q) for q in np.quantile(values, [TAIL, 1 - TAIL]))
        margin = 0.1 * (high - low) or 1.0
        return (0.0 if observable.startswith("width") else low - margin), high + margin
