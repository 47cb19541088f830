"""What a production has been counted to: integers only, so that pieces add up in any order."""

from __future__ import annotations

__all__ = ["BINS", "POSITIONS", "QualityCounts", "shapes_of"]

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.quality.basis import basis_size
from caloray.quality.encoding import pack, unpack
from caloray.quality.layout import Layout
from caloray.quality.observables import names_of

if TYPE_CHECKING:
    from caloray.quality.reference import QualityReference

BINS = 50
"""Bins of a pull: 48 of a quarter between -6 and 6, and one for all beyond at either end."""
POSITIONS = (np.arange(BINS) - (BINS - 1) / 2) / 4
"""(BINS,) middle of each bin."""
KEPT = 256
"""Fingerprints that are kept."""
KEYS = ("cells", "basis", "scalars", "profiles", "rows", "voxels")


@dataclass(frozen=True)
class QualityCounts:
    """Counts of showers whose pulls were taken with one reference.

    Args:
        reference: Its digest.
        left_out: Showers outside the ranges of the reference, or not finite; nothing else counts them.
        arrays: int64 arrays by name, of :func:`shapes_of`. ``cells``: showers; ``basis``: sums of the
            functions of the particle, in units of 2**-20; ``scalars``: histograms of the pulls;
            ``profiles``: sum of the pulls, in units of 1/64, of their squares, and showers in which the
            number is not 0; ``rows``: by position in the block, showers and sums of the pulls of response
            and depth; ``voxels``: showers in which each is lit.
        prints: How often each of the lowest fingerprints occurred.
    """

    reference: str
    left_out: int
    arrays: Mapping[str, np.ndarray]
    prints: Mapping[int, int]

    @staticmethod
    def none(reference: QualityReference) -> QualityCounts:
        """Counts of no showers."""
        shapes = shapes_of(reference.layout, reference.geometry)
        arrays = {key: np.zeros(shape, dtype=np.int64) for key, shape in shapes.items()}
        return QualityCounts(reference.digest, 0, arrays, {})

    @staticmethod
    def merged(parts: Iterable[QualityCounts], reference: QualityReference) -> QualityCounts:
        """All counts together, also of no parts.

        Raises:
            DataError: A part was counted with another reference.
        """
        return reduce(QualityCounts.__add__, parts, QualityCounts.none(reference))

    @property
    def showers(self) -> int:
        """Showers counted."""
        return int(self.arrays["cells"].sum())

    def __add__(self, other: QualityCounts) -> QualityCounts:
        if other.reference != self.reference:
            raise DataError(
                f"counts against reference {other.reference[:12]} cannot be added to those against "
                f"{self.reference[:12]}",
                hint="count all showers against the same reference",
            )
        arrays = {key: values + other.arrays[key] for key, values in self.arrays.items()}
        prints = lowest(add(dict(self.prints), other.prints))
        return QualityCounts(self.reference, self.left_out + other.left_out, arrays, prints)

    def to_json(self) -> dict[str, Any]:
        """For a receipt: two numbers and some strings."""
        keys = np.array(sorted(self.prints), dtype=np.uint64)
        times = np.array([self.prints[int(key)] for key in keys], dtype=np.int64)
        packed = {key: pack(values) for key, values in self.arrays.items()}
        packed |= {"prints": pack(keys.view(np.int64)), "times": pack(times)}
        return {"reference": self.reference, "left_out": self.left_out, **packed}

    @staticmethod
    def from_json(value: object, reference: QualityReference) -> QualityCounts:
        """The counts again.

        Raises:
            DataError: Damaged, or counted with another reference.
        """
        found = value.get("reference") if isinstance(value, Mapping) else type(value).__name__
        if not isinstance(value, Mapping) or found != reference.digest:
            raise DataError(
                f"quality counts against reference {str(found)[:12]}, expected {reference.digest[:12]}",
                hint="the bundle's reference was made anew since; make the shards again to compare them",
            )
        left_out = value.get("left_out")
        if not isinstance(left_out, int) or left_out < 0:
            raise DataError("quality counts: left_out is no count", hint="make the shard again")
        shapes = shapes_of(reference.layout, reference.geometry)
        arrays = {
            key: unpack(value.get(key), shape, f"quality counts: {key}") for key, shape in shapes.items()
        }
        keys, times = (unpack(value.get(k), (-1,), f"quality counts: {k}") for k in ("prints", "times"))
        if len(keys) != len(times):
            raise DataError("quality counts: prints and times differ in length", hint="make the shard again")
        prints = dict(zip(keys.view(np.uint64).tolist(), times.tolist(), strict=True))
        return QualityCounts(reference.digest, left_out, arrays, prints)


def shapes_of(layout: Layout, geometry: Geometry) -> dict[str, tuple[int, ...]]:
    """Shape of each array of counts."""
    observed = names_of(geometry)
    shapes = (
        (layout.cells,),
        (layout.cells, basis_size(layout)),
        (layout.cells, observed.n_scalars, BINS),
        (layout.cells, observed.n_profiles, 3),
        (layout.rows, 3),
        (geometry.n_voxels,),
    )
    return dict(zip(KEYS, shapes, strict=True))


def add(counts: dict[int, int], more: Mapping[int, int]) -> dict[int, int]:
    """``counts`` with ``more`` added to it."""
    for key, times in more.items():
        counts[key] = counts.get(key, 0) + times
    return counts


def lowest(counts: dict[int, int]) -> dict[int, int]:
    """The entries with the lowest :data:`KEPT` keys.

    A key among the lowest of all parts is among the lowest of every part that has it, so that its count is
    exact however the parts were cut.
    """
    if len(counts) <= KEPT:
        return counts
    return {key: counts[key] for key in sorted(counts)[:KEPT]}
