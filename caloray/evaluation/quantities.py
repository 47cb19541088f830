"""Every number that is kept of a shower, in one row: what is histogrammed and fed to the metrics."""

from __future__ import annotations

__all__ = ["SHOWER", "Columns", "Seen", "columns_of", "quantities"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from caloray.evaluation.conditions import extra_values
from caloray.geometry import Geometry
from caloray.observables import (
    LitVoxels,
    Observables,
    angular_layers,
    axis_names,
    find_lit,
    observe_lit,
)
from caloray.showers import Showers

SHOWER = (
    "e_ratio",
    "incident_energy",
    "total_energy",
    "hits",
    "depth_mean",
    "depth_width",
    "start",
    "r50",
    "r90",
)
"""Quantities of the whole shower; those of the layers follow."""


@dataclass(frozen=True)
class Columns:
    """Where each quantity stands in a row.

    Args:
        layers: For each quantity of a layer, the positions of the layers that have it.
        spans: The columns of each quantity, layered or not.
        names: Name of each column, ``observable`` or ``observable/layer``.
    """

    layers: dict[str, tuple[int, ...]]
    spans: dict[str, slice]
    names: tuple[str, ...]

    @cached_property
    def index(self) -> dict[str, int]:
        """Column of each name."""
        return {name: i for i, name in enumerate(self.names)}


@dataclass(frozen=True)
class Seen:
    """N showers, observed.

    Args:
        geometry: The readout.
        ids: (N,) integers that name the showers for good.
        energies: (N,) incident energies [MeV].
        lit: Their lit voxels.
        observables: What was made of them.
        conditions: (N,) values of what else is known of the particles, by name.
    """

    geometry: Geometry
    ids: np.ndarray
    energies: np.ndarray
    lit: LitVoxels
    observables: Observables
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.ids)

    @staticmethod
    def of(showers: Showers, geometry: Geometry, threshold: float) -> Seen:
        """Observe showers after the threshold [MeV].

        Raises:
            DataError: They do not have the geometry's number of voxels.
        """
        lit = find_lit(showers.voxels, geometry, threshold)
        energies = np.array(showers.incident_energies, dtype=np.float64)
        return Seen(geometry, showers.ids, energies, lit, observe_lit(lit, geometry), showers.conditions)

    @cached_property
    def rows(self) -> np.ndarray:
        """(N, Q + E) their :func:`quantities`, and the columns of their conditions."""
        rows = quantities(self.observables, self.energies, self.geometry)
        if not self.conditions:
            return rows
        extra = extra_values(self.conditions, self.lit, self.observables, self.geometry)
        return np.concatenate([rows, extra], axis=1)


@lru_cache(maxsize=16)
def columns_of(geometry: Geometry) -> Columns:
    """The columns of a readout."""
    every, angular = tuple(range(geometry.n_layers)), angular_layers(geometry)
    layers = {"layer_energy": every, "sparsity": every, "layer_hits": every}
    for kind in ("centre", "width"):
        for name in axis_names(geometry):
            layers[f"{kind}_{name}"] = angular if name in {"eta", "phi"} else every
    names = list(SHOWER)
    spans = {name: slice(i, i + 1) for i, name in enumerate(SHOWER)}
    for name, members in layers.items():
        spans[name] = slice(len(names), len(names) + len(members))
        names += [f"{name}/{i:02d}" for i in members]
    return Columns(layers, spans, tuple(names))


def quantities(observables: Observables, energies: np.ndarray, geometry: Geometry) -> np.ndarray:
    """(N, Q) float64, the columns of :func:`columns_of`; lengths in mm, energies in MeV.

    Args:
        observables: Of N showers.
        energies: (N,) incident energies [MeV].
        geometry: The readout.
    """
    total, columns = observables.total, columns_of(geometry)
    rows = np.empty((len(energies), len(columns.names)))
    known = {
        "e_ratio": total / energies,
        "incident_energy": energies,
        "total_energy": total,
        "hits": observables.total_hits,
    }
    for name in SHOWER:
        values = known[name] if name in known else getattr(observables, name)
        rows[:, columns.spans[name]] = values[:, None]
    layered = {
        "layer_energy": observables.layer_energies,
        "sparsity": observables.sparsity,
        "layer_hits": observables.hits,
    }
    layered |= {f"centre_{name}": values for name, values in observables.centres.items()}
    layered |= {f"width_{name}": values for name, values in observables.widths.items()}
    for name, members in columns.layers.items():
        values = layered[name]
        rows[:, columns.spans[name]] = values if len(members) == geometry.n_layers else values[:, members]
    return rows
