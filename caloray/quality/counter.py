"""Counting showers as they are made."""

from __future__ import annotations

__all__ = ["QualityCounter"]

import numpy as np

from caloray.quality.basis import Basis
from caloray.quality.counts import BINS, QualityCounts, add, lowest
from caloray.quality.layout import Layout
from caloray.quality.observables import Measured, measure
from caloray.quality.reference import QualityReference
from caloray.showers import Showers

FINE = 64
"""Steps of a pull in the sums of profiles."""
WEIGHT = 1 << 20
"""Steps of a function of the particle in its sums."""
WATCHED = (0, 2)
"""Columns of response and depth."""


class QualityCounter:
    """Counts showers against a reference, any number at a time; their order does not matter.

    Args:
        reference: That of the bundle that makes the showers.
    """

    def __init__(self, reference: QualityReference) -> None:
        self._reference = reference
        self._counts = QualityCounts.none(reference)

    @property
    def counts(self) -> QualityCounts:
        """What was counted so far."""
        return self._counts

    def add(self, showers: Showers) -> None:
        """Count showers that carry their conditions and the ids that they have in the production.

        Showers outside the ranges of the reference and such with NaN or infinity are left out.

        Raises:
            DataError: Other voxels or conditions than the reference's.
        """
        kept, left_out = sift(showers, self._reference)
        if len(kept):
            measured = measure(kept.voxels, kept.incident_energies, self._reference.geometry)
            self._counts += tally(self._reference, kept, measured)
        if left_out:
            none = QualityCounts.none(self._reference)
            self._counts += QualityCounts(none.reference, left_out, none.arrays, {})


def sift(showers: Showers, reference: QualityReference) -> tuple[Showers, int]:
    """The showers inside the ranges and finite, and how many are not.

    Raises:
        DataError: They do not have the reference's voxels or conditions.
    """
    reference.require_readout(showers)
    keep = reference.layout.inside(showers.incident_energies, showers.conditions)
    with np.errstate(over="ignore", invalid="ignore"):
        keep &= np.isfinite(showers.voxels.sum(axis=1))
    if keep.all():
        return showers, 0
    return showers.select(keep), int(np.count_nonzero(~keep))


def tally(reference: QualityReference, showers: Showers, measured: Measured) -> QualityCounts:
    """The counts of showers that were measured."""
    layout = reference.layout
    scaled = layout.scaled(showers.incident_energies)
    cells = layout.cell_of(scaled, showers.conditions)
    basis = Basis.of(layout, scaled, showers.conditions)
    pulls = reference.pulls.pulls(measured.columns, basis)
    n_scalars = reference.observed.n_scalars
    arrays = {
        "cells": np.bincount(cells, minlength=layout.cells),
        "basis": _by_cell(np.rint(basis.dense() * WEIGHT).astype(np.int64), cells, layout),
        "scalars": _histograms(pulls[:, :n_scalars], cells, layout),
        "profiles": _sums(pulls[:, n_scalars:], measured.columns[:, n_scalars:], cells, layout),
        "rows": _rows(pulls[:, WATCHED], showers.ids, layout),
        "voxels": measured.lit,
    }
    found: dict[int, int] = {}
    prints, times = np.unique(measured.prints[measured.prints > 0], return_counts=True)
    add(found, dict(zip(prints.tolist(), times.tolist(), strict=True)))
    return QualityCounts(reference.digest, 0, arrays, lowest(found))


def _by_cell(values: np.ndarray, cells: np.ndarray, layout: Layout) -> np.ndarray:
    """(C, T) sums of int64 ``values`` (n, T), n > 0, over the showers of each cell."""
    order = np.argsort(cells, kind="stable")
    present, starts = np.unique(cells[order], return_index=True)
    found = np.zeros((layout.cells, values.shape[1]), dtype=np.int64)
    found[present] = np.add.reduceat(values[order], starts, axis=0)
    return found


def _histograms(pulls: np.ndarray, cells: np.ndarray, layout: Layout) -> np.ndarray:
    """(C, S, BINS) histograms of (n, S) pulls."""
    bins = np.clip(np.floor(4 * pulls).astype(np.int64) + BINS // 2, 0, BINS - 1)
    width = pulls.shape[1]
    flat = (cells[:, None] * width + np.arange(width)) * BINS + bins
    shape = layout.cells, width, BINS
    return np.bincount(flat.reshape(-1), minlength=int(np.prod(shape))).reshape(shape)


def _sums(pulls: np.ndarray, columns: np.ndarray, cells: np.ndarray, layout: Layout) -> np.ndarray:
    """(C, P, 3) sums of pulls, of their squares, and of non-zero entries."""
    steps = np.rint(pulls * FINE).astype(np.int64)
    values = np.stack([steps, steps**2, columns > 0], axis=2).reshape(len(steps), -1)
    return _by_cell(values, cells, layout).reshape(layout.cells, -1, 3)


def _rows(pulls: np.ndarray, ids: np.ndarray, layout: Layout) -> np.ndarray:
    """(R, 3) showers at each position of their blocks, and the sums of their two watched pulls."""
    position = ids % layout.block_size
    kept = np.flatnonzero(position < layout.rows)
    found = np.zeros((layout.rows, 3), dtype=np.int64)
    steps = np.rint(pulls[kept] * FINE).astype(np.int64)
    np.add.at(found, position[kept], np.column_stack([np.ones(len(kept), dtype=np.int64), steps]))
    return found
