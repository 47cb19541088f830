"""What preprocessing has to know about the training split, gathered shower by shower."""

from __future__ import annotations

__all__ = ["TrainingStatistics"]

from dataclasses import asdict, dataclass

import numpy as np

from caloray.errors import DataError


@dataclass(frozen=True)
class TrainingStatistics:
    """Extremes of the training split; merging two gives those of both, in any order.

    Args:
        showers: Number of showers.
        max_ratio: Largest E_tot / E_inc.
        max_layer_energy: Largest energy of one layer [MeV].
        min_incident: Smallest incident energy [MeV].
        max_incident: Largest incident energy [MeV].
    """

    showers: int
    max_ratio: float
    max_layer_energy: float
    min_incident: float
    max_incident: float

    @staticmethod
    def of(layer_energies: np.ndarray, incident: np.ndarray) -> TrainingStatistics:
        """Gather from layer energies (N, L) and incident energies (N,), both [MeV].

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
        )

    def merge(self, other: TrainingStatistics) -> TrainingStatistics:
        """Statistics of both sets of showers."""
        return TrainingStatistics(
            showers=self.showers + other.showers,
            max_ratio=max(self.max_ratio, other.max_ratio),
            max_layer_energy=max(self.max_layer_energy, other.max_layer_energy),
            min_incident=min(self.min_incident, other.min_incident),
            max_incident=max(self.max_incident, other.max_incident),
        )

    def to_dict(self) -> dict[str, float]:
        """JSON-able form."""
        return asdict(self)
