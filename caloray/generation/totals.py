"""What many receipts come to, without keeping them."""

from __future__ import annotations

__all__ = ["Totals"]

from dataclasses import dataclass, field

from caloray.generation.blocks import Redraws
from caloray.generation.receipts import Receipt


@dataclass
class Totals:
    """Sums over the receipts that were added.

    Args:
        shards: How many.
        rows: Showers.
        skipped: Particles left to the full simulation.
        flagged: Showers of particles outside the trained ranges.
        bytes: Size of the shards.
        redraws: Invalid and vetoed draws that were replaced.
        seconds: Wall time of all workers.
        timing: Seconds of sampling and writing by name, as in the receipts, where they were measured.
        numerics: How the showers were made: (key, value) pairs of each way, and how many.
        empty: Showers without any energy; None: not all receipts tell.
    """

    shards: int = 0
    rows: int = 0
    skipped: int = 0
    flagged: int = 0
    bytes: int = 0
    redraws: Redraws = field(default_factory=Redraws)
    seconds: float = 0.0
    timing: dict[str, float] = field(default_factory=dict)
    numerics: dict[tuple[tuple[str, str], ...], int] = field(default_factory=dict)
    empty: int | None = 0

    def add(self, receipt: Receipt) -> None:
        """Count one more shard."""
        self.shards += 1
        self.rows += receipt.rows
        self.skipped += receipt.skipped
        self.flagged += receipt.flagged
        self.bytes += receipt.bytes
        self.redraws += receipt.redraws
        self.seconds += receipt.seconds
        self.empty = None if self.empty is None or receipt.empty is None else self.empty + receipt.empty
        for name, seconds in receipt.timing.items():
            self.timing[name] = self.timing.get(name, 0.0) + seconds
        way = tuple(sorted(receipt.numerics.items()))
        self.numerics[way] = self.numerics.get(way, 0) + receipt.rows

    @property
    def planned(self) -> int:
        """Particles of the plan that are done with: made or skipped."""
        return self.rows + self.skipped

    def fingerprints(self) -> list[dict[str, str]]:
        """In how many ways the showers were made: versions, device, back-end."""
        return [dict(way) for way in sorted(self.numerics)]

    def by_device(self) -> dict[str, int]:
        """Showers by device class and hardware, as in ``cpu x86_64``."""
        found: dict[str, int] = {}
        for way, rows in self.numerics.items():
            facts = dict(way)
            name = f"{facts.get('device', 'unknown')} {facts.get('hardware', '')}".strip()
            found[name] = found.get(name, 0) + rows
        return dict(sorted(found.items()))

    def speed(self) -> dict[str, float | None]:
        """Seconds of all workers together, and how many showers one of them made in a second."""
        parts = {name: round(seconds, 3) for name, seconds in sorted(self.timing.items())}
        rate = round(self.rows / self.seconds, 3) if self.seconds else None
        return {"seconds": round(self.seconds, 3), **parts, "showers_per_worker_second": rate}

    def counts(self) -> dict[str, int]:
        """Redrawn, vetoed, flagged, skipped and, where all receipts tell, empty, by name."""
        empty = {} if self.empty is None else {"empty": self.empty}
        return {
            "redrawn": self.redraws.rows,
            "invalid_draws": self.redraws.draws,
            "vetoed": self.redraws.vetoed,
            "flagged": self.flagged,
            "skipped": self.skipped,
        } | empty
