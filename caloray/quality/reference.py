"""The frozen reference of a bundle: maps from particles to observables, and the counts of its own showers."""

from __future__ import annotations

__all__ = ["QualityReference"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry
from caloray.quality.basis import basis_size
from caloray.quality.counts import QualityCounts, shapes_of
from caloray.quality.layout import Layout
from caloray.quality.maps import PullMap
from caloray.quality.observables import Observed, names_of
from caloray.showers import Showers

COUNTED = "counts."
MAPS = ("mean", "spread", "floor")


@dataclass(frozen=True)
class QualityReference:
    """What a production is held against.

    Args:
        geometry: Readout of the showers.
        layout: For which particles it stands.
        digest: sha256 of the file that holds it; "" for one that is not on disk.
        pulls: How mean and spread of each observable follow the particle.
        occupancy: (K, V) float32, the same for the probability that a voxel is lit.
        leverage: (K, K) b @ leverage @ b is the variance, in showers' variances, of a mean that was fitted,
            at a particle with functions b.
        counts: Of the reference's own showers.
    """

    geometry: Geometry
    layout: Layout
    digest: str
    pulls: PullMap
    occupancy: np.ndarray
    leverage: np.ndarray
    counts: QualityCounts

    @cached_property
    def observed(self) -> Observed:
        """Names of the observables."""
        return names_of(self.geometry)

    def require_readout(self, showers: Showers) -> None:
        """Refuse showers of another readout.

        Raises:
            DataError: Another number of voxels.
        """
        if showers.voxels.shape[1] != self.geometry.n_voxels:
            raise DataError(
                f"{showers.voxels.shape[1]} voxels per shower, the quality reference has "
                f"{self.geometry.n_voxels} ({self.geometry.name})",
                hint="hold showers against the reference of the bundle that made them",
            )

    def tensors(self) -> dict[str, np.ndarray]:
        """All numbers by name, for a file."""
        found = {name: getattr(self.pulls, name) for name in MAPS}
        found |= {"occupancy": self.occupancy, "leverage": self.leverage}
        return found | {COUNTED + key: values for key, values in self.counts.arrays.items()}

    @staticmethod
    def of(
        tensors: Mapping[str, np.ndarray], geometry: Geometry, layout: Layout, digest: str
    ) -> QualityReference:
        """The reference again, from :meth:`tensors`.

        Raises:
            DataError: A tensor is missing, of another shape or not finite.
        """
        shapes = {COUNTED + key: shape for key, shape in shapes_of(layout, geometry).items()}
        functions, observed = basis_size(layout), names_of(geometry)
        columns = observed.n_scalars + observed.n_profiles
        shapes |= {"mean": (functions, columns), "spread": (functions, columns), "floor": (columns,)}
        shapes |= {"occupancy": (functions, geometry.n_voxels), "leverage": (functions, functions)}
        for name, shape in shapes.items():
            found = tensors.get(name)
            if found is None or found.shape != shape or not np.isfinite(found).all():
                shown = "missing" if found is None else f"of shape {found.shape} or not finite"
                raise DataError(f"quality reference: {name} is {shown}, expected shape {shape}")
        arrays = {key: tensors[COUNTED + key].astype(np.int64) for key in shapes_of(layout, geometry)}
        return QualityReference(
            geometry,
            layout,
            digest,
            PullMap(*(tensors[name] for name in MAPS)),
            tensors["occupancy"],
            tensors["leverage"],
            QualityCounts(digest, 0, arrays, {}),
        )
