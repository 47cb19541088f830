"""Everything that needs Ray: the one-process work of the other rooms, mapped over workers."""

from __future__ import annotations

__all__: list[str] = []
