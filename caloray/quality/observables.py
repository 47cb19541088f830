"""What is watched of every shower: a few numbers that are cheap and in which real faults show.

Sums are taken in the voxels' float32, shower by shower, so that they do not depend on the batch. Of the
whole shower: the sum of voxels over the incident energy; the square root of the number of lit voxels; mean
and width of the depth; centre and width along each axis of the layers [mm]; the brightest voxel's share.
Profiles, one number per layer or band of voxel energy: the square root of the layer's share, of its lit
voxels, of the voxels in the band. Roots tame the fluctuations of small numbers.
"""

from __future__ import annotations

__all__ = ["BANDS", "Measured", "Observed", "band_name", "measure", "names_of"]

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from caloray.geometry import Geometry
from caloray.observables.shape import layer_depths
from caloray.observables.weights import axis_names

BANDS = 14
LOWEST = -10
"""Bands of voxel energy begin at 2**-10 MeV and are two powers of 2 wide; the first and the last are open."""
FEWEST_LIT = 4
"""Showers with fewer lit voxels may be equal by chance."""
GUARD = 1e-30  # MeV


@dataclass(frozen=True)
class Observed:
    """Names of the observables of a readout, in the order of the columns.

    Args:
        scalars: Of the whole shower; histogrammed.
        profiles: Name of each profile and its length; of these, means and spreads are kept.
    """

    scalars: tuple[str, ...]
    profiles: tuple[tuple[str, int], ...]

    @property
    def n_scalars(self) -> int:
        """S."""
        return len(self.scalars)

    @property
    def n_profiles(self) -> int:
        """P, the entries of all profiles."""
        return sum(length for _, length in self.profiles)


@dataclass(frozen=True)
class Measured:
    """The observables of n showers.

    Args:
        columns: (n, S + P) float64.
        lit: (V,) int64, in how many of the showers each voxel is lit.
        prints: Fingerprint of each shower, 0 where there is too little in it.
    """

    columns: np.ndarray
    lit: np.ndarray
    prints: np.ndarray


def names_of(geometry: Geometry) -> Observed:
    """The observables of a readout."""
    axes = axis_names(geometry)
    centres, widths = (tuple(f"{what} {axis}" for axis in axes) for what in ("centre", "width"))
    layers = geometry.n_layers
    profiles = (("layer shares", layers), ("layer hits", layers), ("voxel spectrum", BANDS))
    scalars = ("response", "hits", "depth", "length", *centres, *widths, "brightest voxel")
    return Observed(scalars, profiles)


def band_name(band: int) -> str:
    """Voxel energies of a band."""
    low, high = (2.0 ** (LOWEST + 2 * (band + step)) for step in (0, 1))
    if band == 0:
        return f"voxels below {high:.3g} MeV"
    return f"voxels above {low:.6g} MeV" if band == BANDS - 1 else f"voxels of {low:.3g} to {high:.6g} MeV"


def measure(voxels: np.ndarray, incident: np.ndarray, geometry: Geometry) -> Measured:
    """All observables of showers whose voxels are finite.

    Args:
        voxels: (n, V) float32 [MeV].
        incident: (n,) incident energies [MeV].
        geometry: Their readout.
    """
    n, layers = len(voxels), geometry.n_layers
    voxels = np.ascontiguousarray(voxels)
    flat = np.flatnonzero(voxels.reshape(-1) > 0)
    showers, places = np.divmod(flat, geometry.n_voxels)
    hits = _count(showers * layers + geometry.layer_of_voxel[places], n, layers)
    energies = _layer_sums(voxels, geometry)
    total = energies.sum(axis=1)
    lit = hits.sum(axis=1)
    depth, length = _moments(energies, layer_depths(geometry), total)
    scalars = [total / incident, np.sqrt(lit), depth, length, *_transverse(voxels, geometry, total)]
    scalars.append(voxels.max(axis=1) / (total + GUARD))
    shares = np.sqrt(energies / (total + GUARD)[:, None])
    bands = _count(showers * BANDS + _band(voxels.reshape(-1)[flat]), n, BANDS)
    columns = [np.stack(scalars, axis=1), shares, np.sqrt(hits), np.sqrt(bands)]
    per_voxel = np.bincount(places, minlength=geometry.n_voxels)
    return Measured(np.concatenate(columns, axis=1), per_voxel, _fingerprints(energies, lit))


def _count(bins: np.ndarray, n: int, width: int) -> np.ndarray:
    return np.bincount(bins, minlength=n * width).reshape(n, width)


def _band(energies: np.ndarray) -> np.ndarray:
    """Band of float32 energies [MeV] above zero, from the exponent's bits."""
    exponent = (energies.astype(np.float32, copy=False).view(np.uint32) >> 23).astype(np.int64) - 127
    return np.clip((exponent - LOWEST) // 2, 0, BANDS - 1)


def _layer_sums(voxels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(n, L) float64 energies of the layers [MeV]."""
    if geometry.uniform:
        by_layer = voxels.reshape(len(voxels), geometry.n_layers, geometry.layer_sizes[0])
        return np.asarray(by_layer.sum(axis=2), dtype=np.float64)
    spans = [geometry.span(layer) for layer in range(geometry.n_layers)]
    return np.stack([voxels[:, span].sum(axis=1) for span in spans], axis=1).astype(np.float64)


def _moments(energies: np.ndarray, where: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) energy-weighted mean and standard deviation of ``where`` (M,); 0 for an empty shower."""
    mean = (energies * where).sum(axis=1) / (total + GUARD)
    square = (energies * where**2).sum(axis=1) / (total + GUARD)
    return mean, np.sqrt(np.clip(square - mean**2, 0, None))


def _transverse(voxels: np.ndarray, geometry: Geometry, total: np.ndarray) -> list[np.ndarray]:
    """Centres along all axes, then widths, each (n,) [mm]."""
    axes, same = _positions(geometry)
    if same:
        voxels = voxels.reshape(len(voxels), geometry.n_layers, -1).sum(axis=1)
    plane = voxels.astype(np.float64)
    found = [_moments(plane, axis, total) for axis in axes]
    return [centre for centre, _ in found] + [width for _, width in found]


@lru_cache(maxsize=16)
def _positions(geometry: Geometry) -> tuple[tuple[np.ndarray, ...], bool]:
    """Where voxels lie along each axis [mm]: those of one layer if all layers are the same, else all."""
    same = len({(layer.first, layer.second) for layer in geometry.layers}) == 1
    layers = range(1 if same else geometry.n_layers)
    first, second = (np.concatenate(ends) for ends in zip(*map(geometry.centres, layers), strict=True))
    if geometry.kind == "cylindrical":
        return (second * np.cos(first), second * np.sin(first), second), same
    return (first, second), same


def _fingerprints(energies: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """(n,) uint64, equal for equal layer energies; 0 for showers with next to nothing in them."""
    found = np.zeros(len(energies), dtype=np.uint64)
    rows = np.ascontiguousarray(energies)
    for i in np.flatnonzero(lit >= FEWEST_LIT):
        found[i] = int.from_bytes(hashlib.blake2b(rows[i].data, digest_size=8).digest(), "little")
    return found
