"""What decides where the energy of a shower goes."""

from __future__ import annotations

__all__ = ["Around", "Impact", "PlaceSettings"]

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caloray.errors import ConfigError

Impact = Literal["fixed", "uniform", "recorded"]
Around = Literal["entry", "track"]


class PlaceSettings(BaseModel):
    """The settings of a placement.

    Args:
        impact: Where the particle enters the calorimeter's face: at ``at`` for all showers, uniformly within
            half a cell of the regular lattice around 0 (drawn per shower), or as recorded with each shower.
        at: x and y of the entry [mm] in the frame of the cells.
        shear: Whether layers are moved along the particle's direction.
        points: Deposit a sub-cell's energy at one random point of it. Otherwise it is split by area, which
            adds no noise but turns one hit into two: with 3 x 3 sub-cells to a cell, 7 to 20 % more hits.
        granularity: Cells of the grid along x and y that make one readout cell.
        box: Cells along x and y of the box that is kept, or None to keep all.
        around: Middle of the box: the entry, the same in all layers, or the track in each layer.
        threshold: Cells below it, after everything is summed, read zero [MeV].
        thickness: Of the sensitive layer [mm]; the shift is that of its middle.
        seed: Of all draws.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    impact: Impact = "fixed"
    at: tuple[float, float] = (0.0, 0.0)
    shear: bool = False
    points: bool = True
    granularity: int = Field(default=1, ge=1, le=1000)
    box: int | None = Field(default=30, ge=1, le=2000)
    around: Around = "entry"
    threshold: float = Field(default=0.1, ge=0)
    thickness: float = Field(default=0.525, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**64)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Settings from keyword arguments.

        Raises:
            ConfigError: A value that cannot be; the message names it.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = " ".join(str(part) for part in first["loc"])
            raise ConfigError(
                f"placement: {where}: {first['msg']}, got {first['input']!r}",
                hint="see `caloray place --help`",
            ) from error
