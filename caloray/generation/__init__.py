"""Mass production: plan -> blocks -> shards -> manifest, exactly the showers that were asked for.

The same request gives the same showers whatever the number of shards, workers, restarts or kills.
"""

from __future__ import annotations

__all__: list[str] = []
