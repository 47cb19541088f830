"""Convolutional L2LFlows (arXiv:2405.20407): layer energies, then layer after layer given those before."""

from __future__ import annotations

__all__ = ["LayerwiseScheme"]

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from nflows.flows.base import Flow
from torch import Tensor

from caloray.errors import ConfigError, NumericalError
from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.component import Component, Sampled
from caloray.schemes.draws import image, latent, of_asked, require_some_finite
from caloray.schemes.layer_energies import LayerEnergies, sample_layer_energies
from caloray.schemes.layerwise_components import AllLayers, LayerFlow, LayerMaps, OneLayer
from caloray.schemes.layerwise_config import LayerwiseConfig, layer_name
from caloray.schemes.streams import Streams
from caloray.schemes.symmetry import require_symmetric, require_turnable

ENERGIES = "layer_energies"
SHARED = "layers"


@dataclass(frozen=True)
class LayerwiseScheme:
    """The scheme for one geometry with fitted preprocessing.

    Args:
        config: Settings.
        geometry: A readout whose layers all have the same shape.
        statistics: Extremes of the training split.
        seed: Seed of initial weights and permutations.

    Raises:
        ConfigError: The geometry is ragged or not divided by the flow's windows, the augmentation does not
            suit its axes or the conditions, a condition is not in the data, or the statistics were gathered
            without the largest voxels.
    """

    config: LayerwiseConfig
    geometry: Geometry
    statistics: TrainingStatistics
    seed: int

    def __post_init__(self) -> None:
        """Refuse early what could not be trained."""
        geometry, augment = self.geometry, self.config.augment
        if not geometry.uniform or geometry.n_layers < 2:
            raise ConfigError(
                f"scheme layerwise needs two or more layers of one shape, geometry {geometry.name} has "
                f"{sorted({layer.shape for layer in geometry.layers})}",
                hint="use dataset 2 or 3, or a Cartesian grid",
            )
        require_symmetric(augment, geometry)
        require_turnable(augment, self.config.conditions)
        self.config.flows.layer.require(self.maps.grid)
        _ = self.maps.particle, self.maps.maxima
        step = self.config.flows.layer_energies.autoregressive_step
        if 1 < step >= geometry.n_layers:
            raise ConfigError(
                f"scheme.flows.layer_energies.autoregressive_step: {step} leaves no group to condition on in "
                f"{geometry.n_layers} dimensions",
                hint=f"choose at most {geometry.n_layers - 1}",
            )

    @cached_property
    def maps(self) -> LayerMaps:
        """The maps between energies and flow space."""
        return LayerMaps(self.config, self.geometry, self.statistics)

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components, in sampling order."""
        if self.config.network == "shared":
            return ENERGIES, SHARED
        return ENERGIES, *(layer_name(layer) for layer in range(self.geometry.n_layers))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions besides the incident energy, in order."""
        return self.config.conditions

    def component(self, name: str) -> Component:
        """One trainable component.

        Raises:
            ConfigError: There is no such component.
        """
        if name == ENERGIES:
            return LayerEnergies(self.maps.energy_maps, self.seed)
        if name in self.components:
            return self._drawing(self.components.index(name) - 1)
        raise ConfigError(f"unknown component {name!r}", hint=f"known: {', '.join(self.components)}")

    def sample(
        self,
        flows: Mapping[str, Flow],
        incident: np.ndarray,
        streams: Streams,
        conditions: np.ndarray | None = None,
    ) -> Sampled:
        """Draw a batch of showers; each depends on its own energy, conditions and random numbers alone.

        A layer's context holds the previous layers as they come out, after threshold and scaling, filled
        again like training rows.

        Args:
            flows: Trained flow of each component, in evaluation mode.
            incident: (B,) incident energies [MeV].
            streams: Where the random numbers come from.
            conditions: (B, P) float64, in the order of :attr:`conditions`; None for a model without.

        Returns:
            Voxels, the layer energies that they were drawn for, their vetoes and the log density of all.

        Raises:
            NumericalError: A component gave no finite number for a whole block, or none of its showers came
                below the largest ratio.
            ConfigError: Other conditions than the model has.
        """
        device = next(flows[ENERGIES].parameters()).device
        with torch.no_grad():
            energies_in = torch.as_tensor(incident, dtype=torch.float64, device=device)
            others = None
            if conditions is not None:
                others = torch.as_tensor(conditions, dtype=torch.float64, device=device)
            energies, vetoes, log_prob = self._energies(flows[ENERGIES], energies_in, others, streams)
            out = np.empty((len(incident), self.geometry.n_voxels), dtype=np.float32)
            window: list[Tensor] = []
            for layer in range(self.geometry.n_layers):
                part = self._drawing(layer)
                scalars = energies_in, energies[:, layer], others
                voxels, added = self._layer(part, flows[part.name], window, layer, scalars, streams)
                out[:, self.geometry.span(layer)] = voxels.cpu().numpy()
                log_prob = log_prob + added
                window = [*window, self._seen(voxels, layer, streams)][-self.config.previous :]
        counted = None if vetoes is None else vetoes.cpu().numpy()
        return Sampled(out, energies.cpu().numpy(), counted, log_prob.cpu().numpy())

    def _drawing(self, layer: int) -> LayerFlow:
        if self.config.network == "shared":
            return AllLayers(self.maps, self.seed)
        return OneLayer(self.maps, self.seed, layer)

    def _energies(
        self, flow: Flow, incident: Tensor, conditions: Tensor | None, streams: Streams
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Layer energies (B, L) [MeV], vetoed draws of each row (B,) and the log density (B,) of its last.

        Draws above the largest ratio are vetoed; a row whose last draw is above it becomes NaN.
        """
        part = LayerEnergies(self.maps.energy_maps, self.seed)
        energies, log_prob = sample_layer_energies(part, flow, incident, conditions, streams)
        limit = self.config.max_ratio
        if limit is None:
            return energies, None, log_prob
        above = energies.sum(dim=1) > limit * incident
        vetoes = above.long()
        for attempt in range(1, self.config.veto_attempts):
            if not bool(above.any()):
                break
            again, other = sample_layer_energies(part, flow, incident, conditions, streams, f"veto/{attempt}")
            energies = torch.where(above[:, None], again, energies)
            log_prob = torch.where(above, other, log_prob)
            above = energies.sum(dim=1) > limit * incident
            vetoes += above
        kept = energies.where(torch.logical_not(above)[:, None], torch.nan)
        if bool(above.any()):
            self._require_some_kept(kept, streams)
        return kept, vetoes, log_prob.where(torch.logical_not(above), torch.nan)

    def _require_some_kept(self, energies: Tensor, streams: Streams) -> None:
        """Stop where a whole block was vetoed; pieces of blocks may hold NaN alone."""
        key = streams.block
        if key is not None and not bool(energies.isfinite().any()):
            raise NumericalError(
                f"component {ENERGIES}: no shower of block {key.block}, seed {key.seed}, attempt "
                f"{key.attempt} came below max_ratio {self.config.max_ratio:g} in "
                f"{self.config.veto_attempts} draws",
                hint="scheme.max_ratio is too small for these energies, or the flow is badly trained",
                component=ENERGIES,
            )

    def _layer(
        self,
        part: LayerFlow,
        flow: Flow,
        window: list[Tensor],
        layer: int,
        scalars: tuple[Tensor, Tensor, Tensor | None],
        streams: Streams,
    ) -> tuple[Tensor, Tensor]:
        """Voxels (B, D) float32 [MeV] of one layer, and what they add to the log density (B,)."""
        incident, energies, conditions = scalars
        noise = latent(streams, f"layer/{layer}", (len(incident), part.features), flow)
        absent = [torch.zeros_like(noise)] * (part.previous - len(window))
        position = torch.tensor([layer], device=incident.device)
        context = part.context([*absent, *window], position, incident, energies, conditions)
        planes = flow._embedding_net(context.to(noise))
        x, log_prob = image(flow, noise, planes)
        require_some_finite(x, f"{part.name}, layer {layer}", streams)
        voxels = self.maps.decode(x.double(), position, energies).float()
        return voxels, of_asked(log_prob, part.asked(energies))

    def _seen(self, voxels: Tensor, layer: int, streams: Streams) -> Tensor:
        """A layer (B, D) in flow space as the following ones see it, float32."""
        uniform = streams.uniform(f"layer/{layer}", "fill", (2, *voxels.shape))
        fill, noise = torch.as_tensor(uniform).to(voxels.device)
        return self.maps.encode(voxels, torch.tensor([layer], device=voxels.device), fill, noise)
