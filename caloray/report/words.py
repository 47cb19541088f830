"""Names of observables in plain words, and what is compared with the floor where that is not plain."""

from __future__ import annotations

__all__ = ["basis_of", "name_of"]

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

BASIS = {
    "chi2": "compared is the value of all showers: χ²/NDF does not depend on their number",
    "profile": "compared is the value of all showers: χ²/NDF does not depend on their number",
    "fpd": "the value is extrapolated to infinitely many showers, compared are distances at the floor's size",
    "auc": "the spread is the error of (compared − floor)",
    "jsd": "the spread is the error of (compared − floor)",
}


def name_of(observable: str) -> str:
    """What an observable is called in text."""
    return NAMES.get(observable, observable)


def basis_of(metric: str) -> str:
    """What stands beside the floor for this metric, where it is not simply the metric at the floor's size."""
    return BASIS.get(metric.split("/", maxsplit=1)[0], "")
