"""What a training takes, estimated before it starts: rows of a component, memory of a worker."""

from __future__ import annotations

__all__ = ["activations", "rows_per_shower", "sums_only", "worker_memory"]

import math
from collections.abc import Mapping

import numpy as np

from caloray.config import WorkerConfig
from caloray.flows.conv.build import activation_bytes
from caloray.flows.maf import MAFConfig
from caloray.geometry import Geometry
from caloray.io.store import LayerStoreBuilder
from caloray.schemes.component import Component
from caloray.schemes.inductive_components import FirstLayer, NextLayer
from caloray.schemes.layer_energies import LayerEnergies
from caloray.schemes.layerwise_components import LayerFlow
from caloray.training.config import TrainingConfig

HIT_SHARE = 0.15
ALONE = WorkerConfig()
_HIT_BYTES, _LIBRARIES = 6, 450 << 20
_WEIGHT_COPIES = 5  # weights, gradients, two moments, the best weights so far
_BATCH_COPIES = 4


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
    part: Component,
    training: TrainingConfig,
    geometry: Geometry,
    showers: Mapping[str, int],
    workers: WorkerConfig = ALONE,
) -> int:
    """About what one worker takes of its machine's memory [bytes].

    Libraries, its layers of all showers, weights with gradients and optimizer and, unless it has a GPU to
    keep them, the activations of its share of a batch.

    Args:
        part: The component.
        training: Its settings.
        geometry: Readout.
        showers: Number of showers by split.
        workers: Its resources.
    """
    count = showers.get("train", 0) + showers.get("validation", 0)
    hits = HIT_SHARE * sum(geometry.layer_sizes[layer] for layer in part.layers)
    held = count * ((0 if sums_only(part) else hits * _HIT_BYTES) + 18 * len(part.layers))
    width = 8 if training.dtype == "float64" else 4
    weights = part.parameters * _WEIGHT_COPIES * width
    batch = math.ceil(training.batch / workers.workers)
    rows = batch * (part.features + part.context_features) * _BATCH_COPIES * width
    on_gpu = training.device.startswith("cuda") or (training.device == "auto" and workers.gpus > 0)
    return int(_LIBRARIES + held + weights + rows + (0 if on_gpu else activations(part, batch, width)))


def activations(part: Component, batch: int, width: int = 4) -> int:
    """About what forward and backward pass of one batch take on a CPU besides weights [bytes].

    Args:
        part: The component; 0 for kinds of flow that are not known here.
        batch: Rows.
        width: Bytes of a number.
    """
    if isinstance(part, LayerFlow):
        return activation_bytes(part.maps.config.flows.layer, part.maps.grid, part.images, batch, width)
    if isinstance(part, LayerEnergies):
        return _of_maf(part.maps.flow, part.features, batch, width)
    if isinstance(part, FirstLayer | NextLayer):
        return _of_maf(part.flow_config, part.features, batch, width)
    return 0


def _of_maf(config: MAFConfig, features: int, batch: int, width: int) -> int:
    """What autograd keeps: hidden layers, raw numbers, and the masked output weights in two orders.

    The rows of two more blocks are added for gradients and working memory.
    """
    hidden = 1 + config.hidden_layers * (3 if config.network == "residual" else 1)
    if config.dropout and config.network == "feedforward":
        hidden += 2 * (config.hidden_layers - 1)
    raw = features * config.spline.n_raw
    rows = batch * (config.hidden * hidden + raw + 2 * features)
    masked = 2 * config.hidden * (raw + features + (config.hidden_layers - 1) * config.hidden)
    return width * ((config.blocks + 2) * rows + config.blocks * masked)
