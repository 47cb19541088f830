"""Inductive CaloFlow (arXiv:2305.11934): layer energies, then layer after layer given the one before."""

from __future__ import annotations

__all__ = ["COMPONENTS", "InductiveScheme"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import ConfigError
from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.component import Component, Sampled
from caloray.schemes.draws import image, latent, of_asked, require_some_finite
from caloray.schemes.inductive_components import (
    FirstLayer,
    NextLayer,
    Preprocessing,
    VoxelComponent,
)
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layer_energies import LayerEnergies, sample_layer_energies
from caloray.schemes.streams import Streams
from caloray.schemes.symmetry import require_turnable

COMPONENTS = ("layer_energies", "first_layer", "next_layer")


@dataclass(frozen=True)
class InductiveScheme:
    """The scheme for one geometry with fitted preprocessing.

    Args:
        config: Settings.
        geometry: A readout whose layers all have the same shape.
        statistics: Extremes of the training split.
        seed: Seed of initial weights and permutations.

    Raises:
        ConfigError: The geometry is ragged, rotation was asked for on a Cartesian grid or with a condition
            that may turn, or a condition is not in the data.
    """

    config: InductiveConfig
    geometry: Geometry
    statistics: TrainingStatistics
    seed: int

    def __post_init__(self) -> None:
        if not self.geometry.uniform or self.geometry.n_layers < 2:
            raise ConfigError(
                f"scheme inductive needs two or more layers of one shape, geometry {self.geometry.name} has "
                f"{sorted({layer.shape for layer in self.geometry.layers})}",
                hint="use dataset 2 or 3, or a Cartesian grid",
            )
        if self.config.augment == "rotate" and self.geometry.kind != "cylindrical":
            raise ConfigError(
                f"scheme.augment: rotate needs a cylindrical geometry, not {self.geometry.name}",
                hint="set scheme.augment: none",
            )
        require_turnable(self.config.augment, self.config.conditions)
        for name in COMPONENTS:
            part = self.component(name)
            step: int = getattr(self.config.flows, name).autoregressive_step
            if 1 < step >= part.features:
                raise ConfigError(
                    f"scheme.flows.{name}.autoregressive_step: {step} leaves no group to condition on in "
                    f"{part.features} dimensions",
                    hint=f"choose at most {part.features - 1}",
                )

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components, in sampling order."""
        return COMPONENTS

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions besides the incident energy, in order."""
        return self.config.conditions

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The maps between energies and flow space."""
        return Preprocessing(self.config, self.geometry, self.statistics)

    def component(self, name: str) -> Component:
        """One trainable component.

        Raises:
            ConfigError: There is no such component.
        """
        match name:
            case "layer_energies":
                return LayerEnergies(self.preprocessing.energy_maps, self.seed)
            case "first_layer":
                return FirstLayer(self.preprocessing, self.seed)
            case "next_layer":
                return NextLayer(self.preprocessing, self.seed)
            case _:
                raise ConfigError(f"unknown component {name!r}", hint=f"known: {', '.join(COMPONENTS)}")

    def sample(
        self,
        flows: Mapping[str, Flow],
        incident: np.ndarray,
        streams: Streams,
        conditions: np.ndarray | None = None,
    ) -> Sampled:
        """Draw a batch of showers; each depends on its own energy, conditions and random numbers alone.

        Args:
            flows: Trained flow of each component, in evaluation mode.
            incident: (B,) incident energies [MeV].
            streams: Where the random numbers come from.
            conditions: (B, P) float64, in the order of :attr:`conditions`; None for a model without.

        Returns:
            Voxels, the layer energies that they were drawn for and the log density of both.

        Raises:
            NumericalError: A component gave no finite number for a whole block.
            ConfigError: Other conditions than the model has.
        """
        device = next(flows["layer_energies"].parameters()).device
        part = LayerEnergies(self.preprocessing.energy_maps, self.seed)
        with torch.no_grad():
            particle = _Particle.of(incident, conditions, device)
            energies, log_prob = sample_layer_energies(
                part, flows[part.name], particle.incident, particle.conditions, streams
            )
            out = np.empty((len(incident), self.geometry.n_voxels), dtype=np.float32)
            previous = None
            for layer in range(self.geometry.n_layers):
                previous, added = self._layer(flows, particle, energies, previous, layer, streams)
                out[:, self.geometry.span(layer)] = previous.cpu().numpy()
                log_prob = log_prob + added
        return Sampled(out, energies.cpu().numpy(), log_prob=log_prob.cpu().numpy())

    def _layer(
        self,
        flows: Mapping[str, Flow],
        particle: _Particle,
        energies: Tensor,
        previous: Tensor | None,
        layer: int,
        streams: Streams,
    ) -> tuple[Tensor, Tensor]:
        """Voxels (B, D) float32 [MeV] of one layer, and what they add to the log density (B,)."""
        part: VoxelComponent
        incident, conditions = particle.incident, particle.conditions
        name, shape = f"layer/{layer}", (len(incident), self.geometry.layer_sizes[layer])
        if previous is None:
            part = FirstLayer(self.preprocessing, self.seed)
            context = part.context(incident, energies[:, 0], conditions)
        else:
            part = NextLayer(self.preprocessing, self.seed)
            fill = torch.as_tensor(streams.uniform(name, "noise", shape))
            pair = energies[:, layer], energies[:, layer - 1]
            context = part.context(incident, *pair, previous, fill.to(previous.device), layer, conditions)
        flow = flows[part.name]
        noise = latent(streams, name, shape, flow)
        x, log_prob = image(flow, noise, context.to(noise))
        require_some_finite(x, f"{part.name}, layer {layer}", streams)
        voxels = part.decode(x.double(), energies[:, layer]).float()
        return voxels, of_asked(log_prob, part.asked(energies[:, layer]))


@dataclass(frozen=True)
class _Particle:
    """Incident energies (B,) [MeV] and conditions (B, P) of a block, on the device."""

    incident: Tensor
    conditions: Tensor | None

    @staticmethod
    def of(incident: np.ndarray, conditions: np.ndarray | None, device: torch.device) -> _Particle:
        energies = torch.as_tensor(incident, dtype=torch.float64, device=device)
        if conditions is None:
            return _Particle(energies, None)
        return _Particle(energies, torch.as_tensor(conditions, dtype=torch.float64, device=device))
