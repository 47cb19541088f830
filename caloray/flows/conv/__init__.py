"""Convolutional coupling flows of calorimeter layers (convolutional L2LFlows, arXiv:2405.20407)."""

from __future__ import annotations

__all__: list[str] = []
