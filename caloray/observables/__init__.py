"""High-level features of showers as pure array functions of (voxels, geometry)."""

from __future__ import annotations

__all__ = [
    "START_SHARE",
    "LitVoxels",
    "Observables",
    "angular_layers",
    "apply_threshold",
    "axis_names",
    "depth_unit",
    "find_bins",
    "find_lit",
    "layer_depths",
    "layer_energies",
    "layer_hits",
    "lit_spectrum",
    "observe",
    "observe_lit",
    "radial_edges",
    "sparsity",
    "voxel_spectrum",
]

from caloray.observables.features import (
    Observables,
    layer_energies,
    layer_hits,
    observe,
    observe_lit,
    sparsity,
)
from caloray.observables.lit import (
    LitVoxels,
    apply_threshold,
    find_bins,
    find_lit,
    lit_spectrum,
    voxel_spectrum,
)
from caloray.observables.shape import START_SHARE, depth_unit, layer_depths
from caloray.observables.weights import angular_layers, axis_names, radial_edges
