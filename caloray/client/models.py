"""What a service says about its models."""

from __future__ import annotations

__all__ = ["STRANGER", "GeometryOutline", "ServedCondition", "ServedModel", "choose", "read_models"]

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from caloray.errors import ConfigError

BODY_BYTES = 1_000_000
"""Largest body that a service takes which does not tell."""
STRANGER = "is this the address of a caloray service, of a version that fits?"
# A newer service may say more than this; that is no error.
_FROZEN = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class GeometryOutline(BaseModel):
    """The readout of a served model; the whole of it comes with every reply."""

    model_config = _FROZEN

    name: str
    kind: str
    n_layers: int = Field(ge=1)
    n_voxels: int = Field(ge=1)


class ServedCondition(BaseModel):
    """A condition of a served model and its trained range."""

    model_config = _FROZEN

    name: str
    unit: str
    low: float
    high: float


class ServedModel(BaseModel):
    """One model behind a service.

    Args:
        name: What requests call it.
        digest: sha256 that names the bundle.
        geometry: Its readout.
        energy_range: Incident energies that it was trained on [MeV].
        conditions: What it needs besides the incident energy.
        block_size: Showers of a block.
        max_showers: Largest number of showers in one request.
        max_body_bytes: Longest body of one.
    """

    model_config = _FROZEN

    name: str
    digest: str
    geometry: GeometryOutline
    energy_range: tuple[float, float]
    conditions: tuple[ServedCondition, ...] = ()
    block_size: int = Field(ge=1)
    max_showers: int = Field(ge=1)
    max_body_bytes: int = Field(default=BODY_BYTES, ge=1)


_MODELS = TypeAdapter(list[ServedModel])


def read_models(data: bytes, url: str) -> list[ServedModel]:
    """Read the reply to ``GET /v1/models``.

    Raises:
        ConfigError: It is something else; the message names ``url``.
    """
    try:
        return _MODELS.validate_json(data)
    except ValidationError as error:
        raise ConfigError(
            f"{url}: the answer is no list of models ({error.error_count()} faults)",
            hint=STRANGER,
        ) from error


def choose(models: list[ServedModel], name: str | None, url: str) -> ServedModel:
    """The model called ``name``, or the only one.

    Raises:
        ConfigError: There is none of this name, or the choice is open.
    """
    known = ", ".join(model.name for model in models)
    found = models if name is None else [model for model in models if model.name == name]
    if len(found) == 1:
        return found[0]
    if not models:
        raise ConfigError(f"{url}: no models are served", hint="ask the operator of the service")
    what = "several models are served" if name is None else f"no model {name}"
    raise ConfigError(f"{url}: {what}", hint=f"name one of those served: {known}")
