"""How often two photons are resolved: pairs drawn and judged block by block."""

from __future__ import annotations

__all__ = ["BLOCK", "Curve", "Outcome", "Way", "draw_pairs", "resolve_block", "split_rates", "trace"]

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from caloray.errors import DataError
from caloray.evaluation.diphoton.bank import Bank, Candidates
from caloray.evaluation.diphoton.readout import Readout
from caloray.evaluation.diphoton.settings import Direction, PairSettings
from caloray.rng import StreamKey

BLOCK = 250
COLUMNS = 7  # random numbers per pair

Way = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class Outcome:
    """Pairs at one distance.

    Args:
        first: (n,) rows of the first photons in the bank.
        second: (n,) rows of the second photons.
        resolved: (n,) bool, exactly two maxima.
        near: (n,) bool, exactly two maxima, each within one cell along x and y of another true axis.
    """

    first: np.ndarray
    second: np.ndarray
    resolved: np.ndarray
    near: np.ndarray

    @staticmethod
    def merged(parts: Sequence[Outcome]) -> Outcome:
        """Blocks joined in the given order."""
        names = ("first", "second", "resolved", "near")
        return Outcome(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, eq=False)
class Curve:
    """A turn-on curve.

    Args:
        name: Part of the address of its random numbers.
        distances: D distances [mm].
        outcomes: One per distance, of equally many pairs.
    """

    name: str
    distances: tuple[float, ...]
    outcomes: tuple[Outcome, ...]

    @property
    def pairs(self) -> int:
        """Pairs per distance."""
        return len(self.outcomes[0].first)

    @property
    def resolved(self) -> np.ndarray:
        """(D, pairs) float64, 1 where the pair is resolved."""
        return np.array([outcome.resolved for outcome in self.outcomes], dtype=np.float64)

    @property
    def probability(self) -> np.ndarray:
        """(D,) share of resolved pairs."""
        return np.asarray(self.resolved.mean(axis=1))

    @property
    def near(self) -> np.ndarray:
        """(D,) share of pairs that are resolved at the right places."""
        return np.array([outcome.near.mean() for outcome in self.outcomes])


def trace(
    name: str,
    bank: Bank,
    ways: Sequence[Way],
    readout: Readout,
    settings: PairSettings,
    advance: Callable[[int], None] | None = None,
) -> Curve:
    """A whole curve in this process.

    Args:
        name: Address of its random numbers.
        bank: All showers.
        ways: Showers (first photon, second photon) that may form pairs; each pair takes one way at random.
        readout: Of the bank's geometry.
        settings: Distances, pairs, seed.
        advance: Called with the number of pairs done since the last call.
    """
    outcomes = []
    for distance in settings.distances:
        parts = []
        for block in range(math.ceil(settings.pairs / BLOCK)):
            parts.append(resolve_block(name, bank, ways, readout, settings, distance, block))
            if advance is not None:
                advance(len(parts[-1].first))
        outcomes.append(Outcome.merged(parts))
    return Curve(name, settings.distances, tuple(outcomes))


def resolve_block(
    name: str,
    bank: Bank,
    ways: Sequence[Way],
    readout: Readout,
    settings: PairSettings,
    distance: float,
    block: int,
) -> Outcome:
    """Block number ``block`` of the pairs at one distance: a pure function of its arguments.

    The second photon is moved by d / pitch sub-cells, rounded up or down at random with the probabilities
    that make the mean shift equal to d; the pair as a whole starts at a random sub-cell of a cell. Arguments
    as in :func:`trace`; ``distance`` in mm.

    Raises:
        DataError: A shower has no other shower to form a pair with.
    """
    key = StreamKey(settings.seed, f"diphoton/{name}", f"{distance!r} mm", block)
    count = min(BLOCK, settings.pairs - block * BLOCK)
    uniform = key.generator().random((BLOCK, COLUMNS))[:count]
    first, second = draw_pairs(bank.identities, ways, uniform[:, :3])
    phase = np.floor(uniform[:, 3:5] * readout.granularity).astype(np.int64)
    wanted = distance / readout.pitch * np.array(_direction(settings.direction))
    moved = phase + np.floor(wanted + uniform[:, 5:7]).astype(np.int64)
    shifts = np.stack([phase, moved], axis=1)
    counts, places = readout.count(bank, np.stack([first, second], axis=1), shifts)
    truth = (shifts + np.array(readout.origin)) / readout.granularity
    near = (counts == 2) & (_matches(places, truth) | _matches(places, truth[:, ::-1]))
    return Outcome(first, second, counts == 2, near)


def draw_pairs(
    identities: np.ndarray, ways: Sequence[Way], uniform: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of two different showers.

    Args:
        identities: (n,) numbers of the bank's showers, equal for equal showers.
        ways: Rows for the first and for the second photon.
        uniform: (m, 3) random numbers from 0 to 1: which way, which first, which second shower.

    Returns:
        (m,) rows of the first and (m,) rows of the second photons.

    Raises:
        DataError: All showers of a second photon are the first one.
    """
    first, second = np.zeros(len(uniform), dtype=np.int64), np.zeros(len(uniform), dtype=np.int64)
    chosen = np.floor(uniform[:, 0] * len(ways)).astype(np.int64)
    for index, (ones, others) in enumerate(ways):
        mine = chosen == index
        draws = uniform[mine]
        first[mine] = ones[np.floor(draws[:, 1] * len(ones)).astype(np.int64)]
        sorted_others = others[np.argsort(identities[others], kind="stable")]
        ranked = identities[sorted_others]
        low = np.searchsorted(ranked, identities[first[mine]], side="left")
        same = np.searchsorted(ranked, identities[first[mine]], side="right") - low
        if np.any(same == len(others)):
            raise DataError(
                "two photons: a shower has no other shower to form a pair with",
                hint="give a file in which not all showers are equal",
            )
        place = np.floor(draws[:, 2] * (len(others) - same)).astype(np.int64)
        second[mine] = sorted_others[np.where(place >= low, place + same, place)]
    return first, second


def split_rates(bank: Bank, candidates: Candidates, readout: Readout) -> np.ndarray:
    """(n,) float64 per shower of the bank: share of the f x f phases at which it alone shows several maxima.

    NaN for showers that are no candidates.
    """
    rows = np.union1d(candidates.first, candidates.second)
    f = readout.granularity
    phases = np.stack(np.divmod(np.arange(f * f), f), axis=1)
    members = np.repeat(rows, len(phases))[:, None]
    counts, _ = readout.count(bank, members, np.tile(phases, (len(rows), 1))[:, None])
    rates = np.full(len(bank), np.nan)
    rates[rows] = (counts.reshape(len(rows), -1) > 1).mean(axis=1)
    return rates


def _direction(name: Direction) -> tuple[float, float]:
    return {"x": (1.0, 0.0), "y": (0.0, 1.0), "diagonal": (math.sqrt(0.5), math.sqrt(0.5))}[name]


def _matches(places: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.asarray((np.abs(places - truth) <= 1.0).all(axis=(1, 2)))
