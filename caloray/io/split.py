"""Names of rows and their split: hashes of content, never of order, path or time."""

from __future__ import annotations

__all__ = ["SPLITS", "SplitFractions", "assign_splits", "event_ids"]

import hashlib
import math

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

SPLITS = ("train", "validation", "test")


class SplitFractions(BaseModel):
    """Shares of the three splits; they must add up to one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train: float = Field(0.8, ge=0, le=1)
    validation: float = Field(0.1, ge=0, le=1)
    test: float = Field(0.1, ge=0, le=1)

    @model_validator(mode="after")
    def _adds_up(self) -> SplitFractions:
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(f"train + validation + test is {total:g}, it must be 1")
        return self


def event_ids(file_sha256: str, start: int, stop: int) -> np.ndarray:
    """Ids of rows ``start`` to ``stop - 1`` of a file: 63-bit blake2b of (file content, row), int64."""
    base = hashlib.blake2b(bytes.fromhex(file_sha256), digest_size=8, person=b"caloray-event")
    found = bytearray()
    for row in range(start, stop):
        one = base.copy()
        one.update(row.to_bytes(8, "little"))
        found += one.digest()
    return (np.frombuffer(bytes(found), dtype="<u8") >> np.uint64(1)).astype(np.int64)


def assign_splits(ids: np.ndarray, fractions: SplitFractions, seed: int) -> np.ndarray:
    """Split of each event id, (n,) int8 positions in :data:`SPLITS`.

    The id and the seed are mixed with the finaliser of splitmix64 (Steele et al., "Fast splittable
    pseudorandom number generators", OOPSLA 2014) into a number in [0, 1) that is compared with the shares.
    """
    text = f"split/{seed}".encode()
    key = np.frombuffer(hashlib.blake2b(text, digest_size=8).digest(), dtype="<u8")[0]
    mixed = _splitmix(_splitmix(ids.astype(np.uint64) ^ key))
    uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    edges = np.array([fractions.train, fractions.train + fractions.validation])
    if fractions.test == 0:
        edges[1] = 1.0
    return np.searchsorted(edges, uniform, side="right").astype(np.int8)


def _splitmix(values: np.ndarray) -> np.ndarray:
    z = values + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
