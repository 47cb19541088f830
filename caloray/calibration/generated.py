"""Showers of the model as its scheme drew them, before any post-processing: sampled now, or made before."""

from __future__ import annotations

__all__ = ["FromBundle", "FromSource", "Generated", "Model", "Piece"]

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from caloray.calibration.particles import Particles, is_held_out
from caloray.calibration.reference import VOXELS_AT_ONCE
from caloray.geometry import Geometry
from caloray.io.source import ShowerSource
from caloray.preprocess.condition_range import ConditionRange, condition_table
from caloray.schemes.component import Sampled

Piece = Sampled
"""(n, V) float32 voxels and (n, L) float64 layer energies that they were drawn for [MeV]."""


class Generated(Protocol):
    """Showers of a model in two parts: one for a fit, one held out."""

    def pieces(self, *, held_out: bool) -> Iterator[Piece]:
        """All showers of a part, piece by piece; the same ones every time."""


class Model(Protocol):
    """What draws showers; :class:`caloray.bundle.Bundle` is one."""

    @property
    def geometry(self) -> Geometry:
        """Readout of the showers."""

    @property
    def block_size(self) -> int:
        """Showers of a full block."""

    @property
    def conditions(self) -> tuple[ConditionRange, ...]:
        """Name, unit and trained range of each condition."""

    def draw(
        self,
        energies: np.ndarray,
        seed: int,
        block: int,
        attempt: int = 0,
        conditions: np.ndarray | None = None,
    ) -> Sampled:
        """One block of showers without post-processing."""


@dataclass(frozen=True)
class FromBundle:
    """Showers drawn from a bundle for given particles, block after block; the held-out ones come last.

    Args:
        model: The bundle.
        fit: Particles of the part for the fit.
        held_out: Particles of the other part.
        seed: Seed of the draws.
    """

    model: Model
    fit: Particles
    held_out: Particles
    seed: int

    def pieces(self, *, held_out: bool) -> Iterator[Piece]:
        """See :meth:`Generated.pieces`.

        Raises:
            ConfigError: The particles lack a condition of the model, or lie outside its trained range.
            NumericalError: A component gave no finite number.
        """
        size = self.model.block_size
        particles = self.held_out if held_out else self.fit
        names = {item.name for item in self.model.conditions}
        columns = {name: values for name, values in particles.conditions.items() if name in names}
        table = condition_table(self.model.conditions, columns, len(particles))
        first = -(-len(self.fit) // size) if held_out else 0
        for block, start in enumerate(range(0, len(particles), size), start=first):
            rows = slice(start, start + size)
            chosen = None if table is None else table[rows]
            yield self.model.draw(particles.energies[rows], self.seed, block, 0, chosen)


@dataclass(frozen=True)
class FromSource:
    """Showers that were made before; the sums of their layers stand in for the sampled layer energies.

    Args:
        source: A directory or file of showers of a bundle without post-processing.
    """

    source: ShowerSource

    def pieces(self, *, held_out: bool) -> Iterator[Piece]:
        """See :meth:`Generated.pieces`; every fourth shower is held out."""
        position = 0
        for showers in self.source.chunks(max(1, VOXELS_AT_ONCE // self.source.geometry.n_voxels)):
            rows = is_held_out(position, len(showers)) == held_out
            position += len(showers)
            part = showers.select(rows)
            yield Piece(part.voxels, part.layer_energies(self.source.geometry))
