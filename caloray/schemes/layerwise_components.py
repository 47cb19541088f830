"""The layer flows of the layerwise scheme: what they see, what they predict, and the way back to MeV."""

from __future__ import annotations

__all__ = ["AllLayers", "LayerFlow", "LayerMaps", "OneLayer"]

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import ConfigError
from caloray.flows.conv.build import build_conv, conv_parameters
from caloray.flows.conv.grid import Grid
from caloray.geometry import Geometry
from caloray.io.store import LayerStore
from caloray.preprocess.conditions import ParticleMap
from caloray.preprocess.cut import renormalise_and_cut
from caloray.preprocess.log_logit import MAXIMUM_MARGIN, LogLogit
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.guides import Guides
from caloray.schemes.layer_energies import EnergyMaps
from caloray.schemes.layerwise_config import LayerwiseConfig, layer_name
from caloray.schemes.symmetry import Turn, draw_turns

ENERGY_FLOOR = 1e-3
ENERGY_CENTRE = 2.0
SCALE_MARGIN = 1.0 + 1e-6


class Filled(NamedTuple):
    """Voxels (n, D) [MeV], zero where empty, and the uniform numbers (n, D) of their filling and noise."""

    voxels: Tensor
    fill: Tensor
    noise: Tensor | None


@dataclass(frozen=True)
class LayerMaps:
    """Maps shared by the components; the fitted numbers come from the training split."""

    config: LayerwiseConfig
    geometry: Geometry
    statistics: TrainingStatistics

    @cached_property
    def particle(self) -> ParticleMap:
        """Incident energy and conditions as the flows see them."""
        return ParticleMap.of(self.config.conditions, self.statistics.conditions)

    @cached_property
    def guides(self) -> Guides:
        """Planes that show the particle's vectors."""
        return Guides(self.geometry, self.particle)

    @property
    def energy_maps(self) -> EnergyMaps:
        """What the flow of the layer energies needs."""
        config, statistics = self.config, self.statistics
        noise = self.geometry.n_layers * config.energy_noise / statistics.min_incident
        largest = SCALE_MARGIN * (statistics.max_layer_energy + config.energy_noise)
        return EnergyMaps(
            flow=config.flows.layer_energies,
            n_layers=self.geometry.n_layers,
            particle=self.particle,
            energy_space=config.energy_space,
            alpha=config.energy_alpha,
            voxel_noise=config.energy_noise,
            threshold=config.threshold,
            max_ratio=SCALE_MARGIN * (statistics.max_ratio + noise),
            max_layer_energy=config.max_layer_energy or largest,
            noise_free=True,
        )

    @cached_property
    def grid(self) -> Grid:
        """The layers as images: (r, alpha) with alpha cyclic, or (x, y)."""
        first, second = self.geometry.layers[0].shape
        if self.geometry.kind == "cylindrical":
            return Grid(second, first, cyclic=True, transposed=True)
        return Grid(first, second)

    @cached_property
    def maxima(self) -> Tensor:
        """(L,) float64 largest voxel energy of each layer [MeV], at least the threshold.

        Raises:
            ConfigError: They were not gathered, or for another number of layers.
        """
        found, layers = self.statistics.voxel_maxima, self.geometry.n_layers
        if not self.statistics.fitted:
            found = (1.0,) * layers
        if len(found) != layers:
            raise ConfigError(
                f"scheme layerwise: the statistics hold the largest voxel of {len(found)} layers, geometry "
                f"{self.geometry.name} has {layers}",
                hint="fit the statistics again, with voxel_maxima",
            )
        return torch.tensor(found, dtype=torch.float64).clamp_min(self.config.threshold)

    @property
    def voxel_map(self) -> LogLogit:
        """Voxel energies in flow space."""
        config = self.config
        return LogLogit(config.alpha, config.threshold, config.fill_mean, config.fill_std, config.voxel_noise)

    def encode(self, voxels: Tensor, layers: Tensor, fill: Tensor, noise: Tensor | None) -> Tensor:
        """Voxels (n, D) [MeV] of layers (n,) or (1,) in flow space; see :meth:`LogLogit.encode`."""
        return self.voxel_map.encode(voxels, self._maxima(layers, voxels), fill, noise)

    def log_volume(self, drawn: Filled, x: Tensor, layers: Tensor) -> Tensor:
        """(n,) float64 as :meth:`Component.measured_batch` has it, minus infinity above the layer's maximum.

        Args:
            drawn: Voxels and noise of the target.
            x: (n, D) what :meth:`encode` made of them.
            layers: (n,) or (1,) positions of the layers.
        """
        noisy, x = self.voxel_map.noisy(drawn.voxels, drawn.fill, drawn.noise).double(), x.double()
        slope = self.voxel_map.log_slope(noisy, x, self._maxima(layers, x))
        filling = self.voxel_map.fill_log_density(noisy)
        volume = (slope - filling.masked_fill(drawn.voxels > 0, 0.0)).sum(dim=1)
        outside = (drawn.voxels > self._maxima(layers, drawn.voxels) + MAXIMUM_MARGIN).any(dim=1)
        return volume.masked_fill(outside, -math.inf)

    def decode(self, x: Tensor, layers: Tensor, energies: Tensor) -> Tensor:
        """Voxels (n, D) [MeV] from flow space, given the layers' energies (n,) [MeV]."""
        sampled = self.voxel_map.decode(x, self._maxima(layers, x))
        below = sampled < self.config.threshold
        if self.config.rescale == "none":
            return sampled.masked_fill(below, 0.0)
        # First of all the filling goes, or a layer that has to be scaled up would turn it into hits; its
        # largest voxel stays, to take the layer's energy where nothing else would.
        filling = below & (sampled < sampled.amax(dim=1, keepdim=True))
        return renormalise_and_cut(sampled.masked_fill(filling, 0.0), energies, self.config.threshold)

    def scalars(self, incident: Tensor, conditions: Tensor | None, energies: Tensor) -> Tensor:
        """(n, 2 + P): the particle, then log10(E_layer / MeV + 0.001) - 2."""
        energy = torch.log10(energies.clamp_min(0.0) + ENERGY_FLOOR) - ENERGY_CENTRE
        return torch.cat([self.particle.context(incident, conditions), energy[:, None]], dim=1)

    def _maxima(self, layers: Tensor, like: Tensor) -> Tensor:
        return self.maxima.to(like)[layers.to(like.device)][:, None]


