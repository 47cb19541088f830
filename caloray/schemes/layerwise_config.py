"""Settings of the layerwise scheme; the defaults cure the published model's known faults."""

from __future__ import annotations

__all__ = ["LayerwiseConfig", "LayerwiseFlows", "layer_name"]

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from caloray.flows.conv.build import ConvFlowConfig
from caloray.flows.maf import MAFConfig
from caloray.flows.spline import SplineConfig

LAYER = re.compile(r"layer_\d{2,}")
FILL_WIDTHS = 3.0


def layer_name(layer: int) -> str:
    """Name of the component that draws layer number ``layer``."""
    return f"layer_{layer:02d}"


class LayerwiseFlows(BaseModel):
    """Architectures.

    Args:
        layer_energies: Energies of all layers given the particle.
        layer: Voxels of one layer given its energy, the layers before and the particle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer_energies: MAFConfig = MAFConfig(
        blocks=6,
        hidden=64,
        hidden_layers=2,
        permutations="random",
        spline=SplineConfig(bins=8, tail_bound=13.8155),
    )
    layer: ConvFlowConfig = ConvFlowConfig()


class LayerwiseConfig(BaseModel):
    """Convolutional L2LFlows (arXiv:2405.20407).

    Args:
        kind: "layerwise".
        network: "per-layer": one flow for each layer, trained independently (published); "shared": one flow
            for all layers, told which layer it draws.
        flows: Architectures.
        previous: How many previous layers a layer flow sees, at most; early layers have fewer.
        conditions: Further scalars of the particle that all components see, by name ("direction_x", ...).
        threshold: Readout threshold; sampled voxels and layers below it become zero [MeV].
        voxel_noise: Upper end of the uniform noise on every voxel in training [MeV]; its mean is taken away
            from what is sampled.
        energy_noise: Upper end of the uniform noise on every layer energy in training [MeV]; it gives empty
            layers a place of finite width, and its mean is taken away from what is sampled.
        fill_mean: Median of the log-normal filling of empty voxels [MeV].
        fill_std: Its standard deviation in decades; three of them above the median the filling still lies
            below the threshold.
        alpha: Margin of the voxels' logit map.
        energy_alpha: Margin of the layer energies' logit map.
        energy_space: "unit": shares of what is left, the total relative to E_inc; "absolute": shares of the
            largest layer energy, no relation to E_inc (published).
        max_layer_energy: Largest layer energy [MeV] for "absolute"; None takes it from the training split.
        max_ratio: Draw layer energies again while their sum exceeds this many E_inc (published for dataset 3:
            2.6); None leaves them.
        veto_attempts: How often at most; what then still exceeds the ratio becomes an invalid shower.
        rescale: "renormalise": each layer is scaled and cut so that it sums to its drawn energy exactly;
            "none": voxels below the threshold are cut (published for the CaloChallenge).
        augment: "rotate" turns and mirrors each training row in alpha (cylindrical), "flip" mirrors it in x
            and y and exchanges them (Cartesian); each row on its own, directions and places of entry
            (impact_x, impact_y) along with the voxels. Of other conditions only theta goes with it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["layerwise"]
    network: Literal["per-layer", "shared"] = "per-layer"
    flows: LayerwiseFlows = LayerwiseFlows()
    previous: int = Field(5, ge=1)
    conditions: tuple[str, ...] = ()
    threshold: float = Field(0.5e-3 / 0.033, ge=0)
    voxel_noise: float = Field(0.0, ge=0)
    energy_noise: float = Field(5e-3, gt=0)
    fill_mean: float = Field(1e-3, gt=0)
    fill_std: float = Field(0.2, gt=0)
    alpha: float = Field(1e-2, gt=0, lt=0.5)
    energy_alpha: float = Field(1e-6, gt=0, lt=0.1)
    energy_space: Literal["unit", "absolute"] = "unit"
    max_layer_energy: float | None = Field(None, gt=0)
    max_ratio: float | None = Field(None, gt=0)
    veto_attempts: int = Field(20, ge=1)
    rescale: Literal["renormalise", "none"] = "renormalise"
    augment: Literal["none", "rotate", "flip"] = "none"

    @model_validator(mode="after")
    def _filling_fits_below_the_threshold(self) -> LayerwiseConfig:
        upper = self.fill_mean * 10 ** min(FILL_WIDTHS * self.fill_std, 300.0)
        if upper > self.threshold:
            raise ValueError(
                f"threshold: {self.threshold:g} MeV is below the filling of empty voxels, which reaches "
                f"fill_mean * 10^(3 fill_std) = {upper:.3g} MeV; lower fill_mean or fill_std"
            )
        return self

    @property
    def component_groups(self) -> tuple[str, ...]:
        """Keys of ``training`` and ``workers`` besides the names of single layers."""
        return ("layer_energies", "layer") if self.network == "per-layer" else ("layer_energies", "layers")

    def accepts(self, name: str) -> bool:
        """Whether ``name`` may be a key of ``training`` and ``workers``."""
        single = self.network == "per-layer" and LAYER.fullmatch(name) is not None
        return name in self.component_groups or single

    def group_of(self, name: str) -> str | None:
        """The group that the component ``name`` belongs to."""
        return "layer" if LAYER.fullmatch(name) else None
