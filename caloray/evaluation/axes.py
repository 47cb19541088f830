"""Which quantities are histogrammed, and in which bins.

The binnings are those of the CaloChallenge's evaluation (Krause et al., arXiv:2410.21611, and its code) where
it defines one. Readouts that are not the challenge's get ranges from the quantiles of the reference.
"""

from __future__ import annotations

__all__ = ["PANEL", "Axis", "Family", "build_axes", "default_threshold", "family"]

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from caloray.evaluation.extremes import RANGED, Extremes
from caloray.geometry import Geometry, Layer
from caloray.observables import angular_layers, axis_names

Family = Literal["dataset-1", "dataset-2-3", "other"]
Scale = Literal["linear", "log"]

SILICON_THRESHOLD = 0.5e-3 / 0.033  # MeV: 0.5 keV in the silicon divided by the sampling fraction
FAMILIES: dict[int, Family] = {
    368: "dataset-1",
    533: "dataset-1",
    6480: "dataset-2-3",
    40500: "dataset-2-3",
}
PANEL = "e_ratio_at"
"""E_tot / E_inc at one of dataset 1's discrete incident energies."""
PANEL_ENERGIES = 2.0 ** np.arange(8, 24)  # MeV, each panel from one to the next
PHOTON_VOXELS = 368
WIDE_PANELS = 4  # of the photons; from the fifth energy on their response is narrow
HIT_BINS = 40
TILE = {12, 13}
WIDE = {12, 13, 14}
DECADES = 1e-6  # of a logarithmic axis when there is no threshold to start from


@dataclass(frozen=True)
class Axis:
    """The bins of one quantity.

    Args:
        observable: "e_ratio", "layer_energy", "centre_eta", "width_r", "sparsity", "voxel_energy", "r90", ...
        layer: Position of the layer, or None for a quantity of the whole shower.
        edges: Bin edges in the unit of the observable, ascending.
        scale: How it is drawn.
        window: Only showers with an incident energy [MeV] from the first number up to (without) the second.
    """

    observable: str
    layer: int | None
    edges: np.ndarray
    scale: Scale = "linear"
    window: tuple[float, float] | None = None

    @property
    def name(self) -> str:
        """``observable``, ``observable/layer`` or ``observable/lower end of the window``."""
        if self.window is not None:
            return f"{self.observable}/{self.window[0]:.0f}"
        return self.quantity

    @property
    def quantity(self) -> str:
        """Name of what is counted, see :func:`caloray.evaluation.quantities.columns_of`."""
        observable = "e_ratio" if self.observable == PANEL else self.observable
        return observable if self.layer is None else f"{observable}/{self.layer:02d}"

    @property
    def n_bins(self) -> int:
        """Number of bins, without under- and overflow."""
        return len(self.edges) - 1


def family(geometry: Geometry) -> Family:
    """Which of the challenge's binnings applies to a readout."""
    return FAMILIES.get(geometry.n_voxels, "other") if geometry.kind == "cylindrical" else "other"


def default_threshold(geometry: Geometry) -> float:
    """The challenge's readout threshold [MeV]: 15.15 keV (datasets 2, 3), 1 MeV (dataset 1), else 0."""
    match family(geometry):
        case "dataset-2-3":
            return SILICON_THRESHOLD
        case "dataset-1":
            return 1.0
        case "other":
            return 0.0