@dataclass(frozen=True)
class LayerFlow(ABC):
    """What the per-layer flows and the shared one have in common.

    Args:
        maps: Settings and fitted maps.
        seed: Seed of initial weights and permutations.
    """

    maps: LayerMaps
    seed: int

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name within the scheme."""

    @property
    @abstractmethod
    def previous(self) -> int:
        """Number of previous layers in the context."""

    @property
    @abstractmethod
    def scalars(self) -> int:
        """Number of scalars after them."""

    @property
    @abstractmethod
    def layers(self) -> tuple[int, ...]:
        """Positions of the layers that it reads."""

    @abstractmethod
    def rows(self, store: LayerStore) -> np.ndarray:
        """(R, 2) pairs (shower, column of the store) of its targets."""

    @property
    def features(self) -> int:
        """Voxels of one layer."""
        return self.maps.geometry.layer_sizes[0]

    @property
    def images(self) -> int:
        """Number of layer-sized planes in the context: previous layers and guides."""
        return self.previous + self.maps.guides.count

    @property
    def context_features(self) -> int:
        """Voxels of the planes, and the scalars."""
        return self.images * self.features + self.scalars

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return conv_parameters(self.maps.config.flows.layer, self.maps.grid, self.images, self.scalars)

    def build(self) -> Flow:
        """A freshly initialised flow; permutations and weights come from the seed."""
        key = StreamKey(self.seed, self.name, "initialise")
        return build_conv(self.maps.config.flows.layer, self.maps.grid, self.images, self.scalars, key)

    def context(
        self,
        previous: list[Tensor],
        layers: Tensor,
        incident: Tensor,
        energies: Tensor,
        conditions: Tensor | None,
    ) -> Tensor:
        """The flat context (n, images * D + scalars): previous layers, guides, scalars.

        Args:
            previous: Previous layers (n, D) in flow space, oldest first.
            layers: (n,) or (1,) position of the target layer.
            incident: (n,) incident energies [MeV].
            energies: (n,) energies of the target layer [MeV].
            conditions: (n, P).
        """
        del layers
        scalars = self.maps.scalars(incident, conditions, energies)
        dtype = previous[0].dtype if previous else scalars.dtype
        planes = [*previous, *self.maps.guides.planes(conditions)]
        return torch.cat([plane.to(dtype) for plane in (*planes, scalars)], dim=1)

    def batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """A layer in flow space, and its condition: the real previous layers (teacher forcing)."""
        return self._drawn(store, rows, draws, dtype)[:2]

    def measured_batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`batch` and what is to be added to log p(x); see :meth:`Component.measured_batch`.

        A row with a voxel above its layer's largest of the training split has no density;
        for fillings at the threshold see :meth:`LogLogit.fill_log_density`.
        """
        target, context, drawn = self._drawn(store, rows, draws, dtype)
        layers = torch.as_tensor(np.array(store.layers)[rows[:, 1]])
        return target, context, self.maps.log_volume(drawn, target, layers)

    def _drawn(
        self, store: LayerStore, rows: np.ndarray, draws: torch.Generator, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Filled]:
        """Target, context, and of the target what it was made of."""
        shower, column = rows[:, 0], rows[:, 1]
        turn = self._turn(len(rows), draws)
        target, previous, drawn = self._encoded(store, rows, turn, draws, dtype)
        conditions = self.maps.particle.take(store.conditions, shower)
        context = self.context(
            previous,
            torch.as_tensor(np.array(store.layers)[column]),
            torch.as_tensor(store.incident_energies[shower]),
            torch.as_tensor(store.layer_energies[shower, column]),
            conditions if turn is None else turn.conditions(conditions, self.maps.particle.names),
        )
        return target, context.to(dtype), drawn

    def _turn(self, count: int, draws: torch.Generator) -> Turn | None:
        if self.maps.config.augment == "none":
            return None
        return draw_turns(self.maps.config.augment, self.maps.geometry.layers[0].shape, count, draws)

    def _encoded(
        self,
        store: LayerStore,
        rows: np.ndarray,
        turn: Turn | None,
        draws: torch.Generator,
        dtype: torch.dtype,
    ) -> tuple[Tensor, list[Tensor], Filled]:
        """The target and its previous layers, oldest first, in flow space; a layer that is not there is 0.

        Third comes what the target was made of.
        """
        encoded = []
        for back in range(self.previous + 1):
            column = rows[:, 1] - back
            voxels = torch.from_numpy(store.dense(rows[:, 0], column.clip(0))).to(dtype)
            voxels = voxels if turn is None else turn.layer(voxels)
            fill = torch.rand(voxels.shape, generator=draws, dtype=dtype)
            noise = None
            if self.maps.config.voxel_noise:
                noise = torch.rand(voxels.shape, generator=draws, dtype=dtype)
            if back == 0:
                drawn = Filled(voxels, fill, noise)
            layers = torch.as_tensor(np.array(store.layers)[column.clip(0)])
            x = self.maps.encode(voxels, layers, fill, noise)
            encoded.append(x.where(torch.as_tensor(column >= 0)[:, None], torch.zeros_like(x)))
        return encoded[0], encoded[:0:-1], drawn

    def asked(self, energies: Tensor) -> Tensor:
        """(n,) bool: is the flow asked for a layer of this energy [MeV], or is the layer empty anyway?"""
        if self.maps.config.rescale == "none":
            return torch.ones_like(energies, dtype=torch.bool)
        return energies > 0

    def _visible(self, store: LayerStore, rows: np.ndarray) -> np.ndarray:
        """Leave out empty layers where sampling sets them to zero without asking the flow."""
        asked = self.asked(torch.as_tensor(store.layer_energies[rows[:, 0], rows[:, 1]]))
        visible: np.ndarray = rows[asked.numpy()]
        return visible


