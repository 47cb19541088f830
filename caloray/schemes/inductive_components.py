"""The inductive scheme's voxel flows and its maps: what they see, what they predict, the way back to MeV."""

from __future__ import annotations

__all__ = ["FirstLayer", "NextLayer", "Preprocessing", "VoxelComponent"]

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.flows.maf import MAFConfig, build_maf, maf_parameters
from caloray.geometry import Geometry
from caloray.io.store import LayerStore
from caloray.preprocess.conditions import ParticleMap
from caloray.preprocess.cut import renormalise_and_cut
from caloray.preprocess.log_space import from_log_space, log_space_log_volume, to_log_space
from caloray.preprocess.logit import expit, logit, logit_log_slope
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layer_energies import EnergyMaps
from caloray.schemes.symmetry import draw_turns

LOG_FLOOR = 1e-2
SCALE_MARGIN = 1.0 + 1e-6


@dataclass(frozen=True)
class Preprocessing:
    """Maps shared by the components; the fitted numbers come from the training split."""

    config: InductiveConfig
    geometry: Geometry
    statistics: TrainingStatistics

    @property
    def max_ratio(self) -> float:
        """Scale s of the unit space: the largest E_tot / E_inc that noisy training rows can reach."""
        noise = self.geometry.n_layers * self.config.voxel_noise / self.statistics.min_incident
        return SCALE_MARGIN * (self.statistics.max_ratio + noise)

    @property
    def max_layer_energy(self) -> float:
        """Largest layer energy [MeV], with room for the noise."""
        fitted = SCALE_MARGIN * (self.statistics.max_layer_energy + self.config.voxel_noise)
        return self.config.max_layer_energy or fitted

    @cached_property
    def particle(self) -> ParticleMap:
        """Incident energy and conditions as the flows see them."""
        return ParticleMap.of(self.config.conditions, self.statistics.conditions)

    @property
    def energy_maps(self) -> EnergyMaps:
        """What flow-1 needs."""
        config = self.config
        return EnergyMaps(
            flow=config.flows.layer_energies,
            n_layers=self.geometry.n_layers,
            particle=self.particle,
            energy_space=config.energy_space,
            alpha=config.alpha,
            voxel_noise=config.voxel_noise,
            threshold=config.threshold,
            max_ratio=self.max_ratio,
            max_layer_energy=self.max_layer_energy,
        )

    def layer_energy(self, energies: Tensor) -> Tensor:
        """(n, 1) condition of one layer's energy [MeV]."""
        if self.config.energy_context == "log":
            return torch.log10(energies + LOG_FLOOR)[:, None]
        return logit(energies / self.max_layer_energy, self.config.alpha)[:, None]

    def conditioning_energy(self, energies: Tensor, draws: torch.Generator) -> Tensor:
        """Layer energies as training conditions: noisy as published, or as they are."""
        if self.config.energy_context == "log":
            return energies
        return energies + self.config.voxel_noise * torch.rand(
            energies.shape, generator=draws, dtype=energies.dtype
        )

    def encode(self, voxels: Tensor, fill: Tensor) -> Tensor:
        """Voxels (n, D) [MeV] in flow space; ``fill`` (n, D) is uniform in [0, 1) and becomes the noise."""
        config = self.config
        if config.voxel_space == "log":
            return to_log_space(voxels, fill, config.fill_mean, config.fill_std)
        noisy = voxels + config.voxel_noise * fill
        return logit(noisy / noisy.sum(dim=1, keepdim=True), config.alpha)

    def log_volume(self, voxels: Tensor, fill: Tensor, x: Tensor) -> Tensor:
        """(n,) float64 what is to be added to log p(x); see :meth:`Component.measured_batch`.

        In the space of shares, which sum to one so that the whole map has no inverse, it is that of the map
        of each voxel at a fixed scale, the sum of the noisy voxels: the D numbers which the flow draws are
        scaled by the layer's energy, so that this is the density in MeV of what the generator draws.

        Args:
            voxels: (n, D) energies [MeV], zero where empty.
            fill: (n, D) as :meth:`encode` had it.
            x: (n, D) what it made of them.
        """
        config = self.config
        voxels, fill, x = voxels.double(), fill.double(), x.double()
        if config.voxel_space == "log":
            return log_space_log_volume(voxels, x, config.fill_mean, config.fill_std).sum(dim=1)
        scale = (voxels + config.voxel_noise * fill).sum(dim=1)
        filling = math.log(config.voxel_noise) * (voxels == 0).sum(dim=1, dtype=x.dtype)
        return logit_log_slope(x, config.alpha).sum(dim=1) - x.shape[1] * torch.log(scale) + filling

    def decode(self, x: Tensor, energies: Tensor) -> Tensor:
        """Voxels (n, D) [MeV] from flow space, given the layer's energy (n,) [MeV]."""
        config = self.config
        if config.voxel_space == "log":
            sampled = from_log_space(x, config.threshold)
        else:
            noise = 0.0 if config.rescale == "published" else 0.5 * config.voxel_noise * x.shape[1]
            sampled = expit(x, config.alpha) * (energies + noise)[:, None]
        if config.rescale == "renormalise":
            return renormalise_and_cut(sampled, energies, config.threshold)
        return torch.where(sampled < config.threshold, torch.zeros_like(sampled), sampled)


