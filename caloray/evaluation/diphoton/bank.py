"""Showers in sparse form: only hit voxels of showers near the wanted energies are kept."""

from __future__ import annotations

__all__ = ["LEVELS", "Bank", "Candidates", "choose_candidates", "gather"]

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from caloray.errors import DataError
from caloray.io.source import ShowerSource

Progress = Callable[[str, int, int], None]

LEVELS = (0.1, 0.15, 0.2, 0.3)
ENOUGH = 100
FEWEST = 20
MOST = 4000
VOXELS_PER_CHUNK = 12_000_000


@dataclass(frozen=True, eq=False)
class Bank:
    """The hits of n showers, one behind the other.

    Args:
        starts: (n + 1,) int64; the hits of shower i are ``starts[i]`` to ``starts[i + 1] - 1``.
        voxels: (H,) int32 flat voxel number of each hit.
        energies: (H,) float32 energy of each hit [MeV].
        incident: (n,) float64 incident energies [MeV].
        identities: (n,) int64, a hash of each shower's content: equal showers have equal numbers, whatever
            file they come from.
    """

    starts: np.ndarray
    voxels: np.ndarray
    energies: np.ndarray
    incident: np.ndarray
    identities: np.ndarray

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.incident)

    @staticmethod
    def from_dense(voxels: np.ndarray, incident: np.ndarray) -> Bank:
        """The bank of (n, V) dense showers [MeV] with (n,) incident energies [MeV]."""
        rows, columns = np.nonzero(voxels > 0)
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(voxels)))])
        columns, energies = columns.astype(np.int32), voxels[rows, columns].astype(np.float32)
        incident = np.asarray(incident, dtype=np.float64)
        identities = [
            _identity(incident[i], columns[start:stop], energies[start:stop])
            for i, (start, stop) in enumerate(pairwise(starts))
        ]
        return Bank(
            starts.astype(np.int64), columns, energies, incident, np.array(identities, dtype=np.int64)
        )

    @staticmethod
    def joined(banks: Sequence[Bank]) -> Bank:
        """All showers of several banks (at least one), in order."""
        hits = np.concatenate([np.diff(bank.starts) for bank in banks])
        columns = ("voxels", "energies", "incident", "identities")
        return Bank(
            np.concatenate([[0], np.cumsum(hits)]),
            *(np.concatenate([getattr(bank, name) for bank in banks]) for name in columns),
        )


@dataclass(frozen=True, eq=False)
class Candidates:
    """Row numbers in a bank of the showers that stand for the first and for the second photon."""

    first: np.ndarray
    second: np.ndarray

    def shifted(self, rows: int) -> Candidates:
        """The same showers in a bank that has ``rows`` others before them."""
        return Candidates(self.first + rows, self.second + rows)

    def within(self, rows: np.ndarray) -> Candidates:
        """Only those that are among ``rows``."""
        return Candidates(np.intersect1d(self.first, rows), np.intersect1d(self.second, rows))


def gather(
    source: ShowerSource, energies: tuple[float, float], *, stage: str = "", progress: Progress | None = None
) -> Bank:
    """Read the showers that could stand for either photon, at the widest window.

    At most 4,000 showers of each ring of the windows are kept per energy, the first ones of the source, so
    that memory is bounded (about 8 bytes per hit).

    Args:
        source: Showers of a Cartesian grid.
        energies: Wanted energies [MeV].
        stage: Name of the source for ``progress``.
        progress: Called with (stage, showers done, showers in all).
    """
    parts: list[Bank] = []
    room = np.full((len(energies), len(LEVELS)), MOST)
    done = 0
    for showers in source.chunks(max(1, VOXELS_PER_CHUNK // source.geometry.n_voxels)):
        keep = np.zeros(len(showers), dtype=bool)
        for wanted, rooms in zip(energies, room, strict=True):
            ring = np.searchsorted(LEVELS, np.abs(showers.incident_energies / wanted - 1.0))
            for level in range(len(LEVELS)):
                taken = np.flatnonzero(ring == level)[: rooms[level]]
                keep[taken] = True
                rooms[level] -= len(taken)
        if keep.any():
            parts.append(Bank.from_dense(showers.voxels[keep], showers.incident_energies[keep]))
        done += len(showers)
        if progress is not None:
            progress(stage, done, source.n_showers)
    return Bank.joined(parts or [Bank.from_dense(np.zeros((0, 1)), np.zeros(0))])


def choose_candidates(
    banks: Sequence[Bank], names: Sequence[str], energies: tuple[float, float], window: float
) -> tuple[list[Candidates], tuple[float, float], list[str]]:
    """The showers for both photons, the same window of energies in every bank.

    A window grows to 15, 20 and 30 % until every bank has 100 showers in it.

    Args:
        banks: Banks of the samples.
        names: Their names, for messages.
        energies: Wanted energies [MeV].
        window: Relative half-width to start with.

    Returns:
        Candidates of each bank, the two windows in use, warnings.

    Raises:
        DataError: Fewer than 20 showers in the widest window.
    """
    chosen, windows, warnings = [], [], []
    for wanted in energies:
        width, rows = _widen(banks, wanted, window)
        low, high = wanted * (1 - width), wanted * (1 + width)
        for name, found in zip(names, rows, strict=True):
            if len(found) < FEWEST:
                raise DataError(
                    f"{name}: {len(found)} showers from {low:,.0f} to {high:,.0f} MeV, "
                    f"expected at least {FEWEST} to stand for a photon of {wanted:,.0f} MeV",
                    hint="choose other --energies, or give a file with more showers near them",
                )
        if width > window:
            counts = ", ".join(f"{len(found):,} of {name}" for name, found in zip(names, rows, strict=True))
            warnings.append(
                f"photons of {wanted:,.0f} MeV: showers within ±{window:.0%} are too few; "
                f"±{width:.0%} is used ({counts})"
            )
        chosen.append(rows)
        windows.append(width)
    first, second = chosen
    return (
        [Candidates(*pair) for pair in zip(first, second, strict=True)],
        (windows[0], windows[1]),
        warnings,
    )


def _widen(banks: Sequence[Bank], wanted: float, window: float) -> tuple[float, list[np.ndarray]]:
    for width in (window, *(level for level in LEVELS if level > window)):
        rows = [np.flatnonzero(np.abs(bank.incident / wanted - 1.0) <= width) for bank in banks]
        if min(map(len, rows)) >= ENOUGH:
            break
    return width, rows


def _identity(incident: np.float64, voxels: np.ndarray, energies: np.ndarray) -> int:
    digest = hashlib.blake2b(incident.tobytes(), digest_size=8)
    digest.update(voxels.tobytes())
    digest.update(energies.tobytes())
    return int.from_bytes(digest.digest(), "little", signed=True)