@dataclass(frozen=True)
class OneLayer(LayerFlow):
    """The flow of one layer.

    Args:
        layer: Its position.
    """

    layer: int

    @property
    def name(self) -> str:
        """Its name within the scheme."""
        return layer_name(self.layer)

    @property
    def previous(self) -> int:
        """Number of previous layers in the context."""
        return min(self.layer, self.maps.config.previous)

    @property
    def scalars(self) -> int:
        """The particle and the layer's energy."""
        return self.maps.particle.width + 1

    @property
    def layers(self) -> tuple[int, ...]:
        """The previous layers and its own."""
        return tuple(range(self.layer - self.previous, self.layer + 1))

    def rows(self, store: LayerStore) -> np.ndarray:
        """One row per shower."""
        column = store.layers.index(self.layer)
        return self._visible(store, np.stack([np.arange(len(store)), np.full(len(store), column)], axis=1))


@dataclass(frozen=True)
class AllLayers(LayerFlow):
    """One flow for all layers, told by a one-hot code which it draws."""

    name = "layers"

    @property
    def previous(self) -> int:
        """Number of previous layers in the context, for every layer; at most those that the last one has."""
        return min(self.maps.config.previous, self.maps.geometry.n_layers - 1)

    @property
    def scalars(self) -> int:
        """The particle, the layer's energy and its code."""
        return self.maps.particle.width + 1 + self.maps.geometry.n_layers

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers."""
        return tuple(range(self.maps.geometry.n_layers))

    def rows(self, store: LayerStore) -> np.ndarray:
        """Every layer of every shower."""
        shower, column = np.divmod(np.arange(len(store) * len(store.layers)), len(store.layers))
        return self._visible(store, np.stack([shower, column], axis=1))

    def context(
        self,
        previous: list[Tensor],
        layers: Tensor,
        incident: Tensor,
        energies: Tensor,
        conditions: Tensor | None,
    ) -> Tensor:
        """As in the base class, and the one-hot code (n, L) of the layer at the end."""
        known = super().context(previous, layers, incident, energies, conditions)
        code = torch.nn.functional.one_hot(layers.to(known.device), self.maps.geometry.n_layers).to(known)
        return torch.cat([known, code.expand(len(known), -1)], dim=1)
