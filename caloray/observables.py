"""High-level features of showers as pure array functions of (voxels, geometry).

The definitions are those of the CaloChallenge's evaluation (Krause et al., arXiv:2410.21611, sec. 4): every
mean over a layer is weighted with the voxel energies, divided by (sum of energies + 1e-16); "eta" and "phi"
are r cos(alpha) and r sin(alpha) in mm. Cartesian readouts have x and y in their place. Sums are carried in
float64 and every shower is summed on its own: a result never depends on the neighbours in the batch.
"""

from __future__ import annotations

__all__ = [
    "Observables",
    "angular_layers",
    "apply_threshold",
    "axis_names",
    "find_bins",
    "layer_energies",
    "layer_hits",
    "observe",
    "radial_edges",
    "sparsity",
    "voxel_spectrum",
]

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry, Layer

GUARD = 1e-16  # MeV, keeps the centre of an empty layer at zero
VOXELS_AT_ONCE = 8_000_000
CARTESIAN_RINGS = 30


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
    """

    layer_energies: np.ndarray
    centres: dict[str, np.ndarray]
    widths: dict[str, np.ndarray]
    hits: np.ndarray
    sparsity: np.ndarray
    rings: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """(N,) sum of all voxels [MeV]."""
        return np.asarray(self.layer_energies.sum(axis=1))

    @property
    def total_hits(self) -> np.ndarray:
        """(N,) number of voxels above zero in the whole shower."""
        return np.asarray(self.hits.sum(axis=1))


@dataclass(frozen=True)
class _Group:
    """Layers that share all edges: their columns and the weights that turn voxels into moments."""

    layers: np.ndarray  # (G,) positions
    columns: np.ndarray | slice  # flat voxels of these layers
    weights: np.ndarray  # (size, 1 + 2 * axes + R)
    size: int


def axis_names(geometry: Geometry) -> tuple[str, ...]:
    """Axes along which centres and widths are measured: (eta, phi, r) or (x, y)."""
    return ("eta", "phi", "r") if geometry.kind == "cylindrical" else ("x", "y")


def angular_layers(geometry: Geometry) -> tuple[int, ...]:
    """Positions of the layers that have a centre in both transverse directions."""
    if geometry.kind == "cartesian":
        return tuple(range(geometry.n_layers))
    return tuple(i for i, layer in enumerate(geometry.layers) if layer.shape[0] > 1)


def radial_edges(geometry: Geometry) -> np.ndarray:
    """(R + 1,) edges [mm] of the rings of the radial profile.

    For cylindrical readouts the union of all layers' radial edges. For Cartesian ones 30 equal rings around
    the axis, out to the far corner.
    """
    if geometry.kind == "cylindrical":
        every = np.concatenate([np.asarray(layer.second, dtype=float) for layer in geometry.layers])
        return np.unique(np.round(every, 9))
    first = max(abs(edge) for layer in geometry.layers for edge in layer.first)
    second = max(abs(edge) for layer in geometry.layers for edge in layer.second)
    return np.linspace(0.0, float(np.hypot(first, second)), CARTESIAN_RINGS + 1)


def apply_threshold(voxels: np.ndarray, threshold: float) -> np.ndarray:
    """A float64 copy of ``voxels`` [MeV] with everything strictly below ``threshold`` [MeV] set to zero."""
    return np.where(voxels < threshold, 0.0, voxels).astype(np.float64, copy=False)


def observe(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> Observables:
    """All observables of (N, V) voxel energies [MeV], after the threshold [MeV] is applied.

    Raises:
        DataError: The array does not have the geometry's number of voxels.
    """
    if voxels.ndim != 2 or voxels.shape[1] != geometry.n_voxels:
        raise DataError(
            f"voxels {voxels.shape} do not fit geometry {geometry.name}: expected (N, {geometry.n_voxels})",
            hint="choose the geometry that the showers were made with",
        )
    step = max(1, VOXELS_AT_ONCE // geometry.n_voxels)
    starts = range(0, max(1, len(voxels)), step)
    parts = [_observe(apply_threshold(voxels[a : a + step], threshold), geometry) for a in starts]
    return parts[0] if len(parts) == 1 else _join(parts)


def layer_energies(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> np.ndarray:
    """(N, L) energy per layer [MeV] of (N, V) voxels [MeV]."""
    return observe(voxels, geometry, threshold).layer_energies


def layer_hits(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> np.ndarray:
    """(N, L) number of voxels above zero after the threshold [MeV]."""
    return _hits(apply_threshold(voxels, threshold), geometry)


def sparsity(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> np.ndarray:
    """(N, L) fraction of empty voxels after the threshold [MeV]."""
    return np.asarray(1.0 - layer_hits(voxels, geometry, threshold) / np.asarray(geometry.layer_sizes))


def voxel_spectrum(voxels: np.ndarray, edges: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """(N, B + 2) number of lit voxels per shower and energy bin, with under- and overflow at the ends.

    The bins are half open, the last one closed. Voxels below ``threshold`` [MeV] and empty ones do not count.
    """
    rows, columns = np.nonzero((voxels > 0) & (voxels >= threshold))
    bins = find_bins(voxels[rows, columns], edges)
    width = len(edges) + 1
    flat = np.bincount(rows * width + bins, minlength=len(voxels) * width)
    return flat.reshape(len(voxels), width)


def find_bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin number of each value: 0 is underflow, 1 ... B the bins, B + 1 overflow (the last bin is closed)."""
    bins: np.ndarray = np.searchsorted(edges, values, side="right")
    return np.where(values == edges[-1], len(edges) - 1, bins)


