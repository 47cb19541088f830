"""A model with the interface of a bundle, small and quick; as a program it is ``caloray`` with that model.

Environment: STUB_DELAY seconds per block, STUB_NAN "block:row:attempts" entries separated by blanks.
"""

from __future__ import annotations

import math
import os
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from caloray.geometry import Geometry, Layer
from caloray.preprocess.condition_range import ConditionRange
from caloray.rng import StreamKey

ALPHA = tuple(2 * math.pi * i / 4 for i in range(5))
TOY = Geometry("toy", "cylindrical", tuple(Layer(i, ALPHA, (0.0, 1.0, 2.0, 3.0)) for i in range(3)))


class Made(types.SimpleNamespace):
    """What a bundle gives, without its libraries."""

    def take(self, rows: np.ndarray | slice) -> Made:
        return Made(**{name: None if column is None else column[rows] for name, column in vars(self).items()})


class Piece(NamedTuple):
    """Like the bundle's class of that name."""

    seed: int
    block: int
    energies: np.ndarray
    start: int = 0
    attempt: int = 0
    conditions: np.ndarray | None = None


class Pieces:
    """A model that makes pieces out of whole blocks."""

    block_size: int

    def make_block(self, *request: object) -> Made:
        raise NotImplementedError

    def make_pieces(self, pieces: Sequence[Piece]) -> list[Made]:
        return [self.piece(piece) for piece in pieces]

    def piece(self, piece: Piece) -> Made:
        stop = piece.start + len(piece.energies)
        energies = np.full(self.block_size, 2e3)
        energies[piece.start : stop] = piece.energies
        table = None
        if piece.conditions is not None:
            table = np.zeros((self.block_size, piece.conditions.shape[1]))
            table[piece.start : stop] = piece.conditions
        made = self.make_block(energies, piece.seed, piece.block, piece.attempt, table)
        return made.take(slice(piece.start, stop))


class StubModel(Pieces):
    """Block size 8, 36 voxels; ``bad`` says for (block, row) how many attempts give NaN."""

    geometry = TOY
    block_size = 8
    energy_range = (1e3, 5e4)
    conditions: tuple[ConditionRange, ...] = ()
    backend = "stub"
    quality = None
    largest_response = 1.0
    hits_per_shower = 11.0
    numerics = MappingProxyType({"device": "cpu", "backend": "stub"})

    def __init__(self, bad: dict[tuple[int, int], int] | None = None, *, fault: float = math.nan) -> None:
        self.digest = "b" * 64
        self.bad = bad or {}
        self.fault = fault
        self.calls: list[tuple[int, int]] = []
        self.delay = float(os.environ.get("STUB_DELAY", "0"))

    @staticmethod
    def load(path: Path, device: str = "cpu", backend: str = "auto") -> StubModel:
        del path, device, backend
        entries = [tuple(int(n) for n in word.split(":")) for word in os.environ.get("STUB_NAN", "").split()]
        return StubModel({(block, row): attempts for block, row, attempts in entries})

    def sample_block(
        self,
        energies: np.ndarray,
        seed: int,
        block: int,
        attempt: int = 0,
        conditions: np.ndarray | None = None,
    ) -> np.ndarray:
        time.sleep(self.delay)
        self.calls.append((block, attempt))
        key = StreamKey(seed, "stub", "latent", block, attempt)
        uniform = key.generator().random((self.block_size, self.geometry.n_voxels))[: len(energies)]
        voxels: np.ndarray = (np.where(uniform > 0.7, uniform, 0) * energies[:, None] / 40).astype(np.float32)
        if conditions is not None:
            assert conditions.shape == (len(energies), len(self.conditions))
            voxels[:, : len(self.conditions)] = np.abs(conditions)
        for (at, row), attempts in self.bad.items():
            if at == block and attempt < attempts and row < len(voxels):
                voxels[row, 3] = self.fault
        return voxels

    def make_block(self, *request: object) -> Made:
        voxels = self.sample_block(*request)  # type: ignore[arg-type]
        density = -voxels.sum(axis=1, dtype=np.float64)
        energies, vetoes = np.ones((len(voxels), 3)), self.vetoes(*request)
        return Made(voxels=voxels, layer_energies=energies, vetoes=vetoes, log_prob=density)

    def vetoes(self, *request: object) -> np.ndarray | None:
        return None


if __name__ == "__main__":
    module = types.ModuleType("caloray.bundle")  # the real one would load torch, which takes seconds
    module.Bundle, module.Piece = StubModel, Piece  # type: ignore[attr-defined]
    sys.modules["caloray.bundle"] = module
    from caloray.cli import main

    sys.exit(main())
