"""All features of a batch of showers.

The definitions are those of the CaloChallenge's evaluation (Krause et al., arXiv:2410.21611, sec. 4): every
mean over a layer is weighted with the voxel energies, divided by (sum of energies + 1e-16); "eta" and "phi"
are r cos(alpha) and r sin(alpha) in mm. Cartesian readouts have x and y in their place. Depth, start and
containment radii are not the challenge's. Sums are carried in float64, over the lit voxels in flat order, and
every shower is summed on its own: a result never depends on the neighbours in the batch.
"""

from __future__ import annotations

__all__ = [
    "Observables",
    "layer_energies",
    "layer_hits",
    "observe",
    "observe_lit",
    "sparsity",
]

from dataclasses import dataclass, fields

import numpy as np

from caloray.geometry import Geometry
from caloray.observables.lit import LitVoxels, find_lit
from caloray.observables.shape import (
    GUARD,
    containment_radius,
    layer_depths,
    longitudinal_moments,
    shower_start,
)
from caloray.observables.weights import angular_layers, axis_names, radial_edges, weights_of

VOXELS_AT_ONCE = 4_000_000


ROUNDING = 1e-13  # of the second moment: what is left of the variance of a single hit


@dataclass(frozen=True)
class Observables:
    """Features of N showers in L layers; R rings as in :func:`radial_edges`.

    Attributes:
        layer_energies: (N, L) [MeV].
        centres: One (N, L) array [mm] per name of :func:`axis_names`; 0 in an empty layer. Layers with one
            angular bin have no eta and phi: NaN.
        widths: The same for the energy-weighted standard deviation [mm].
        hits: (N, L) number of voxels above zero.
        sparsity: (N, L) fraction of empty voxels.
        rings: (N, L, R) energy per ring [MeV].
        depth_mean: (N,) energy-weighted mean depth of the layers, in the unit of :func:`depth_unit`.
        depth_width: (N,) standard deviation of the same.
        start: (N,) first layer with more than 1 % of the shower's energy; -1 if it is empty.
        r50: (N,) radius [mm] around the axis that holds half of the energy.
        r90: (N,) radius [mm] that holds nine tenths.
    """

    layer_energies: np.ndarray
    centres: dict[str, np.ndarray]
    widths: dict[str, np.ndarray]
    hits: np.ndarray
    sparsity: np.ndarray
    rings: np.ndarray
    depth_mean: np.ndarray
    depth_width: np.ndarray
    start: np.ndarray
    r50: np.ndarray
    r90: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """(N,) sum of all voxels [MeV]."""
        return np.asarray(self.layer_energies.sum(axis=1))

    @property
    def total_hits(self) -> np.ndarray:
        """(N,) number of voxels above zero in the whole shower."""
        return np.asarray(self.hits.sum(axis=1))


def observe(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> Observables:
    """All observables of (N, V) voxel energies [MeV], after the threshold [MeV] is applied.

    Raises:
        DataError: The array does not have the geometry's number of voxels.
    """
    step = max(1, VOXELS_AT_ONCE // geometry.n_voxels)
    starts = range(0, max(1, len(voxels)), step)
    parts = [observe_lit(find_lit(voxels[a : a + step], geometry, threshold), geometry) for a in starts]
    return parts[0] if len(parts) == 1 else _join(parts)


def layer_energies(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> np.ndarray:
    """(N, L) energy per layer [MeV] of (N, V) voxels [MeV]."""
    return observe(voxels, geometry, threshold).layer_energies


def layer_hits(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> np.ndarray:
    """(N, L) number of voxels above zero after the threshold [MeV]."""
    return find_lit(voxels, geometry, threshold).hits


def sparsity(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> np.ndarray:
    """(N, L) fraction of empty voxels after the threshold [MeV]."""
    return np.asarray(1.0 - layer_hits(voxels, geometry, threshold) / np.asarray(geometry.layer_sizes))


def observe_lit(lit: LitVoxels, geometry: Geometry) -> Observables:
    """All observables of showers whose lit voxels are already known."""
    moments = _moments(lit, geometry)
    names = axis_names(geometry)
    energies, rings = moments[..., 0].copy(), moments[..., 1 + 2 * len(names) :].copy()
    means = moments[..., 1 : 1 + 2 * len(names)] / (energies + GUARD)[..., None]
    first, second = means[..., : len(names)], means[..., len(names) :]
    variance = second - first**2
    spread = np.sqrt(np.where(variance > ROUNDING * second, variance, 0.0))
    flat = sorted(set(range(geometry.n_layers)) - set(angular_layers(geometry)))
    for axis, name in enumerate(names):
        if name in {"eta", "phi"}:
            first[:, flat, axis] = spread[:, flat, axis] = np.nan
    depth_mean, depth_width = longitudinal_moments(energies, layer_depths(geometry))
    edges, around = radial_edges(geometry), rings.sum(axis=1)
    return Observables(
        layer_energies=energies,
        centres={name: first[..., i].copy() for i, name in enumerate(names)},
        widths={name: spread[..., i].copy() for i, name in enumerate(names)},
        hits=lit.hits,
        sparsity=1.0 - lit.hits / np.asarray(geometry.layer_sizes),
        rings=rings,
        depth_mean=depth_mean,
        depth_width=depth_width,
        start=shower_start(energies),
        r50=containment_radius(around, edges, 0.5),
        r90=containment_radius(around, edges, 0.9),
    )


def _moments(lit: LitVoxels, geometry: Geometry) -> np.ndarray:
    """(N, L, K) sums over the voxels of each layer: a sparse matrix times the weights, row by row."""
    from scipy.sparse import csr_array

    weights = weights_of(geometry)
    entries = lit.values.astype(np.float64), weights.kinds[lit.columns], lit.starts.astype(np.int32)
    shape = len(lit.starts) - 1, len(weights.factors)
    product = csr_array(entries, shape=shape) @ weights.factors
    return np.asarray(product).reshape(-1, lit.n_layers, weights.factors.shape[1])


def _join(parts: list[Observables]) -> Observables:
    joined: dict[str, object] = {}
    for field in fields(Observables):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], dict):
            joined[field.name] = {key: np.concatenate([v[key] for v in values]) for key in values[0]}
        else:
            joined[field.name] = np.concatenate(values)
    return Observables(**joined)  # type: ignore[arg-type]
