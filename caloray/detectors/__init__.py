"""The readouts that ship with caloray, one YAML file each, and the readers of geometry files."""

from __future__ import annotations

__all__: list[str] = []
