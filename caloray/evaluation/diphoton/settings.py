"""What decides the outcome of a di-photon test: energies, distances, clustering, number of pairs, seed."""

from __future__ import annotations

__all__ = ["Direction", "PairSettings"]

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from caloray.errors import ConfigError

Direction = Literal["x", "y", "diagonal"]

Positive = Annotated[float, Field(gt=0)]


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(low >= high for low, high in pairwise(values)):
        raise ValueError("distances must ascend")
    return values


class PairSettings(BaseModel):
    """The settings of a di-photon test.

    Args:
        energies: Energies of the two photons [MeV].
        distances: Distances of their axes [mm], ascending.
        pairs: Pairs per distance and curve.
        seed: Seed of all draws.
        direction: Where the second photon lies as seen from the first: along x, y or the diagonal x = y.
        granularity: Sub-cells per readout cell along x and y; the number that comes nearest to cells of
            5.09 mm when omitted.
        threshold: Cells below it, after both photons are summed, read zero [MeV]; about half a MIP in 0.5 mm
            of silicon.
        layer_weights: One factor per layer for the sum over layers; all 1 when omitted.
        smoothing: Standard deviation of the Gaussian that smooths the summed image [cells].
        share: A local maximum counts when it is above this share of the highest one.
        window: Showers within this relative distance of a wanted energy stand for it; made wider, with a
            warning, when they are too few.
        halvings: Random halves of the reference behind each floor; fewer than 10 give false alarms.
        replicas: Bootstrap samples behind each error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    energies: tuple[Positive, Positive] = (20_000.0, 5_000.0)
    distances: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_ascending)
    ] = (0.0, 5.0, 10.0, 12.0, 13.0, 14.0, 15.0, 16.0, 18.0, 20.0, 25.0, 30.0)
    pairs: int = Field(default=2000, ge=50, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**64)
    direction: Direction = "x"
    granularity: int | None = Field(default=None, ge=1)
    threshold: float = Field(default=0.1, ge=0)
    layer_weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    smoothing: float = Field(default=0.6, ge=0, le=10)
    share: float = Field(default=0.08, ge=0, lt=1)
    window: float = Field(default=0.1, gt=0, le=0.3)
    halvings: int = Field(default=10, ge=10, le=1000)
    replicas: int = Field(default=200, ge=20, le=10_000)

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
                f"di-photon settings: {where}: {first['msg']}, got {first['input']!r}",
                hint="see `caloray diphoton --help`",
            ) from error
