"""Figures from the record of an evaluation."""

from __future__ import annotations

__all__ = ["draw"]

from caloray.report.figures import draw
