"""Features of placed showers, and their histograms for any part of the showers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from caloray.geometry import Geometry
from caloray.observables import find_lit, lit_spectrum, observe_lit
from caloray.showers import Showers

EDGES = np.geomspace(0.1, 200.0, 41)  # of cell energies [MeV]
TAIL = 0.5  # per cent of the reference left out of the histograms at either end


@dataclass(frozen=True)
class Binned:
    """Bin numbers of a feature with C columns, or counts per bin of a spectrum."""

    numbers: np.ndarray
    bins: int

    def histogram(self, rows: np.ndarray) -> np.ndarray:
        """(C, bins) entries of the chosen rows, without under- and overflow."""
        if not self.bins:
            return self.numbers[rows].sum(axis=0)[None, 1:-1]
        columns = self.numbers[rows].T
        return np.stack([np.bincount(column, minlength=self.bins + 2)[1:-1] for column in columns])


@dataclass(frozen=True)
class Features:
    """Features of n showers: a spectrum of counts (n, B + 2), and values (n, C) by name."""

    spectrum: np.ndarray
    values: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.spectrum)

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """All showers of the parts."""
        values = {name: np.concatenate([part.values[name] for part in parts]) for name in parts[0].values}
        return Features(np.concatenate([part.spectrum for part in parts]), values)

    def edges(self, bins: int) -> dict[str, np.ndarray]:
        """(C, bins + 1) edges of each feature between its tails."""
        found = {}
        for name, values in self.values.items():
            low, high = np.percentile(values, [TAIL, 100 - TAIL], axis=0)
            high = np.where(high > low, high, low + 1)
            found[name] = np.linspace(low, high, bins + 1, axis=1)
        return found

    def binned(self, edges: dict[str, np.ndarray]) -> dict[str, Binned]:
        """The features as bin numbers, the spectrum as counts."""
        found = {"cell energy": Binned(self.spectrum, 0)}
        for name, listed in edges.items():
            columns = zip(listed, self.values[name].T, strict=True)
            numbers = np.stack([np.searchsorted(e, v, side="right") for e, v in columns], axis=1)
            found[name] = Binned(numbers, listed.shape[1] - 1)
        return found

    def means(self) -> dict[str, float]:
        """Mean of each feature; of the spectrum the mean number of cells."""
        means = {name: float(values.mean()) for name, values in self.values.items()}
        return {"cell energy": float(self.spectrum.sum(axis=1).mean()), **means}


def measure(showers: Showers, geometry: Geometry) -> Features:
    """Cell energies, response, hits, hottest cell, and per layer energy, width and centre along x."""
    lit = find_lit(showers.voxels, geometry)
    seen = observe_lit(lit, geometry)
    incident = showers.incident_energies[:, None]
    shares = seen.layer_energies / np.maximum(seen.total[:, None], 1e-9)
    hottest = showers.voxels.max(axis=1) / np.maximum(seen.total, 1e-9)
    values = {
        "visible energy / E": seen.total[:, None] / incident,
        "hits per GeV": 1e3 * seen.total_hits[:, None] / incident,
        "share of the hottest cell": hottest[:, None],
        "energy per layer / E": seen.layer_energies / incident,
        "width in x": (shares * seen.widths["x"]).sum(axis=1, keepdims=True),
        "width in y": (shares * seen.widths["y"]).sum(axis=1, keepdims=True),
        "centre in x": (shares * seen.centres["x"]).sum(axis=1, keepdims=True),
    }
    return Features(lit_spectrum(lit.values, lit.per_shower, EDGES), values)
