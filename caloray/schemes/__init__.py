"""How p(shower given particle) is factorised into components, and in which order they are sampled."""

from __future__ import annotations

__all__: list[str] = []
