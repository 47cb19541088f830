"""The CaloChallenge's vector of high-level features: what its classifier and FPD and KPD look at."""

from __future__ import annotations

__all__ = ["feature_names", "feature_vector"]

import numpy as np

from caloray.geometry import Geometry
from caloray.observables import Observables, angular_layers, axis_names

ENERGY_GUARD = 1e-8  # MeV, the logarithm of an empty layer is -8
LENGTH_SCALE = 100.0  # mm


def feature_vector(observables: Observables, energies: np.ndarray, geometry: Geometry) -> np.ndarray:
    """High-level features (N, F) float64 in the official order.

    log10 E_inc | log10 (E_l + 1e-8) | centres eta, phi / 100 | widths eta, phi / 100 | log10 (E_tot + 1e-8) |
    sparsity_l | centre r / 100 | width r / 100 (CaloChallenge evaluate.py; Krause et al., arXiv:2410.21611,
    sec. 4). F is 30 for dataset 1 photons, 46 for its pions, 362 for datasets 2 and 3. Cartesian readouts
    have x and y in the place of eta and phi, and no r.

    Args:
        observables: Of N showers, after the threshold.
        energies: (N,) incident energies [MeV].
        geometry: The readout.
    """
    angular = list(angular_layers(geometry))
    transverse, radial = _axes(geometry)
    columns = [
        np.log10(energies)[:, None],
        np.log10(observables.layer_energies + ENERGY_GUARD),
        *(observables.centres[name][:, angular] / LENGTH_SCALE for name in transverse),
        *(observables.widths[name][:, angular] / LENGTH_SCALE for name in transverse),
        np.log10(observables.total + ENERGY_GUARD)[:, None],
        observables.sparsity,
        *(observables.centres[name] / LENGTH_SCALE for name in radial),
        *(observables.widths[name] / LENGTH_SCALE for name in radial),
    ]
    return np.concatenate(columns, axis=1).astype(np.float64, copy=False)


def feature_names(geometry: Geometry) -> tuple[str, ...]:
    """Name of each column of :func:`feature_vector`, ``observable`` or ``observable/layer``."""
    every, angular = range(geometry.n_layers), angular_layers(geometry)
    transverse, radial = _axes(geometry)
    groups = [
        *((f"centre_{name}", angular) for name in transverse),
        *((f"width_{name}", angular) for name in transverse),
    ]
    tail = [("sparsity", every)]
    tail += [(f"{kind}_{name}", every) for kind in ("centre", "width") for name in radial]
    names = ["incident_energy", *(f"layer_energy/{i:02d}" for i in every)]
    names += [f"{name}/{i:02d}" for name, layers in groups for i in layers]
    names += ["total_energy", *(f"{name}/{i:02d}" for name, layers in tail for i in layers)]
    return tuple(names)


def _axes(geometry: Geometry) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Axes of the transverse plane, and the radial one where there is one."""
    names = axis_names(geometry)
    return names[:2], names[2:]
