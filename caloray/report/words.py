"""Names of observables in plain words."""

from __future__ import annotations

__all__ = ["name_of"]

AXES = {"eta": "η", "phi": "φ", "r": "r", "x": "x", "y": "y"}

NAMES = {
    "e_ratio": "E_tot / E_inc",
    "e_ratio_at": "E_tot / E_inc at each incident energy",
    "incident_energy": "incident energy",
    "total_energy": "deposited energy [MeV]",
    "hits": "hit voxels",
    "layer_hits": "hit voxels per layer",
    "voxel_energy": "voxel energy",
    "layer_energy": "layer energies",
    "sparsity": "fraction of empty voxels",
    "depth_mean": "mean depth",
    "depth_width": "longitudinal width",
    "start": "first layer",
    "r50": "radius of 50 % [mm]",
    "r90": "radius of 90 % [mm]",
    **{f"centre_{name}": f"centres in {text}" for name, text in AXES.items()},
    **{f"width_{name}": f"widths in {text}" for name, text in AXES.items()},
}


def name_of(observable: str) -> str:
    """What an observable is called in text."""
    return NAMES.get(observable, observable)
