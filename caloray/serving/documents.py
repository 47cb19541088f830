"""The replies as types, for the OpenAPI document."""

from __future__ import annotations

__all__ = ["ErrorBody", "ModelFacts", "ShowerReply", "State"]

from typing import Any, Literal

from pydantic import BaseModel, Field


class ErrorFacts(BaseModel):
    """What is wrong."""

    code: str = Field(description="Stable code of the kind of error (docs/errors.md).")
    message: str = Field(description="One sentence; never repeats what was sent.")
    hint: str = Field(description="What to do about it.")


class ErrorBody(BaseModel):
    """Every answer that is no success."""

    error: ErrorFacts


class GeometryFacts(BaseModel):
    """The readout of a model, in short."""

    name: str
    digest: str
    kind: Literal["cylindrical", "cartesian"]
    particle: str
    n_layers: int
    n_voxels: int
    layer_shapes: list[tuple[int, int]] = Field(description="(alpha, r) or (x, y) bins of each layer.")


class ConditionFacts(BaseModel):
    """A property of the particle that a model needs besides its energy."""

    name: str
    unit: str
    low: float
    high: float


class ModelFacts(BaseModel):
    """One model that is served."""

    name: str
    digest: str = Field(description="sha256 that names the bundle.")
    geometry: GeometryFacts
    energy_range: tuple[float, float] = Field(description="Incident energies that it was trained on [MeV].")
    conditions: list[ConditionFacts]
    block_size: int
    max_showers: int = Field(description="Most showers of one request.")
    max_body_bytes: int = Field(description="Longest body of one.")


class Shower(BaseModel):
    """One shower: the voxels that were hit."""

    event_id: int
    incident_energy: float = Field(description="[MeV]")
    conditions: dict[str, float]
    attempts: int = Field(description="How often it was drawn again because it was invalid.")
    voxel: list[int] = Field(description="Flat indices of the voxels that were hit, ascending.")
    energy: list[float] = Field(description="Their energies [MeV], as float32.")


class ShowerReply(BaseModel):
    """Showers as JSON."""

    model: str
    bundle: str = Field(description="sha256 that names the bundle.")
    seed: int
    geometry: dict[str, Any] = Field(description="The whole readout: name, kind, digest, layers with edges.")
    showers: list[Shower]


class State(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "ready"]
