"""From a scheme's settings to the scheme; a new scheme is one more case here and one more in the union."""

from __future__ import annotations

__all__ = ["Scheme", "SchemeConfig", "build_scheme"]

from collections.abc import Mapping
from typing import Annotated, Any, Protocol

import numpy as np
from nflows.flows.base import Flow
from pydantic import Discriminator, Tag

from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.schemes.component import Component, Sampled
from caloray.schemes.inductive import InductiveScheme
from caloray.schemes.inductive_config import InductiveConfig
from caloray.schemes.layerwise import LayerwiseScheme
from caloray.schemes.layerwise_config import LayerwiseConfig
from caloray.schemes.streams import Streams


def _kind(value: Any) -> str:
    """Settings without ``kind`` are those of the inductive scheme, which was there first."""
    kind = value.get("kind", "inductive") if isinstance(value, dict) else getattr(value, "kind", "")
    return str(kind)


SchemeConfig = Annotated[
    Annotated[InductiveConfig, Tag("inductive")] | Annotated[LayerwiseConfig, Tag("layerwise")],
    Discriminator(_kind),
]


class Scheme(Protocol):
    """A factorisation of p(shower given particle) into components."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components, in sampling order."""

    @property
    def conditions(self) -> tuple[str, ...]:
        """Names of the conditions besides the incident energy, in order."""

    def component(self, name: str) -> Component:
        """One trainable component."""

    def sample(
        self,
        flows: Mapping[str, Flow],
        incident: np.ndarray,
        streams: Streams,
        conditions: np.ndarray | None = None,
    ) -> Sampled:
        """One batch of B showers for incident energies (B,) [MeV] and conditions (B, P) float64."""


def build_scheme(
    config: SchemeConfig, geometry: Geometry, statistics: TrainingStatistics, seed: int
) -> Scheme:
    """The scheme that ``config`` describes.

    Raises:
        ConfigError: The geometry does not suit the scheme.
    """
    match config:
        case InductiveConfig():
            return InductiveScheme(config, geometry, statistics, seed)
        case LayerwiseConfig():
            return LayerwiseScheme(config, geometry, statistics, seed)
