"""Where the rows of a batch get their random numbers from: one block, or pieces of many.

Row i of a block has the same numbers whichever way it is drawn: they are a function of the address of the
block, of the name of the stream and of i.
"""

from __future__ import annotations

__all__ = ["BlockStreams", "PieceStreams", "Streams"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol

import numpy as np

from caloray.rng import StreamKey

PERIOD = 8
"""Uniform float32 numbers that a stream gives for one count of its counter."""


class Streams(Protocol):
    """The random numbers of a batch of B showers."""

    @property
    def block(self) -> StreamKey | None:
        """Address of the block that the batch is; None where its rows belong to several."""

    def normal(self, component: str, purpose: str, shape: tuple[int, int]) -> np.ndarray:
        """Standard normal numbers (B, D) float64 of the named stream."""

    def uniform(self, component: str, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers (..., B, D) float32 in [0, 1) of the named stream."""


@dataclass(frozen=True)
class BlockStreams:
    """Of a whole block: row i of the batch is its row i.

    Args:
        block: Its address: seed, block and attempt.
    """

    block: StreamKey

    def normal(self, component: str, purpose: str, shape: tuple[int, int]) -> np.ndarray:
        """Standard normal numbers (B, D) float64 of the named stream."""
        return self.block.named(component, purpose).generator().standard_normal(shape)

    def uniform(self, component: str, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers (..., B, D) float32 in [0, 1) of the named stream."""
        return self.block.named(component, purpose).generator().random(shape, np.float32)


@dataclass(frozen=True)
class PieceStreams:
    """Of chosen rows of any number of blocks.

    Rows follow each other in a block's stream. How much of it a normal number takes depends on the number, so
    that those before the last wanted row are drawn as well; uniform ones are drawn where they are wanted.

    Args:
        keys: Addresses of the blocks: seed, block and attempt.
        owners: (B,) which of them each row belongs to.
        rows: (B,) its row there.
        block_size: Rows of a whole block.
    """

    keys: tuple[StreamKey, ...]
    owners: np.ndarray
    rows: np.ndarray
    block_size: int

    block: ClassVar[None] = None

    def normal(self, component: str, purpose: str, shape: tuple[int, int]) -> np.ndarray:
        """Standard normal numbers (B, D) float64 of the named stream."""
        generator, columns = self.keys[0].generator(), shape[1]

        def draw(key: StreamKey, rows: np.ndarray) -> np.ndarray:
            key.named(component, purpose).rewind(generator)
            drawn: np.ndarray = generator.standard_normal((rows.max() + 1, columns))[rows]
            return drawn

        return self._gathered(draw)

    def uniform(self, component: str, purpose: str, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers (..., B, D) float32 in [0, 1) of the named stream."""
        generator, columns = self.keys[0].generator(), shape[-1]
        sets = math.prod(shape[:-2])

        def draw(key: StreamKey, rows: np.ndarray) -> np.ndarray:
            stream, first, count = key.named(component, purpose), rows.min(), np.ptp(rows) + 1
            parts = []
            for start in first + self.block_size * np.arange(sets):
                # One set after the other, each with all rows of the block.
                periods, left = divmod(int(start) * columns, PERIOD)
                stream.rewind(generator, periods)
                numbers = generator.random(left + count * columns, np.float32)[left:]
                parts.append(numbers.reshape(count, columns)[rows - first])
            return np.stack(parts, axis=1)

        # As a whole block's numbers lie in memory: torch computes strided ones in another way.
        return np.ascontiguousarray(self._gathered(draw).swapaxes(0, 1)).reshape(shape)

    @cached_property
    def _order(self) -> np.ndarray:
        """(B,) the rows of one block after those of the other."""
        return self.owners.argsort(kind="stable")

    @cached_property
    def _wanted(self) -> list[tuple[StreamKey, np.ndarray]]:
        """Of every block that has rows here, its address and these rows of it."""
        owners = self.owners[self._order]
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        parts = np.split(self.rows[self._order], starts[1:])
        return [(self.keys[owner], rows) for owner, rows in zip(owners[starts], parts, strict=True)]

    def _gathered(self, draw: Callable[[StreamKey, np.ndarray], np.ndarray]) -> np.ndarray:
        """(B, ...) of (k, ...) that are drawn for k rows of one block at a time."""
        ordered = np.concatenate([draw(key, rows) for key, rows in self._wanted])
        gathered = np.empty_like(ordered)
        gathered[self._order] = ordered
        return gathered
