"""The voxels that are lit, and what can be counted from them alone.

Nine voxels out of ten are empty, so everything is computed from a list of those that are not.
"""

from __future__ import annotations

__all__ = ["LitVoxels", "apply_threshold", "find_bins", "find_lit", "lit_spectrum", "voxel_spectrum"]

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry


@dataclass(frozen=True)
class LitVoxels:
    """The K voxels of N showers that hold energy after the threshold, shower by shower in flat order.

    Args:
        values: (K,) energies [MeV] in the number type of the voxels.
        columns: (K,) flat position of each in its shower.
        starts: (N L + 1,) where each layer of each shower begins in the list.
        n_layers: L.
    """

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    n_layers: int

    def __len__(self) -> int:
        """Number of showers."""
        return (len(self.starts) - 1) // self.n_layers

    @cached_property
    def per_shower(self) -> np.ndarray:
        """(N,) how many voxels of each shower are lit."""
        return np.diff(self.starts[:: self.n_layers])

    @property
    def hits(self) -> np.ndarray:
        """(N, L) how many voxels of each layer are lit."""
        return np.diff(self.starts).reshape(-1, self.n_layers)


def apply_threshold(voxels: np.ndarray, threshold: float) -> np.ndarray:
    """A float64 copy of ``voxels`` [MeV] with everything strictly below ``threshold`` [MeV] set to zero."""
    return np.where(voxels < threshold, 0.0, voxels).astype(np.float64, copy=False)


def find_lit(voxels: np.ndarray, geometry: Geometry, threshold: float = 0.0) -> LitVoxels:
    """The lit voxels of (N, V) voxels [MeV]; what is strictly below ``threshold`` [MeV] is not lit.

    Raises:
        DataError: The array does not have the geometry's number of voxels.
    """
    if voxels.ndim != 2 or voxels.shape[1] != geometry.n_voxels:
        raise DataError(
            f"voxels {voxels.shape} do not fit geometry {geometry.name}: expected (N, {geometry.n_voxels})",
            hint="choose the geometry that the showers were made with",
        )
    flat = np.ascontiguousarray(voxels).reshape(-1)
    dark = flat < threshold if threshold > 0 else flat <= 0  # a NaN is not dark: it shall be noticed
    places = np.flatnonzero(~dark)
    first = np.arange(len(voxels))[:, None] * geometry.n_voxels + np.asarray(geometry.offsets[:-1])
    starts = np.searchsorted(places, np.append(first.reshape(-1), flat.size))
    return LitVoxels(flat[places], places % geometry.n_voxels, starts, geometry.n_layers)


def find_bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin number of each value: 0 is underflow, 1 ... B the bins, B + 1 overflow (the last bin is closed)."""
    bins: np.ndarray = np.searchsorted(edges, values, side="right")
    bins[values == edges[-1]] = len(edges) - 1
    return bins


def lit_spectrum(values: np.ndarray, per_shower: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(N, B + 2) number of voxels per shower and energy bin, with under- and overflow at the ends.

    The bins are half open, the last one closed.

    Args:
        values: (K,) energies of the lit voxels [MeV], shower by shower.
        per_shower: (N,) how many of them each shower has.
        edges: (B + 1,) bin edges [MeV].
    """
    width = len(edges) + 1
    bins = _look_up_bins(values, edges) if values.dtype == np.float32 else find_bins(values, edges)
    bins += np.repeat(np.arange(len(per_shower)) * width, per_shower)
    return np.bincount(bins, minlength=len(per_shower) * width).reshape(-1, width)


def voxel_spectrum(voxels: np.ndarray, edges: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """:func:`lit_spectrum` of an (N, V) array; voxels below ``threshold`` [MeV] do not count."""
    lit = (voxels > 0) & (voxels >= threshold)
    return lit_spectrum(voxels[lit], np.count_nonzero(lit, axis=1), edges)


def _look_up_bins(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """:func:`find_bins` of non-negative float32 values, several times faster.

    The upper half of a float32's bits picks one of 2**15 narrow intervals; a table has the bin of the lower
    end of each, and the edges within the interval are compared one after the other.
    """
    lower_ends = (np.arange(1 << 15, dtype=np.uint32) << 16).view(np.float32)
    lower_ends[0x7F80:] = np.inf  # and what are no numbers
    table = np.searchsorted(edges, lower_ends, side="right")
    bins: np.ndarray = table[np.ascontiguousarray(values).view(np.uint32) >> 16]
    following = np.append(edges, np.nan)  # nothing follows the last edge
    most = int(np.diff(table, append=len(edges)).max(initial=0))  # edges within one interval
    for _ in range(most):
        bins += values >= following[bins]
    bins[values == edges[-1]] = len(edges) - 1
    return bins