@dataclass(frozen=True)
class _Base(ABC):
    preprocessing: Preprocessing
    seed: int

    name = ""

    @property
    @abstractmethod
    def features(self) -> int:
        """Dimension of the flow."""

    @property
    @abstractmethod
    def context_features(self) -> int:
        """Number of conditioning features."""

    @property
    def flow_config(self) -> MAFConfig:
        """Architecture."""
        flows: dict[str, MAFConfig] = dict(self.preprocessing.config.flows)
        return flows[self.name]

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return maf_parameters(self.flow_config, self.features, self.context_features)

    def build(self) -> Flow:
        """A freshly initialised flow; permutations and weights come from the seed."""
        key = StreamKey(self.seed, self.name, "initialise")
        return build_maf(self.flow_config, self.features, self.context_features, key)


@dataclass(frozen=True)
class VoxelComponent(_Base):
    """What the two voxel flows share: the target's dimension, batches, rotation, the way back."""

    @property
    def features(self) -> int:
        """Voxels of one layer."""
        return self.preprocessing.geometry.layer_sizes[0]

    def decode(self, x: Tensor, energies: Tensor) -> Tensor:
        """Voxels (n, D) [MeV] from flow space, given the layer's energies (n,) [MeV]."""
        return self.preprocessing.decode(x, energies)

    def batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Voxels in flow space, and their condition."""
        return self._drawn(store, rows, draws, dtype)[:2]

    def measured_batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`batch` and what is to be added to log p(x); see :meth:`Component.measured_batch`."""
        target, context, voxels, fill = self._drawn(store, rows, draws, dtype)
        return target, context, self.preprocessing.log_volume(voxels, fill, target)

    @abstractmethod
    def _drawn(
        self, store: LayerStore, rows: np.ndarray, draws: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Target, context, and of the target: voxels (n, D) [MeV] and the uniform numbers that fill them."""

    def asked(self, energies: Tensor) -> Tensor:
        """(n,) bool: is the flow asked for a layer of this energy [MeV], or is the layer empty anyway?"""
        if self.preprocessing.config.rescale != "renormalise":
            return torch.ones_like(energies, dtype=torch.bool)
        return energies > 0

    def visible(self, store: LayerStore, rows: np.ndarray) -> np.ndarray:
        """Leave out empty layers where sampling sets them to zero without asking the flow."""
        asked = self.asked(torch.as_tensor(store.layer_energies[rows[:, 0], rows[:, 1]]))
        visible: np.ndarray = rows[asked.numpy()]
        return visible

    def turned(self, draws: torch.Generator, count: int, *layers: Tensor) -> list[Tensor]:
        """Turn and mirror the layers (n, D) of each row, all layers of a row alike."""
        if self.preprocessing.config.augment == "none":
            return list(layers)
        turn = draw_turns("rotate", self.preprocessing.geometry.layers[0].shape, count, draws)
        return [turn.layer(layer) for layer in layers]


@dataclass(frozen=True)
class FirstLayer(VoxelComponent):
    """Flow-2: voxels of layer 0 given its energy and the incident energy."""

    name = "first_layer"
    layers: ClassVar[tuple[int, ...]] = (0,)

    @property
    def context_features(self) -> int:
        """Incident energy, conditions and layer energy."""
        return self.preprocessing.particle.width + 1

    def rows(self, store: LayerStore) -> np.ndarray:
        """One row per shower."""
        column = store.layers.index(0)
        rows = np.stack([np.arange(len(store)), np.full(len(store), column)], axis=1)
        return self.visible(store, rows)

    def context(self, incident: Tensor, energies: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(n, 2 + P) from incident and layer energies (n,) [MeV]; only here the logit is divided by 4."""
        condition = self.preprocessing.layer_energy(energies)
        if self.preprocessing.config.energy_context == "logit":
            condition = condition / 4
        return torch.cat([self.preprocessing.particle.context(incident, conditions), condition], dim=1)

    def _drawn(
        self, store: LayerStore, rows: np.ndarray, draws: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dense = torch.from_numpy(store.dense(rows[:, 0], rows[:, 1])).to(dtype)
        (voxels,) = self.turned(draws, len(rows), dense)
        fill = torch.rand(voxels.shape, generator=draws, dtype=dtype)
        incident = torch.as_tensor(store.incident_energies[rows[:, 0]])
        energies = torch.as_tensor(store.layer_energies[rows[:, 0], rows[:, 1]])
        energies = self.preprocessing.conditioning_energy(energies, draws)
        conditions = self.preprocessing.particle.take(store.conditions, rows[:, 0])
        context = self.context(incident, energies, conditions)
        return self.preprocessing.encode(voxels, fill), context.to(dtype), voxels, fill


@dataclass(frozen=True)
class NextLayer(VoxelComponent):
    """Flow-3: voxels of layer n given layer n - 1, for all n at once."""

    name = "next_layer"

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers: each is a target once and a condition once."""
        return tuple(range(self.preprocessing.geometry.n_layers))

    @property
    def context_features(self) -> int:
        """Incident energy, conditions, two layer energies, the previous layer, and which layer it is."""
        particle = self.preprocessing.particle.width
        return particle + 2 + self.features + self.preprocessing.geometry.n_layers - 1

    def rows(self, store: LayerStore) -> np.ndarray:
        """Every layer but the first of every shower."""
        shower, column = np.divmod(np.arange(len(store) * (len(store.layers) - 1)), len(store.layers) - 1)
        return self.visible(store, np.stack([shower, column + 1], axis=1))

    def context(
        self,
        incident: Tensor,
        energies: Tensor,
        previous_energies: Tensor,
        previous: Tensor,
        fill: Tensor,
        layer: int | Tensor,
        conditions: Tensor | None = None,
    ) -> Tensor:
        """The condition of layer ``layer`` (n = 1 ... L - 1).

        Args:
            incident: (n,) incident energies [MeV].
            energies: (n,) energies of the layer [MeV].
            previous_energies: (n,) energies of the layer before [MeV].
            previous: (n, D) voxels of the layer before [MeV].
            fill: (n, D) uniform numbers in [0, 1).
            layer: Position of the layer, one for all rows or (n,).
            conditions: (n, P), as the model has them.
        """
        maps = self.preprocessing
        onehot = torch.zeros(len(incident), maps.geometry.n_layers - 1, device=incident.device)
        onehot[torch.arange(len(incident), device=incident.device), torch.as_tensor(layer) - 1] = 1.0
        parts = [
            maps.particle.context(incident, conditions),
            maps.layer_energy(energies),
            maps.layer_energy(previous_energies),
            maps.encode(previous, fill),
            onehot,
        ]
        return torch.cat([part.to(previous.dtype) for part in parts], dim=1)

    def _drawn(
        self, store: LayerStore, rows: np.ndarray, draws: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        shower, column = rows[:, 0], rows[:, 1]
        voxels, previous = self.turned(
            draws,
            len(rows),
            torch.from_numpy(store.dense(shower, column)).to(dtype),
            torch.from_numpy(store.dense(shower, column - 1)).to(dtype),
        )
        fill = torch.rand((2, *voxels.shape), generator=draws, dtype=dtype)
        target = self.preprocessing.encode(voxels, fill[0])
        sums = store.layer_energies
        energies, before = (
            self.preprocessing.conditioning_energy(torch.as_tensor(sums[shower, at]), draws)
            for at in (column, column - 1)
        )
        incident = torch.as_tensor(store.incident_energies[shower])
        conditions = self.preprocessing.particle.take(store.conditions, shower)
        layer = torch.as_tensor(column)
        context = self.context(incident, energies, before, previous, fill[1], layer, conditions)
        return target, context, voxels, fill[0]
