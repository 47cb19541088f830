"""The two things that can be done to a stream of showers: placing them, and taking them back."""

from __future__ import annotations

__all__ = ["Placing", "TakingBack"]

from collections.abc import Mapping
from dataclasses import dataclass

from caloray.geometry import Geometry
from caloray.io.hit_record import Hits
from caloray.placement.losses import Losses
from caloray.placement.place import Placement, Withdrawal
from caloray.placement.record import KEY, describe
from caloray.placement.track import IMPACT
from caloray.showers import Showers


@dataclass(frozen=True)
class Placing:
    """Showers go to the cells of the detector."""

    placement: Placement

    @property
    def extra(self) -> Mapping[str, str]:
        """The record of the placement, for :class:`TakingBack`."""
        return {KEY: describe(self.placement)}

    @property
    def target(self) -> Geometry | None:
        """Geometry of the box."""
        return self.placement.readout

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.placement.geometry.n_layers

    def units(self, before: Mapping[str, str]) -> dict[str, str]:
        """Units of the scalars of the particles; the entry is in mm."""
        entry = dict.fromkeys(IMPACT, "mm") if self.placement.records_entry else {}
        return {**before, **entry}

    def carry_out(self, showers: Showers, where: str) -> tuple[Hits, Losses]:
        """The readout, see :meth:`Placement.place`."""
        return self.placement.place(showers, where)


@dataclass(frozen=True)
class TakingBack:
    """Showers of a box of cells return to the grid around the track."""

    withdrawal: Withdrawal

    @property
    def extra(self) -> Mapping[str, str]:
        """Nothing to remember."""
        return {}

    @property
    def target(self) -> Geometry | None:
        """The grid."""
        return self.withdrawal.grid

    @property
    def n_layers(self) -> int:
        """Number of layers."""
        return self.withdrawal.grid.n_layers

    def units(self, before: Mapping[str, str]) -> dict[str, str]:
        """Units of the scalars of the particles, without the entry."""
        return {name: unit for name, unit in before.items() if name not in IMPACT}

    def carry_out(self, showers: Showers, where: str) -> tuple[Hits, Losses]:
        """The showers around the track, see :meth:`Withdrawal.take_back`."""
        return self.withdrawal.take_back(self.withdrawal.from_box(showers, where), where)
