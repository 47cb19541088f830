"""Conditional normalizing flows as nflows transforms, with caloray's own spline and inverse."""

from __future__ import annotations

__all__: list[str] = []
