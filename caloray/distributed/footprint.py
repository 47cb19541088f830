"""What a training takes, estimated before it starts: rows of a component, memory of a worker."""

from __future__ import annotations

__all__ = ["rows_per_shower", "sums_only", "worker_memory"]

from collections.abc import Mapping

import numpy as np

from caloray.geometry import Geometry
from caloray.io.store import LayerStoreBuilder
from caloray.schemes.component import Component
from caloray.training.config import TrainingConfig

HIT_SHARE = 0.15
_HIT_BYTES, _ADAM_COPIES, _LIBRARIES = 6, 4, 450 << 20


def rows_per_shower(part: Component, geometry: Geometry) -> int:
    """Training rows of a shower with a hit in every layer."""
    builder = LayerStoreBuilder(geometry, part.layers)
    ones = np.ones(len(part.layers))
    builder.add(np.zeros(1), np.ones(1), 0 * ones, ones, np.ones((1, len(part.layers)), dtype=np.int64))
    return len(part.rows(builder.build()))


def sums_only(part: Component) -> bool:
    """Whether a component looks at the energies of its layers alone (``sums_only`` of its class)."""
    return bool(getattr(part, "sums_only", False))


def worker_memory(
    part: Component, training: TrainingConfig, geometry: Geometry, showers: Mapping[str, int]
) -> int:
    """Bytes of one worker: libraries, its layers of all showers, weights with gradients and optimizer.

    Activations are not counted: they depend on the architecture, and grow with the batch.

    Args:
        part: The component.
        training: Its settings.
        geometry: Readout.
        showers: Number of showers by split.
    """
    count = showers.get("train", 0) + showers.get("validation", 0)
    hits = HIT_SHARE * sum(geometry.layer_sizes[layer] for layer in part.layers)
    held = count * ((0 if sums_only(part) else hits * _HIT_BYTES) + 18 * len(part.layers))
    weights = part.parameters * _ADAM_COPIES * (8 if training.dtype == "float64" else 4)
    return int(_LIBRARIES + held + weights)
