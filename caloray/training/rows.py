"""Which rows make up which batch: a pure function of (seed, component, epoch, step, rank)."""

from __future__ import annotations

__all__ = ["RowPlan"]

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from caloray.errors import DataError
from caloray.io.store import LayerStore
from caloray.rng import StreamKey
from caloray.schemes.component import Component


@dataclass(eq=False)
class RowPlan:
    """Shuffled batches of one component's rows, the same after any restart.

    Args:
        component: Whose rows.
        store: Where they come from.
        batch: Rows per step over all workers.
        seed: The run's seed.
        rank: This worker's rank; it takes every ``world``-th row of a batch.
        world: Number of workers.
        dtype: Precision of the batches.
    """

    component: Component
    store: LayerStore
    batch: int
    seed: int
    rank: int = 0
    world: int = 1
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        self.rows = self.component.rows(self.store)
        self._order: tuple[int, np.ndarray] | None = None
        if len(self.rows) == 0:
            raise DataError(
                f"component {self.component.name}: no rows to train on in {len(self.store)} showers",
                hint="ingest more data or change data.split",
            )

    @property
    def batch_rows(self) -> int:
        """Rows per step; smaller than asked for where there are fewer rows."""
        return min(self.batch, len(self.rows))

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one epoch; the remainder is left out."""
        return len(self.rows) // self.batch_rows

    def select(self, epoch: int, step: int) -> np.ndarray:
        """(n, 2) rows of one step for this rank."""
        order = self._shuffled(epoch)
        start = step * self.batch_rows
        chosen = order[start : start + self.batch_rows]
        rows: np.ndarray = self.rows[chosen[self.rank :: self.world]]
        return rows

    def _shuffled(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            key = StreamKey(self.seed, self.component.name, "shuffle", epoch)
            self._order = epoch, key.generator().permutation(len(self.rows))
        return self._order[1]

    def training_batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Target and context of one step, noise fresh for every (epoch, step, rank)."""
        index = epoch * self.steps_per_epoch + step
        key = StreamKey(self.seed, self.component.name, f"training-noise/{self.rank}", index)
        return self.component.batch(self.store, self.select(epoch, step), _generator(key), self.dtype)

    def dropout_seed(self, epoch: int, step: int) -> int:
        """Seed of the dropout masks of one step."""
        index = epoch * self.steps_per_epoch + step
        return StreamKey(self.seed, self.component.name, f"dropout/{self.rank}", index).seed64()

    def fixed_batches(self, limit: int, purpose: str = "validation") -> list[tuple[np.ndarray, StreamKey]]:
        """A fixed subsample for validation: rows and noise stream of each batch, the same in every epoch.

        Args:
            limit: Rows at most.
            purpose: Names the stream; another one gives another subsample and other noise.
        """
        key = StreamKey(self.seed, self.component.name, purpose)
        order = key.generator().permutation(len(self.rows))[:limit]
        pieces = [order[i : i + self.batch_rows] for i in range(0, len(order), self.batch_rows)]
        return [(self.rows[piece], key.at(i)) for i, piece in enumerate(pieces)]

    def fixed_batch(self, rows: np.ndarray, key: StreamKey) -> tuple[Tensor, Tensor]:
        """Target and context of one piece of :meth:`fixed_batches`."""
        return self.component.batch(self.store, rows, _generator(key), self.dtype)

    def measured_batch(self, rows: np.ndarray, key: StreamKey) -> tuple[Tensor, Tensor, Tensor]:
        """:meth:`fixed_batch`, and (n,) float64 what is to be added to log p(target) for that per MeV."""
        return self.component.measured_batch(self.store, rows, _generator(key), self.dtype)


def _generator(key: StreamKey) -> torch.Generator:
    return torch.Generator().manual_seed(key.seed64())
