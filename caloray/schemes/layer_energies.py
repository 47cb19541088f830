"""Flow-1, shared by the schemes: energies of all layers given the particle (CaloFlow, arXiv:2106.05285)."""

from __future__ import annotations

__all__ = ["EnergyMaps", "LayerEnergies", "sample_layer_energies"]

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.flows.maf import MAFConfig, build_maf, maf_parameters
from caloray.io.store import LayerStore
from caloray.preprocess.conditions import ParticleMap
from caloray.preprocess.logit import expit, logit, logit_log_slope
from caloray.preprocess.unit_space import from_unit_space, to_unit_space, unit_space_log_det
from caloray.rng import StreamKey
from caloray.schemes.draws import image, latent, require_some_finite
from caloray.schemes.streams import Streams


@dataclass(frozen=True)
class EnergyMaps:
    """Everything that flow-1 needs of its scheme.

    Args:
        flow: Architecture.
        n_layers: Layers of the readout.
        particle: Incident energy and conditions as the flow sees them.
        energy_space: "unit": shares of what is left, the total relative to E_inc; "absolute": shares of the
            largest layer energy, no relation to E_inc.
        alpha: Margin of the logit map.
        voxel_noise: Upper end of the uniform noise added to every layer energy in training [MeV].
        threshold: Sampled layer energies below it become zero [MeV].
        max_ratio: Scale of the unit space, the largest E_tot / E_inc that noisy rows reach.
        max_layer_energy: Scale of the absolute space [MeV].
        noise_free: Take the noise's mean away from sampled energies above the threshold.
    """

    flow: MAFConfig
    n_layers: int
    particle: ParticleMap
    energy_space: Literal["unit", "absolute"]
    alpha: float
    voxel_noise: float
    threshold: float
    max_ratio: float
    max_layer_energy: float
    noise_free: bool = False

    def encode(self, energies: Tensor, incident: Tensor) -> Tensor:
        """Layer energies (n, L) [MeV], noise added, in flow space; ``incident`` (n,) [MeV]."""
        if self.energy_space == "unit":
            shares = to_unit_space(energies, incident, self.max_ratio)
        else:
            shares = energies / self.max_layer_energy
        return logit(shares, self.alpha)

    def log_volume(self, energies: Tensor, noisy: Tensor, x: Tensor, incident: Tensor) -> Tensor:
        """(n,) what is to be added to log p(x), minus infinity for a row outside the range of the map.

        See :meth:`Component.measured_batch`.

        Args:
            energies: (n, L) layer energies [MeV], zero where empty.
            noisy: (n, L) the same with noise.
            x: (n, L) what :meth:`encode` made of the noisy ones.
            incident: (n,) incident energies [MeV].
        """
        if self.energy_space == "unit":
            shares = unit_space_log_det(noisy, incident, self.max_ratio)
            outside = noisy.sum(dim=1) > self.max_ratio * incident
        else:
            outside = (noisy > self.max_layer_energy).any(dim=1)
            shares = torch.full_like(incident, -math.log(self.max_layer_energy) * energies.shape[1])
        filling = math.log(self.voxel_noise) * (energies == 0).sum(dim=1, dtype=noisy.dtype)
        volume = shares + logit_log_slope(x, self.alpha).sum(dim=1) + filling
        return volume.masked_fill(outside, -math.inf)

    def decode(self, x: Tensor, incident: Tensor) -> Tensor:
        """Layer energies (n, L) [MeV] from flow space; energies below the threshold are zero.

        What reaches the threshold with its noise stays at or above it without.
        """
        shares = expit(x, self.alpha)
        if self.energy_space == "unit":
            energies = from_unit_space(shares, incident, self.max_ratio)
        else:
            energies = shares * self.max_layer_energy
        below = energies < self.threshold
        if self.noise_free:
            energies = (energies - 0.5 * self.voxel_noise).clamp_min(self.threshold)
        return torch.where(below, torch.zeros_like(energies), energies)


