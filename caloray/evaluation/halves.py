"""Random halves of the reference, whose comparison with each other is the floor of every histogram."""

from __future__ import annotations

__all__ = ["NO_HALVES", "Halves", "incident_energies", "scramble"]

from dataclasses import dataclass

import numpy as np

from caloray.io.source import FileSource, ShardSource, ShowerSource
from caloray.rng import StreamKey


@dataclass(frozen=True)
class Halves:
    """To which half of each of ``number`` <= 64 random halvings a shower belongs.

    A seeded hash of the shower's id, one bit per halving: the same shower falls in the same half in whatever
    order or chunk it is read. Where the showers' energies are known beforehand (:meth:`matched`), neighbours
    in energy are partners and fall in different halves.

    Args:
        seed: Seed of the hash.
        number: How many halvings.
        ids: (n,) ids in ascending order, or None.
        places: (n,) place of each of them in the order of energies.
    """

    seed: int = 0
    number: int = 0
    ids: np.ndarray | None = None
    places: np.ndarray | None = None

    @staticmethod
    def matched(ids: np.ndarray, energies: np.ndarray, seed: int, number: int) -> Halves:
        """Halves with equal spectra of incident energies, ids and energies (n,).

        What two samples with the same incident energies would show: without this the halves differ by their
        energies too, and the floor of everything that follows the energy is too high.
        """
        place = np.empty(len(ids), dtype=np.int64)
        place[np.lexsort((scramble(ids, seed, "ties"), energies))] = np.arange(len(ids))
        order = np.argsort(ids, kind="stable")
        return Halves(seed, number, ids[order], place[order])

    def of(self, ids: np.ndarray) -> np.ndarray:
        """(N, number) booleans."""
        places = ids
        if self.ids is not None and self.places is not None:
            places = self.places[np.searchsorted(self.ids, ids)]
        hashes = scramble(places if self.ids is None else places // 2, self.seed, "halvings")
        bits = np.arange(self.number, dtype=np.uint64)
        first = ((hashes[:, None] >> bits[None, :]) & np.uint64(1)).astype(bool)
        return first if self.ids is None else first ^ (places % 2 == 1)[:, None]


NO_HALVES = Halves()


def scramble(ids: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """(N,) uint64, a seeded hash of each id (splitmix64, Steele et al., OOPSLA 2014)."""
    key = np.uint64(StreamKey(seed, "evaluation", purpose).seed64())
    x = ids.astype(np.int64).view(np.uint64) ^ key
    for _ in range(2):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return x


def incident_energies(source: ShowerSource) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) and incident energies (n,) [MeV] of all showers; files are not read for their voxels."""
    if isinstance(source, FileSource | ShardSource):
        return source.incident()
    parts = [(showers.ids, showers.incident_energies) for showers in source.chunks()]
    ids, energies = zip(*parts, strict=True)
    return np.concatenate(ids), np.concatenate(energies)
