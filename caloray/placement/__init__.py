"""Showers of a fine grid around the track placed into the cells of a detector, and taken back."""

from __future__ import annotations

__all__ = ["Losses", "PlaceSettings", "Placement", "Withdrawal", "regular_cells"]

from caloray.placement.losses import Losses
from caloray.placement.place import Placement, Withdrawal, regular_cells
from caloray.placement.settings import PlaceSettings
