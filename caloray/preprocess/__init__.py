"""Invertible maps between showers and what a flow sees; fitted state comes from the training split only."""

from __future__ import annotations

__all__: list[str] = []