def build_axes(geometry: Geometry, threshold: float, extremes: Extremes) -> tuple[Axis, ...]:
    """Every histogram axis of a readout.

    Args:
        geometry: The readout.
        threshold: Voxel threshold [MeV], the lower end of the energy axes.
        extremes: Upper ends and quantiles, taken from the reference alone.
    """
    low, high = extremes.incident
    incident = np.geomspace(low, high if high > low else 1.01 * low, 21)
    axes = [
        Axis("e_ratio", None, _response_edges(geometry, extremes)),
        Axis("incident_energy", None, incident, "log"),
        Axis("hits", None, np.linspace(-0.5, max(1.0, 1.1 * extremes.hits) + 0.5, 51)),
        Axis("voxel_energy", None, _energy_edges(threshold, extremes.voxel, 50), "log"),
    ]
    for i in range(geometry.n_layers):
        axes.append(Axis("layer_energy", i, _energy_edges(threshold, float(extremes.layers[i]), 40), "log"))
        axes.append(Axis("sparsity", i, np.linspace(0.0, 1.0, 21)))
    angular = angular_layers(geometry)
    for name in axis_names(geometry):
        for i in angular if name in {"eta", "phi"} else range(geometry.n_layers):
            for kind in ("centre", "width"):
                edges = np.linspace(*_range(geometry, extremes, kind, name, i), 101)
                axes.append(Axis(f"{kind}_{name}", i, edges))
    return (*axes, *_shape_axes(geometry, extremes), *_panels(geometry))


def _response_edges(geometry: Geometry, extremes: Extremes) -> np.ndarray:
    """Around 1 for the challenge's calibrated energies; elsewhere wherever the reference lies."""
    if family(geometry) == "other":
        return np.linspace(*extremes.range("e_ratio"), 101)
    return np.linspace(0.5, 1.5, 101)


def _shape_axes(geometry: Geometry, extremes: Extremes) -> list[Axis]:
    """Depth, start and containment of the whole shower, and hits per layer; one bin per start layer."""
    axes = [Axis(name, None, np.linspace(*extremes.range(name), 101)) for name in RANGED]
    axes.append(Axis("start", None, np.arange(-1.5, geometry.n_layers)))
    for i in range(geometry.n_layers):
        top = 1.1 * extremes.layer_hits[i] + 1.0
        step = np.ceil(top / HIT_BINS)  # whole numbers per bin
        axes.append(Axis("layer_hits", i, -0.5 + step * np.arange(np.ceil(top / step) + 1)))
    return axes


def _panels(geometry: Geometry) -> list[Axis]:
    """E_tot / E_inc for each of dataset 1's fifteen incident energies."""
    if family(geometry) != "dataset-1":
        return []
    panels = []
    for i, (low, high) in enumerate(itertools.pairwise(PANEL_ENERGIES.tolist())):
        narrow = geometry.n_voxels == PHOTON_VOXELS and i >= WIDE_PANELS
        edges = np.linspace(0.9, 1.1, 21) if narrow else np.linspace(0.4, 1.4, 21)
        panels.append(Axis(PANEL, None, edges, window=(low, high)))
    return panels


def _energy_edges(threshold: float, highest: float, number: int) -> np.ndarray:
    """Logarithmic edges up to the largest energy of the reference.

    The official code reads float32 and so takes the logarithm in float32. The same is done here, because it
    decides whether the highest shower falls on the last edge or just beyond it (it is then in the overflow).
    """
    low = threshold if threshold > 0 else max(highest, 1e-12) * DECADES
    high = np.float32(highest if highest > low else 10.0 * low)
    return np.logspace(np.log10(low), np.log10(high), number)


def _range(geometry: Geometry, extremes: Extremes, kind: str, name: str, layer: int) -> tuple[float, float]:
    match family(geometry):
        case "dataset-2-3":
            return _range_dataset_2_3(kind, name)
        case "dataset-1":
            return _range_dataset_1(geometry.layers[layer], kind, name)
        case "other":
            return extremes.range(f"{kind}_{name}/{layer:02d}")


def _range_dataset_2_3(kind: str, name: str) -> tuple[float, float]:
    if name == "r":
        return (0.0, 42.0) if kind == "centre" else (0.0, 20.0)
    return (-30.0, 30.0) if kind == "centre" else (0.0, 30.0)


def _range_dataset_1(layer: Layer, kind: str, name: str) -> tuple[float, float]:
    if name == "r":
        return 0.0, 1500.0 if layer.id in WIDE else 500.0
    if kind == "centre":
        return (-500.0, 500.0) if layer.id in TILE else (-100.0, 100.0)
    return 0.0, 400.0 if layer.id in TILE else 100.0
