"""What preprocessing has to know about the training split, gathered shower by shower."""

from __future__ import annotations

__all__ = ["TrainingStatistics"]

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from caloray.errors import DataError
from caloray.preprocess.condition_range import ConditionRange, ranges_of


@dataclass(frozen=True)
class TrainingStatistics:
    """Extremes of the training split; merging two gives those of both, in any order.

    Args:
        showers: Number of showers.
        max_ratio: Largest E_tot / E_inc.
        max_layer_energy: Largest energy of one layer [MeV].
        min_incident: Smallest incident energy [MeV].
        max_incident: Largest incident energy [MeV].
        conditions: Name, unit and range of every further scalar that the data have.
        voxel_maxima: Largest voxel energy of each layer [MeV]; empty where it was not gathered.
    """

    showers: int
    max_ratio: float
    max_layer_energy: float
    min_incident: float
    max_incident: float
    conditions: tuple[ConditionRange, ...] = ()
    voxel_maxima: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Take conditions as they come out of JSON, too."""
        given: Sequence[Any] = self.conditions
        ready = tuple(c if isinstance(c, ConditionRange) else ConditionRange(**c) for c in given)
        object.__setattr__(self, "conditions", ready)
        object.__setattr__(self, "voxel_maxima", tuple(self.voxel_maxima))

    @staticmethod
    def of(
        layer_energies: np.ndarray,
        incident: np.ndarray,
        conditions: Mapping[str, np.ndarray] | None = None,
        units: Mapping[str, str] | None = None,
        voxel_maxima: Sequence[float] = (),
    ) -> TrainingStatistics:
        """Gather from layer energies (N, L) and incident energies (N,), both [MeV], and conditions (N,).

        Raises:
            DataError: There are no showers.
        """
        if len(incident) == 0:
            raise DataError(
                "the training split holds no showers", hint="ingest more data or change data.split"
            )
        return TrainingStatistics(
            showers=len(incident),
            max_ratio=float((layer_energies.sum(axis=1) / incident).max()),
            max_layer_energy=float(layer_energies.max()),
            min_incident=float(incident.min()),
            max_incident=float(incident.max()),
            conditions=ranges_of(conditions or {}, units or {}),
            voxel_maxima=tuple(float(energy) for energy in voxel_maxima),
        )

    @staticmethod
    def unfitted(conditions: Sequence[str] = ()) -> TrainingStatistics:
        """Stand-in before there are data, to learn a scheme's sizes: every number is 1."""
        ranges = tuple(ConditionRange(name, "", -1.0, 1.0) for name in conditions)
        return TrainingStatistics(1, 1.0, 1.0, 1.0, 1.0, ranges)

    @property
    def fitted(self) -> bool:
        """Whether the numbers come from data, not from :meth:`unfitted`."""
        return replace(self, conditions=()) != TrainingStatistics.unfitted()

    def merge(self, other: TrainingStatistics) -> TrainingStatistics:
        """Statistics of both sets of showers.

        Raises:
            DataError: They do not have the same conditions, or the largest voxels of other layers.
        """
        if len(self.conditions) != len(other.conditions):
            one, two = (", ".join(c.name for c in item.conditions) or "none" for item in (self, other))
            raise DataError(
                f"conditions differ between shards: {one}; {two}",
                hint="ingest files with the same conditions only",
            )
        if len(self.voxel_maxima) != len(other.voxel_maxima):
            raise DataError(
                f"largest voxels of {len(self.voxel_maxima)} layers in one shard, of "
                f"{len(other.voxel_maxima)} in another",
                hint="fit the statistics of all shards in the same way",
            )
        return TrainingStatistics(
            showers=self.showers + other.showers,
            max_ratio=max(self.max_ratio, other.max_ratio),
            max_layer_energy=max(self.max_layer_energy, other.max_layer_energy),
            min_incident=min(self.min_incident, other.min_incident),
            max_incident=max(self.max_incident, other.max_incident),
            conditions=tuple(a.merge(b) for a, b in zip(self.conditions, other.conditions, strict=True)),
            voxel_maxima=tuple(map(max, self.voxel_maxima, other.voxel_maxima)),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; keys added later are left out where they are empty."""
        value = asdict(self)
        for name in ("conditions", "voxel_maxima"):
            value[name] = list(value[name])
            if not value[name]:
                del value[name]
        return value
