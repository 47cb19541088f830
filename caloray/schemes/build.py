"""From a scheme's settings to the scheme; a new scheme is one more case here and one more in the union."""

from __future__ import annotations

__all__ = ["Scheme", "SchemeConfig", "build_scheme"]

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from nflows.flows.base import Flow

from caloray.geometry import Geometry
from caloray.preprocess.statistics import TrainingStatistics
from caloray.rng import StreamKey
from caloray.schemes.component import Component
from caloray.schemes.inductive import InductiveScheme
from caloray.schemes.inductive_config import InductiveConfig

SchemeConfig = InductiveConfig


class Scheme(Protocol):
    """A factorisation of p(shower given particle) into components."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components, in sampling order."""

    def component(self, name: str) -> Component:
        """One trainable component."""

    def sample(self, flows: Mapping[str, Flow], incident: np.ndarray, key: StreamKey) -> np.ndarray:
        """One block of showers (B, n_voxels) float32 [MeV] for incident energies (B,) [MeV]."""


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
