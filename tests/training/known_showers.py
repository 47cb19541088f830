"""Showers of a known density: entries are empty with probability ``EMPTY``, else log-uniform."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy import stats

from caloray.geometry import Geometry, Layer
from caloray.io.store import LayerStoreBuilder
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.inductive import InductiveScheme
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.training.score import score_component

EMPTY, LOW, HIGH, COUNT = 0.3, 0.5, 50.0, 1500
DECADES = math.log(HIGH / LOW)
EDGES = tuple(np.linspace(0, 2 * np.pi, 5))
GEOMETRY = Geometry("known", "cylindrical", tuple(Layer(i, EDGES, (0.0, 1.0, 2.0)) for i in range(3)))
CONV = {"blocks": 2, "hidden": 3, "squeeze": (2, 1), "kernels": ((1, 2),), "context_channels": 4}
INCIDENT = 2e3


def drawn(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    energies = LOW * (HIGH / LOW) ** rng.random(shape) * (rng.random(shape) >= EMPTY)
    return energies.astype(np.float32)


def store_of(layers: list[np.ndarray]) -> Any:
    builder = LayerStoreBuilder(GEOMETRY, (0, 1, 2))
    builder.add_dense(np.arange(len(layers[0])), np.full(len(layers[0]), INCIDENT), layers)
    return builder.build()


def nats_of(energies: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the known density at energies."""
    hit = energies > 0
    return np.where(hit, -np.log((1 - EMPTY) / (DECADES * np.where(hit, energies, 1.0))), -np.log(EMPTY))


def bits_of(energies: np.ndarray, noise: float = 0.0) -> float:
    """What a perfect model scores: the mean at energies, and what the noise of the hits adds to entropy."""
    found = float(nats_of(energies).mean())
    if noise:
        y = np.unique(
            np.concatenate([np.linspace(LOW, LOW + noise, 5000), np.geomspace(LOW, HIGH + noise, 200_000)])
        )
        density = (np.log(y.clip(LOW, HIGH)) - np.log((y - noise).clip(LOW, HIGH))) / (DECADES * noise)
        logs = np.log(np.where(density > 0, density, 1.0))
        plain = math.log(DECADES) + 0.5 * math.log(LOW * HIGH)
        found += (energies > 0).mean() * (-np.trapezoid(density * logs, y) - plain)
    return found / math.log(2)


def statistics_of(store) -> TrainingStatistics:
    """With room above the largest."""
    maxima = tuple(2 * m for m in store.layer_maxima)
    return TrainingStatistics.of(2 * store.layer_energies, store.incident_energies, voxel_maxima=maxima)


def inductive(store, name: str, **changes: Any) -> Any:
    config = InductiveConfig.model_validate(changes)
    return InductiveScheme(config, GEOMETRY, statistics_of(store), seed=1).component(name)


def layerwise(store, name: str, **changes: Any) -> Any:
    fields = {"kind": "layerwise", "flows": {"layer": CONV}, "threshold": 0.4, "rescale": "none", **changes}
    scheme = LayerwiseScheme(LayerwiseConfig.model_validate(fields), GEOMETRY, statistics_of(store), seed=1)
    return scheme.component(name)


def noisy_density(y: torch.Tensor, noise: float, filling) -> torch.Tensor:
    """Log density [1/MeV] of entries of the known density with noise, of which the empty ones are filled."""

    def below(values: torch.Tensor) -> torch.Tensor:
        return (torch.log(values.clamp(LOW, HIGH) / LOW) / DECADES).clamp(0, 1)

    if noise:
        hit = (below(y) - below(y - noise)) / noise
    else:
        hit = ((y >= LOW) & (y <= HIGH)).double() / (DECADES * y)
    empty = torch.as_tensor(filling(y.detach().numpy()))
    return torch.log(EMPTY * empty + (1 - EMPTY) * hit)


def uniform(noise: float):
    return lambda y: ((y >= 0) & (y < noise)) / noise


def log_normal(mean: float, std: float, noise: float = 0.0):
    law = stats.lognorm(s=std * math.log(10), scale=mean)
    return law.pdf if not noise else lambda y: (law.cdf(y) - law.cdf(y - noise)) / noise


class Known(torch.nn.Module):
    """The density of x = f(y) for the known density of y; f's inverse is differentiated, row by row."""

    def __init__(self, inverse, noise: float, filling) -> None:
        super().__init__()
        self.inverse, self.noise, self.filling = inverse, noise, filling
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def log_prob(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        y = self.inverse(x)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda row: self.inverse(row[None])[0]))(x)
        density = noisy_density(y, self.noise, self.filling).sum(dim=1)
        return density + torch.linalg.slogdet(jacobian).logabsdet


def opened(x: torch.Tensor, alpha: float) -> torch.Tensor:
    return (torch.sigmoid(x) - alpha) / (1 - 2 * alpha)


def scored(part, flow, store):
    return score_component(part, flow, store, rows=10_000, seed=3, batch=400)