def _observe(voxels: np.ndarray, geometry: Geometry) -> Observables:
    n, n_layers, names = len(voxels), geometry.n_layers, axis_names(geometry)
    n_rings = len(radial_edges(geometry)) - 1
    moments = np.empty((n, n_layers, 1 + 2 * len(names) + n_rings))
    for group in _groups(geometry):
        block = voxels[:, group.columns].reshape(n, len(group.layers), group.size)
        moments[:, group.layers] = np.matmul(block, group.weights)  # one product per shower: independent of n
    energies = moments[..., 0]
    with np.errstate(invalid="ignore"):
        means = moments[..., 1 : 1 + 2 * len(names)] / (energies + GUARD)[..., None]
    first, second = means[..., : len(names)], means[..., len(names) :]
    spread = np.sqrt(np.clip(second - first**2, 0.0, None))
    flat = sorted(set(range(n_layers)) - set(angular_layers(geometry)))
    for axis, name in enumerate(names):
        if name in {"eta", "phi"}:
            first[:, flat, axis] = spread[:, flat, axis] = np.nan
    hits = _hits(voxels, geometry)
    return Observables(
        layer_energies=energies.copy(),
        centres={name: first[..., i].copy() for i, name in enumerate(names)},
        widths={name: spread[..., i].copy() for i, name in enumerate(names)},
        hits=hits,
        sparsity=1.0 - hits / np.asarray(geometry.layer_sizes),
        rings=moments[..., 1 + 2 * len(names) :].copy(),
    )


def _hits(voxels: np.ndarray, geometry: Geometry) -> np.ndarray:
    lit = voxels > 0
    hits = np.empty((len(voxels), geometry.n_layers), dtype=np.int64)
    for group in _groups(geometry):
        block = lit[:, group.columns].reshape(len(voxels), len(group.layers), group.size)
        hits[:, group.layers] = np.count_nonzero(block, axis=2)
    return hits


@lru_cache(maxsize=16)
def _groups(geometry: Geometry) -> tuple[_Group, ...]:
    shared: dict[tuple[tuple[float, ...], tuple[float, ...]], list[int]] = {}
    for position, layer in enumerate(geometry.layers):
        shared.setdefault((layer.first, layer.second), []).append(position)
    groups = []
    for positions in shared.values():
        columns: np.ndarray | slice = np.concatenate([np.r_[geometry.span(i)] for i in positions])
        if len(shared) == 1:
            columns = slice(None)
        size = geometry.layer_sizes[positions[0]]
        groups.append(_Group(np.array(positions), columns, _weights(geometry, positions[0]), size))
    return tuple(groups)


def _weights(geometry: Geometry, position: int) -> np.ndarray:
    """(size, K): a voxel's factors in the sum, the first and second moments and the rings."""
    first, second = geometry.centres(position)
    layer = geometry.layers[position]
    if geometry.kind == "cylindrical":
        axes = np.stack([second * np.cos(first), second * np.sin(first), second], axis=1)
        rings = np.tile(_ring_shares(layer, radial_edges(geometry)), (layer.shape[0], 1))
    else:
        axes = np.stack([first, second], axis=1)
        edges = radial_edges(geometry)
        ring = np.clip(np.searchsorted(edges, np.hypot(first, second), side="right") - 1, 0, len(edges) - 2)
        rings = np.eye(len(edges) - 1)[ring]
    return np.ascontiguousarray(np.concatenate([np.ones((layer.size, 1)), axes, axes**2, rings], axis=1))


def _ring_shares(layer: Layer, edges: np.ndarray) -> np.ndarray:
    """(radial bins, R): share of each radial bin's area that lies in each ring."""
    own = np.round(np.asarray(layer.second, dtype=float), 9)
    low = np.maximum(own[:-1, None], edges[None, :-1])
    high = np.minimum(own[1:, None], edges[None, 1:])
    overlap = np.where(high > low, high**2 - low**2, 0.0)
    return np.asarray(overlap / (own[1:] ** 2 - own[:-1] ** 2)[:, None])


def _join(parts: list[Observables]) -> Observables:
    joined: dict[str, object] = {}
    for field in fields(Observables):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], dict):
            joined[field.name] = {key: np.concatenate([v[key] for v in values]) for key in values[0]}
        else:
            joined[field.name] = np.concatenate(values)
    return Observables(**joined)  # type: ignore[arg-type]
