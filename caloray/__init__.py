"""caloray: normalizing-flow calorimeter showers on Ray."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
