"""Inductive CaloFlow (arXiv:2305.11934): layer energies, then layer after layer given the one before."""

from __future__ import annotations

__all__ = ["COMPONENTS", "InductiveScheme"]

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import ConfigError, NumericalError
from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.component import Component
from caloray.schemes.inductive_components import (
    FirstLayer,
    LayerEnergies,
    NextLayer,
    Preprocessing,
    VoxelComponent,
)
from caloray.schemes.inductive_config import InductiveConfig

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
        ConfigError: The geometry is ragged, or rotation was asked for on a Cartesian grid.
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
                return LayerEnergies(self.preprocessing, self.seed)
            case "first_layer":
                return FirstLayer(self.preprocessing, self.seed)
            case "next_layer":
                return NextLayer(self.preprocessing, self.seed)
            case _:
                raise ConfigError(f"unknown component {name!r}", hint=f"known: {', '.join(COMPONENTS)}")

    def sample(self, flows: Mapping[str, Flow], incident: np.ndarray, key: StreamKey) -> np.ndarray:
        """Draw one block of showers.

        Args:
            flows: Trained flow of each component, in evaluation mode.
            incident: (B,) incident energies [MeV].
            key: Address of the block: seed, block and attempt.

        Returns:
            (B, n_voxels) float32 voxel energies [MeV]; rows may hold NaN where a flow failed.

        Raises:
            NumericalError: A component gave no finite number at all.
        """
        device = next(flows["layer_energies"].parameters()).device
        with torch.no_grad():
            energies_in = torch.as_tensor(incident, dtype=torch.float64, device=device)
            energies = self._layer_energies(flows["layer_energies"], energies_in, key)
            out = np.empty((len(incident), self.geometry.n_voxels), dtype=np.float32)
            previous = None
            for layer in range(self.geometry.n_layers):
                previous = self._layer(flows, energies_in, energies, previous, layer, key)
                out[:, self.geometry.span(layer)] = previous.cpu().numpy()
        return out

    def _layer_energies(self, flow: Flow, incident: Tensor, key: StreamKey) -> Tensor:
        part = LayerEnergies(self.preprocessing, self.seed)
        noise = _latent(key.named(part.name, "latent"), (len(incident), part.features), flow)
        x, _ = flow._transform.inverse(noise, part.context(incident).to(noise))
        _require_some_finite(x, part.name, key)
        return part.decode(x.double(), incident)

    def _layer(
        self,
        flows: Mapping[str, Flow],
        incident: Tensor,
        energies: Tensor,
        previous: Tensor | None,
        layer: int,
        key: StreamKey,
    ) -> Tensor:
        """Voxels (B, D) float32 [MeV] of one layer."""
        part: VoxelComponent
        address = key.named(f"layer/{layer}", "latent")
        if previous is None:
            part = FirstLayer(self.preprocessing, self.seed)
            context = part.context(incident, energies[:, 0])
        else:
            part = NextLayer(self.preprocessing, self.seed)
            uniform = address.named(address.component, "noise").generator()
            fill = torch.as_tensor(uniform.random(tuple(previous.shape), np.float32))
            pair = energies[:, layer], energies[:, layer - 1]
            context = part.context(incident, *pair, previous, fill.to(previous.device), layer)
        flow = flows[part.name]
        noise = _latent(address, (len(incident), part.features), flow)
        x, _ = flow._transform.inverse(noise, context.to(noise))
        _require_some_finite(x, f"{part.name}, layer {layer}", key)
        return part.decode(x.double(), energies[:, layer]).float()


def _latent(key: StreamKey, shape: tuple[int, int], flow: Flow) -> Tensor:
    """Standard normal numbers drawn on the host, so that they do not depend on the device."""
    weight = next(flow.parameters())
    return torch.as_tensor(key.generator().standard_normal(shape), dtype=weight.dtype).to(weight.device)


def _require_some_finite(x: Tensor, what: str, key: StreamKey) -> None:
    if not bool(torch.isfinite(x).any()):
        raise NumericalError(
            f"component {what}: no finite number in block {key.block}, "
            f"seed {key.seed}, attempt {key.attempt}",
            hint="the weights are unusable; look at the training history of this component",
        )