@dataclass(frozen=True)
class LayerEnergies:
    """The component: energies of all layers given incident energy and conditions.

    Args:
        maps: Architecture and fitted maps.
        seed: Seed of initial weights and permutations.
    """

    maps: EnergyMaps
    seed: int

    name: ClassVar[str] = "layer_energies"
    sums_only: ClassVar[bool] = True  # the feed need not bring it voxels

    @property
    def features(self) -> int:
        """One number per layer."""
        return self.maps.n_layers

    @property
    def context_features(self) -> int:
        """The incident energy and the conditions."""
        return self.maps.particle.width

    @property
    def layers(self) -> tuple[int, ...]:
        """All layers are summed."""
        return tuple(range(self.maps.n_layers))

    @property
    def parameters(self) -> int:
        """Number of trainable parameters."""
        return maf_parameters(self.maps.flow, self.features, self.context_features)

    def build(self) -> Flow:
        """A freshly initialised flow; permutations and weights come from the seed."""
        key = StreamKey(self.seed, self.name, "initialise")
        return build_maf(self.maps.flow, self.features, self.context_features, key)

    def rows(self, store: LayerStore) -> np.ndarray:
        """One row per shower."""
        return np.stack([np.arange(len(store)), np.zeros(len(store), dtype=np.int64)], axis=1)

    def context(self, incident: Tensor, conditions: Tensor | None = None) -> Tensor:
        """(n, 1 + P) from incident energies (n,) [MeV] and conditions (n, P)."""
        return self.maps.particle.context(incident, conditions)

    def batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor]:
        """Noisy layer energies in flow space, and their condition."""
        target, context, _ = self._drawn(store, rows, draws)
        return target.to(dtype), context.to(dtype)

    def measured_batch(
        self,
        store: LayerStore,
        rows: np.ndarray,
        draws: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`batch` and what is to be added to log p(x); see :meth:`Component.measured_batch`.

        A row outside the range of totals or layer energies is clamped to its end, from where no sampled
        shower comes back to it: its density is zero.
        """
        target, context, noisy = self._drawn(store, rows, draws)
        energies = torch.as_tensor(store.layer_energies[rows[:, 0]])
        incident = torch.as_tensor(store.incident_energies[rows[:, 0]])
        return target.to(dtype), context.to(dtype), self.maps.log_volume(energies, noisy, target, incident)

    def _drawn(
        self, store: LayerStore, rows: np.ndarray, draws: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Target, context and the noisy energies (n, L) [MeV] of the target, all float64."""
        energies = torch.as_tensor(store.layer_energies[rows[:, 0]])
        incident = torch.as_tensor(store.incident_energies[rows[:, 0]])
        conditions = self.maps.particle.take(store.conditions, rows[:, 0])
        noise = torch.rand(energies.shape, generator=draws, dtype=torch.float64)
        noisy = energies + self.maps.voxel_noise * noise
        return self.maps.encode(noisy, incident), self.context(incident, conditions), noisy

    def decode(self, x: Tensor, incident: Tensor) -> Tensor:
        """Layer energies (n, L) [MeV] from flow space; energies below the threshold are zero."""
        return self.maps.decode(x, incident)


def sample_layer_energies(
    part: LayerEnergies,
    flow: Flow,
    incident: Tensor,
    conditions: Tensor | None,
    streams: Streams,
    purpose: str = "latent",
) -> tuple[Tensor, Tensor]:
    """Draw layer energies; the noise comes from (``layer_energies``, ``purpose``).

    Args:
        part: The component.
        flow: Its trained flow, in evaluation mode.
        incident: (B,) float64 incident energies [MeV] on the flow's device.
        conditions: (B, P) float64; None without conditions.
        streams: Where it comes from.
        purpose: Names its stream; another one for every draw of the same block.

    Returns:
        Layer energies (B, L) float64 [MeV] and the log density (B,) float64 of what the flow drew.

    Raises:
        NumericalError: The flow gave no finite number for a whole block.
    """
    noise = latent(streams, part.name, (len(incident), part.features), flow, purpose)
    x, log_prob = image(flow, noise, part.context(incident, conditions).to(noise))
    require_some_finite(x, part.name, streams)
    return part.decode(x.double(), incident), log_prob
