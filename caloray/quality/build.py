"""Making a reference from showers of the model."""

from __future__ import annotations

__all__ = ["FEWEST", "ReferenceBuilder"]

from dataclasses import replace

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.quality.basis import Basis, basis_size
from caloray.quality.counter import sift, tally
from caloray.quality.counts import QualityCounts, shapes_of
from caloray.quality.layout import Layout
from caloray.quality.maps import PullMap, fit_pulls
from caloray.quality.observables import Measured, measure, names_of
from caloray.quality.reference import QualityReference
from caloray.showers import Showers

FEWEST = 1000


class ReferenceBuilder:
    """Takes showers of a model, in pieces, and makes the reference of them.

    Observables of all showers stay in memory, some kB each; voxels do not.

    Args:
        geometry: Readout of the showers.
        layout: Ranges of the model.
    """

    def __init__(self, geometry: Geometry, layout: Layout) -> None:
        self._geometry = geometry
        self._layout = layout
        self._parts: list[tuple[Showers, Measured]] = []
        self._lit = np.zeros((basis_size(layout), geometry.n_voxels))

    def add(self, showers: Showers) -> None:
        """Take showers spread over the ranges; those that are not finite or outside are left out.

        Raises:
            DataError: Other voxels or conditions than the model's.
        """
        kept, _ = sift(showers, self._blank())
        if not len(kept):
            return
        self._lit += self._basis(kept).dense().T @ (kept.voxels > 0).astype(np.float64)
        measured = measure(kept.voxels, kept.incident_energies, self._geometry)
        empty = np.empty((len(kept), 0), dtype=np.float32)
        self._parts.append((replace(kept, voxels=empty), measured))

    def build(self) -> QualityReference:
        """The reference; its digest is empty until it has been written.

        Raises:
            DataError: Too few showers.
        """
        number = sum(len(showers) for showers, _ in self._parts)
        if number < FEWEST:
            raise DataError(
                f"{number} valid showers, a quality reference needs {FEWEST}", hint="ask for more showers"
            )
        basis = self._basis(Showers.concatenate([showers for showers, _ in self._parts]))
        dense = basis.dense()
        leverage = np.linalg.pinv(dense.T @ dense, hermitian=True)
        columns = np.concatenate([measured.columns for _, measured in self._parts])
        pulls = fit_pulls(columns, names_of(self._geometry).n_scalars, basis)
        occupancy = (leverage @ self._lit).astype(np.float32)
        reference = replace(self._blank(), pulls=pulls, occupancy=occupancy, leverage=leverage)
        counted = (tally(reference, showers, measured) for showers, measured in self._parts)
        return replace(reference, counts=QualityCounts.merged(counted, reference))

    def _basis(self, showers: Showers) -> Basis:
        scaled = self._layout.scaled(showers.incident_energies)
        return Basis.of(self._layout, scaled, showers.conditions)

    def _blank(self) -> QualityReference:
        """A reference with ranges only."""
        functions, observed = basis_size(self._layout), names_of(self._geometry)
        columns = observed.n_scalars + observed.n_profiles
        zeros = np.zeros((functions, columns))
        arrays = {
            key: np.zeros(shape, dtype=np.int64)
            for key, shape in shapes_of(self._layout, self._geometry).items()
        }
        return QualityReference(
            self._geometry,
            self._layout,
            "",
            PullMap(zeros, zeros, np.ones(columns)),
            np.zeros((functions, self._geometry.n_voxels), dtype=np.float32),
            np.zeros((functions, functions)),
            QualityCounts("", 0, arrays, {}),
        )
