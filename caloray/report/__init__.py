"""Figures and one HTML page from the records of evaluations."""

from __future__ import annotations

__all__ = ["draw", "write_page"]

from caloray.report.figures import draw
from caloray.report.page import write_page
