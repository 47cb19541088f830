"""The settings of a service: of ``caloray serve``, and the ``args`` in a ``serve deploy`` file."""

from __future__ import annotations

__all__ = ["ReplicaSettings", "ServeSettings", "name_bundles", "read_settings"]

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from caloray.errors import ConfigError
from caloray.flows.names import Backend
from caloray.serving.service import Limits

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ReplicaSettings(BaseModel):
    """The processes that sample one model."""

    model_config = _FROZEN

    replicas: int = Field(default=1, ge=1, description="Processes of each model, at least.")
    max_replicas: int | None = Field(
        default=None, ge=1, description="At most; more than `replicas` lets Ray Serve start more under load."
    )
    target_pieces: float = Field(
        default=8.0, gt=0, description="Pieces under way per replica above which more replicas are started."
    )
    cpus: float = Field(default=1.0, gt=0, description="Logical CPUs of a replica.")
    gpus: float = Field(
        default=0.0, ge=0, description="GPUs, or the fraction of one, that a replica samples on."
    )
    backend: Backend = Field(default="auto", description="What inverts the flows.")
    linger_ms: float = Field(
        default=2.0, ge=0, le=1000, description="How long an idle sampler waits for company before it starts."
    )
    max_attempts: int = Field(
        default=10, ge=0, le=200, description="Redraws that an invalid shower may have, as in generation."
    )
    piece_timeout_s: float = Field(
        default=300.0,
        gt=0,
        description="Time that a model's replicas may give no sign of life, or sample one batch; how long "
        "requests wait for their turn does not count.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"max_replicas ({self.max_replicas}) is below replicas ({self.replicas})")
        return self


class ServeSettings(BaseModel):
    """A service of one or more bundles."""

    model_config = _FROZEN

    bundles: dict[str, Path] = Field(min_length=1, max_length=100, description="Bundle directories by name.")
    access: Literal["token", "open"] = Field(
        default="token", description="Who may ask: whoever has the token, or everybody who reaches the port."
    )
    open_to_network: bool = Field(
        default=False,
        description="With `access: open`: start also where other machines reach the port. Only behind "
        "something that asks who they are.",
    )
    token_file: Path | None = Field(
        default=None, description="File with the token; else the variable CALORAY_SERVE_TOKEN counts."
    )
    limits: Limits = Limits()
    workers: ReplicaSettings = ReplicaSettings()
    gateways: int = Field(default=1, ge=1, description="Processes that answer HTTP.")
    drain_s: float = Field(
        default=60.0, ge=0, description="Time that requests under way have when the service is stopped."
    )

    @field_validator("bundles")
    @classmethod
    def _named(cls, value: dict[str, Path]) -> dict[str, Path]:
        for name in value:
            if not _NAME.fullmatch(name):
                raise ValueError(f"name {name!r}: letters, digits, '_', '.', '-' are expected, 64 at most")
        return value


def read_settings(value: Mapping[str, Any], hint: str = "") -> ServeSettings:
    """Settings from the ``args`` of a deploy file.

    Args:
        value: The fields.
        hint: What to do about a wrong one; the fields that there are if omitted.

    Raises:
        ConfigError: Unknown fields, or values that cannot be.
    """
    try:
        return ServeSettings.model_validate(dict(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "args"
        said = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"settings of the service: {where}: {said}",
            hint=hint or f"fields are {', '.join(ServeSettings.model_fields)}",
        ) from error


def name_bundles(words: Sequence[str]) -> dict[str, Path]:
    """Bundles by name from ``NAME=DIRECTORY`` or ``DIRECTORY``, which is named after its run.

    Raises:
        ConfigError: Two bundles with one name.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, mark, path = word.partition("=")
        directory = Path(path if mark else word)
        chosen = name if mark else _name_of(directory)
        if chosen in found:
            raise ConfigError(
                f"two bundles are called {chosen}: {found[chosen]} and {directory}",
                hint="name them: NAME=DIRECTORY",
            )
        found[chosen] = directory
    return found


def _name_of(directory: Path) -> str:
    """The directory's own name, or that of the run it lies in when it is only called "bundle"."""
    resolved = directory.absolute()
    return resolved.parent.name if resolved.name == "bundle" and resolved.parent.name else resolved.name
