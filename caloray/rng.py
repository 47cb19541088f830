"""Counter-based random streams: every draw is named, none depends on what ran before.

A stream is addressed by (seed, component, purpose, block, attempt). The first three are hashed into the
key of a Philox-4x64 generator (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC11), block and
attempt go into the two high words of its counter. Streams can therefore be opened in any order, on any
worker, any number of times, and always give the same numbers.
"""

from __future__ import annotations

__all__ = ["StreamKey"]

import hashlib
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class StreamKey:
    """The address of one random stream.

    Args:
        seed: The request's or the run's seed, any integer from 0 to 2**64 - 1.
        component: Name of the component that draws ("layer-energies", "next-layer/07", ...).
        purpose: What the draw is for ("latent", "noise", "shuffle", ...).
        block: Index of the block, epoch or step.
        attempt: 0, or the number of the redraw after an invalid outcome.
    """

    seed: int
    component: str
    purpose: str
    block: int = 0
    attempt: int = 0

    def at(self, block: int, attempt: int = 0) -> StreamKey:
        """The same stream family at another block and attempt."""
        return replace(self, block=block, attempt=attempt)

    def named(self, component: str, purpose: str) -> StreamKey:
        """Another stream family of the same seed, block and attempt."""
        return StreamKey(self.seed, component, purpose, self.block, self.attempt)

    def generator(self) -> np.random.Generator:
        """A numpy generator at the start of this stream."""
        return np.random.Generator(np.random.Philox(key=self._key(), counter=self._counter()))

    def rewind(self, generator: np.random.Generator, counts: int = 0) -> None:
        """Put a generator that :meth:`generator` made, of any stream, at the start of this one or further on.

        The numbers are those of a new one, which takes four times as long to make.

        Args:
            generator: The generator.
            counts: Counts of the counter to leave out; each gives four numbers of 64 bits.
        """
        generator.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {"counter": self._counter(counts), "key": self._key()},
            "buffer": np.zeros(4, dtype=np.uint64),
            "buffer_pos": 4,
            "has_uint32": 0,
            "uinteger": 0,
        }

    def seed64(self) -> int:
        """A 63-bit seed for generators that take only one integer (torch)."""
        text = f"{self.block}/{self.attempt}".encode()
        digest = hashlib.blake2b(text, digest_size=8, key=self._key().tobytes()).digest()
        return int.from_bytes(digest, "little") >> 1

    def _counter(self, counts: int = 0) -> np.ndarray:
        return np.array([counts, 0, self.attempt, self.block], dtype=np.uint64)

    def _key(self) -> np.ndarray:
        text = f"{self.seed}\x1f{self.component}\x1f{self.purpose}".encode()
        return np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), dtype=np.uint64)
