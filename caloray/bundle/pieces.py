"""Pieces of blocks, sampled together: many small requests cost what one large one costs."""

from __future__ import annotations

__all__ = ["Packing", "Piece", "Rows"]

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from caloray.errors import ConfigError
from caloray.flows.inverse import Backend
from caloray.preprocess.conditions import require_rows
from caloray.rng import StreamKey
from caloray.schemes.streams import PieceStreams

REGISTERS = 32
"""Numbers in float32 that torch takes at once at most: two registers of any CPU; half as many in float64."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one block of a request.

    Args:
        seed: The request's seed.
        block: Index of the block.
        energies: (k,) incident energies [MeV] of these rows alone.
        start: The first of them within the block.
        attempt: Number of the redraw.
        conditions: (k, P) float64 in the model's order; None for a model without.
    """

    seed: int
    block: int
    energies: np.ndarray
    start: int = 0
    attempt: int = 0
    conditions: np.ndarray | None = None

    @property
    def stop(self) -> int:
        """One behind the last row."""
        return self.start + len(self.energies)

    @property
    def key(self) -> StreamKey:
        """Address of the block."""
        return StreamKey(self.seed, "", "", self.block, self.attempt)

    def runs(self, rows: np.ndarray, attempt: int) -> list[Piece]:
        """Some of its rows at a later attempt, consecutive ones as one piece.

        Args:
            rows: (m,) ascending, counted from the first row of this piece; at least one.
            attempt: Number of the redraw.
        """
        parts = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        return [
            replace(
                self,
                energies=self.energies[part],
                start=self.start + int(part[0]),
                attempt=attempt,
                conditions=None if self.conditions is None else self.conditions[part],
            )
            for part in parts
        ]

    def require(self, block_size: int, names: Sequence[str]) -> None:
        """Refuse rows that no block has, and other conditions than the model's.

        Args:
            block_size: Rows of a block.
            names: The model's conditions.

        Raises:
            ConfigError: Naming what was expected.
        """
        if not 0 <= self.start < self.stop <= block_size:
            raise ConfigError(
                f"a piece of {len(self.energies)} rows from row {self.start} of a block on",
                hint=f"a block has rows 0 to {block_size - 1}; ask for one or more of them",
            )
        if self.conditions is not None or names:
            require_rows(tuple(names), self.conditions, len(self.energies))


@dataclass(frozen=True)
class Rows:
    """The rows of several pieces, one after the other.

    Args:
        keys: Addresses of the blocks that they are of.
        owners: (N,) which of them each row is of.
        rows: (N,) its row there.
        energies: (N,) incident energies [MeV].
        conditions: (N, P); None for a model without.
    """

    keys: tuple[StreamKey, ...]
    owners: np.ndarray
    rows: np.ndarray
    energies: np.ndarray
    conditions: np.ndarray | None

    @staticmethod
    def of(pieces: Sequence[Piece]) -> Rows:
        """Those of one or more pieces, in order."""
        keys = {key: number for number, key in enumerate(dict.fromkeys(piece.key for piece in pieces))}
        counts = [len(piece.energies) for piece in pieces]
        tables = [piece.conditions for piece in pieces if piece.conditions is not None]
        return Rows(
            tuple(keys),
            np.repeat([keys[piece.key] for piece in pieces], counts),
            np.concatenate([np.arange(piece.start, piece.stop) for piece in pieces]),
            np.concatenate([np.asarray(piece.energies, dtype=np.float64) for piece in pieces]),
            np.concatenate(tables) if tables else None,
        )

    def take(self, chosen: np.ndarray) -> Rows:
        """The rows at these positions."""
        conditions = None if self.conditions is None else self.conditions[chosen]
        return Rows(self.keys, self.owners[chosen], self.rows[chosen], self.energies[chosen], conditions)

    def streams(self, block_size: int) -> PieceStreams:
        """Where their random numbers come from."""
        return PieceStreams(self.keys, self.owners, self.rows, block_size)


@dataclass(frozen=True)
class Packing:
    """Batches in which every row has the bits that it has in its block, whatever the other rows are.

    Args:
        sizes: Their sizes, ascending; the last is that of a block.
        anywhere: Whether a row may stand anywhere in a batch; if not, it stands where it does in its block.
    """

    sizes: tuple[int, ...]
    anywhere: bool

    @staticmethod
    def of(backend: Backend, block_size: int, layer_size: int) -> Packing:
        """What holds for a back-end.

        The native back-end computes every row for itself. The element-wise functions of torch around it take
        many numbers at once and compute those that are left over at the end in another way. None are left
        over in multiples of 16 rows of float64 numbers and of 32 rows of a layer's float32 voxels, or of 16
        if their number is even. Matrix products of torch may round differently in a batch of another size,
        and at another place of the same one.

        Args:
            backend: What inverts the flows, with "auto" resolved.
            block_size: Rows of a block.
            layer_size: Voxels of a layer.
        """
        grain = REGISTERS // math.gcd(2, layer_size)
        if backend != "native" or block_size % grain:
            return Packing((block_size,), anywhere=False)
        return Packing(tuple(range(grain, block_size + 1, grain)), anywhere=True)

    def batches(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Distribute rows, of which each has its place (N,) in its block.

        Returns:
            For every batch which row stands at each place, (size,) with repetitions where there is room, and
            the places (n,) of those that the batch is there for, in ascending order of the rows.
        """
        most = self.sizes[-1]
        if self.anywhere:
            for start in range(0, len(rows), most):
                count = min(most, len(rows) - start)
                size = next(size for size in self.sizes if size >= count)
                yield start + np.arange(size).clip(max=count - 1), np.arange(count)
            return
        for chosen in _without_repetition(rows):
            batch = np.full(most, chosen[0])
            batch[rows[chosen]] = chosen
            yield batch, rows[chosen]


def _without_repetition(values: np.ndarray) -> list[np.ndarray]:
    """Positions of the values in as few parts as there may be if no part is to hold a value twice."""
    order = values.argsort(kind="stable")
    ordered = values[order]
    turn = np.empty(len(values), dtype=np.int64)
    turn[order] = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return [np.flatnonzero(turn == number) for number in range(turn.max() + 1)]
