"""Training of one component in one plain process; parallelism is applied from outside."""

from __future__ import annotations

__all__: list[str] = []
