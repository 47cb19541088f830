"""Settings of the inductive scheme; the defaults cure the published model's known faults."""

from __future__ import annotations

__all__ = ["InductiveConfig", "InductiveFlows"]

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from caloray.flows.maf import MAFConfig


class InductiveFlows(BaseModel):
    """Architectures of the three components.

    Args:
        layer_energies: Flow-1, energies of all layers given the incident energy.
        first_layer: Flow-2, voxels of layer 0.
        next_layer: Flow-3, voxels of layer n given layer n - 1, for all n.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer_energies: MAFConfig = MAFConfig(hidden_layers=2)
    first_layer: MAFConfig = MAFConfig(hidden_layers=3)
    next_layer: MAFConfig = MAFConfig(hidden_layers=3)


class InductiveConfig(BaseModel):
    """Inductive CaloFlow (iCaloFlow, arXiv:2305.11934).

    Args:
        kind: "inductive".
        flows: Architectures.
        voxel_noise: Upper end of the uniform noise added to every voxel and layer energy in training [MeV].
        threshold: Readout threshold; sampled voxels below it become zero [MeV].
        alpha: Margin of the logit map.
        energy_space: "absolute": logit(E_i / max_layer_energy), no relation to E_inc (published); "unit":
            shares of what is left, with the total relative to E_inc.
        energy_context: How layer energies condition the voxel flows. "logit": logit(E / max_layer_energy)
            of noisy energies (published, blind below 0.07 MeV); "log": log10(E / MeV + 0.01) of noise-free
            ones.
        max_layer_energy: Largest layer energy [MeV] for "absolute" and "logit"; None takes it from the
            training split.
        voxel_space: What the voxel flows see. "share": logit of noisy voxels over their sum (published);
            the gap between noise and threshold then lies elsewhere for every layer energy. "log": log10 of
            the voxel's energy, empty voxels filled with log-normal noise far below the threshold (as
            convolutional L2LFlows fills them); the gap stays where it is.
        fill_mean: Median of that filling [MeV].
        fill_std: Its standard deviation in decades.
        rescale: How sampled voxels become energies. "published": times E_n; the noise inside the shares
            then takes a part of E_n away. "noise-corrected": times E_n + D * noise / 2, so that the signal
            sums to E_n. "renormalise": noise-corrected, then scaled and cut so that the layer sums to E_n
            exactly.
        augment: "rotate" turns and mirrors each training row at random in alpha (an axially symmetric
            readout).
        conditions: Further scalars of the particle that all components see, by name ("direction_x", ...).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["inductive"] = "inductive"
    flows: InductiveFlows = InductiveFlows()
    voxel_noise: float = Field(5e-3, gt=0)
    threshold: float = Field(0.5e-3 / 0.033, ge=0)
    alpha: float = Field(1e-6, gt=0, lt=0.1)
    energy_space: Literal["unit", "absolute"] = "unit"
    energy_context: Literal["log", "logit"] = "log"
    max_layer_energy: float | None = Field(None, gt=0)
    voxel_space: Literal["log", "share"] = "log"
    fill_mean: float = Field(1e-3, gt=0)
    fill_std: float = Field(0.2, gt=0)
    rescale: Literal["renormalise", "noise-corrected", "published"] = "renormalise"
    augment: Literal["none", "rotate"] = "none"
    conditions: tuple[str, ...] = ()

    @property
    def component_groups(self) -> tuple[str, ...]:
        """Keys of ``training`` and ``workers``."""
        return tuple(InductiveFlows.model_fields)

    def accepts(self, name: str) -> bool:
        """Whether ``name`` may be a key of ``training`` and ``workers``."""
        return name in self.component_groups

    def group_of(self, name: str) -> str | None:
        """The group that the component ``name`` belongs to: there is none in this scheme."""
        del name
        return None

    @model_serializer(mode="wrap")
    def _as_before_conditions(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without conditions the key is left out, so that digests of older settings stay what they were."""
        value: dict[str, Any] = handler(self)
        if not self.conditions:
            value.pop("conditions", None)
        return value

    @model_validator(mode="after")
    def _rescaling_fits_the_space(self) -> InductiveConfig:
        if self.voxel_space == "log" and self.rescale == "noise-corrected":
            raise ValueError("rescale: noise-corrected belongs to voxel_space: share; log holds no noise")
        return self
