"""The verdict: which observables of a production have drifted away from the frozen reference."""

from __future__ import annotations

__all__ = ["DriftReport", "DriftRow", "Verdict", "drift"]

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from caloray.quality.counts import QualityCounts
from caloray.quality.distances import Shifts, histogram_shifts, mean_shifts, voxel_shifts
from caloray.quality.observables import band_name
from caloray.quality.reference import QualityReference
from caloray.quality.repeats import repeated_share, stuck_noise
from caloray.quality.samples import pair_of

Verdict = Literal["ok", "drift", "too few"]
TOLERANCE = 0.25
MIN_SHOWERS = 2000
SIGMAS = 5.0
VOXELS = 4.0
"""A voxel is tolerated so many times the shift of other observables."""
REPEATED = 0.01
"""Share of repeated showers that is tolerated."""


@dataclass(frozen=True)
class DriftRow:
    """One observable in all places where it was compared.

    Args:
        observable: Its name.
        shift: Largest shift [widths of the reference], beyond what chance gives on average; of places that
            drift, if any does.
        error: Standard deviation of this shift if nothing had drifted.
        significance: Shift over error.
        where: Layer, band of voxel energies or voxel, and the cell.
        places: How many were compared.
        drifted: How many of them drift.
        verdict: "drift" if any does; "too few" if nothing could be compared.
    """

    observable: str
    shift: float
    error: float
    significance: float
    where: str
    places: int
    drifted: int
    verdict: Verdict


@dataclass(frozen=True)
class DriftReport:
    """A production against its reference.

    Args:
        reference: Digest of the reference.
        showers: Showers of the production that were compared.
        left_out: Showers outside the ranges of the reference, or not finite.
        reference_showers: Showers of the reference.
        tolerance: Shifts up to here are tolerated [widths].
        rows: One per observable; none for too few showers.
    """

    reference: str
    showers: int
    left_out: int
    reference_showers: int
    tolerance: float
    rows: tuple[DriftRow, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether any observable drifts; or that there were too few showers to say."""
        if not self.rows:
            return "too few"
        return "drift" if self.drifted else "ok"

    @property
    def drifted(self) -> tuple[DriftRow, ...]:
        """The observables that drift, the largest shift first."""
        rows = [row for row in self.rows if row.verdict == "drift"]
        return tuple(sorted(rows, key=lambda row: -row.shift))

    def metrics(self) -> dict[str, float]:
        """Shift of each observable by name."""
        return {row.observable: row.shift for row in self.rows if row.verdict != "too few"}

    def lines(self) -> list[str]:
        """A few lines of text."""
        showers = f"{self.showers:,} showers against {self.reference_showers:,} of the reference"
        if self.verdict == "too few":
            return [f"quality: {showers}: too few to say anything"]
        if not self.drifted:
            row = max(self.rows, key=lambda row: row.shift)
            largest = f"largest shift {row.shift:.2f} ± {row.error:.2f} widths ({row.observable})"
            return [f"quality: no drift in {showers}; {largest}"]
        lines = [f"quality: {len(self.drifted)} of {len(self.rows)} observables drift in {showers}"]
        for row in self.drifted:
            size = f"{row.shift:.2f} ± {row.error:.2f} widths"
            lines.append(f"  {row.observable}: {size} in {row.where}; {row.drifted} of {row.places} places")
        return lines

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"verdict": self.verdict, **asdict(self), "rows": [asdict(row) for row in self.rows]}


def drift(
    counts: QualityCounts,
    reference: QualityReference,
    tolerance: float = TOLERANCE,
    min_showers: int = MIN_SHOWERS,
) -> DriftReport:
    """Compare a production with the reference.

    A place (a cell, a layer of a cell, a voxel) drifts if its shift is beyond the tolerance and beyond 5
    standard deviations; of an observable with M places beyond sqrt(25 + 2 ln M), so that many places do not
    make chance likelier.

    Args:
        counts: Of the production.
        reference: What it was counted with.
        tolerance: In widths of the reference.
        min_showers: With fewer showers nothing is said.

    Raises:
        DataError: The counts were made with another reference.
    """
    counts = QualityCounts.merged([counts], reference)
    sizes = counts.showers, counts.left_out, reference.counts.showers
    if counts.showers < max(1, min_showers):
        return DriftReport(reference.digest, *sizes, tolerance, ())
    pair, observed = pair_of(counts, reference), reference.observed
    rows = []
    scalars = histogram_shifts(pair)
    for i, name in enumerate(observed.scalars):
        rows.append(_row(name, scalars.part(slice(i, i + 1)), pair.names, ("",), tolerance))
    profiles, start = mean_shifts(pair), 0
    for name, length in observed.profiles:
        part = profiles.part(slice(start, start + length))
        spell = band_name if name == "voxel spectrum" else "layer {}".format
        rows.append(_row(name, part, pair.names, [spell(i) for i in range(length)], tolerance))
        start += length
    layers = reference.geometry.layer_of_voxel
    entries = [f"voxel {i} (layer {layer})" for i, layer in enumerate(layers)]
    voxels = voxel_shifts(counts, reference)
    rows.append(_row("voxel hits", voxels, ("all showers",), entries, VOXELS * tolerance))
    rows.append(_single("repeats", repeated_share(counts), REPEATED, "share of showers that come again"))
    rows.append(_single("stuck noise", stuck_noise(counts), tolerance, "positions in the block"))
    return DriftReport(reference.digest, *sizes, tolerance, tuple(rows))


def _row(
    name: str, shifts: Shifts, places: tuple[str, ...], entries: list[str] | tuple[str, ...], tolerance: float
) -> DriftRow:
    number = int(shifts.compared.sum())
    if number == 0:
        return DriftRow(name, 0.0, 0.0, 0.0, "", 0, 0, "too few")
    significance = shifts.shift / shifts.error
    limit = np.sqrt(SIGMAS**2 + 2 * np.log(number))
    over = shifts.compared & (shifts.shift > tolerance) & (significance > limit)
    among = over if over.any() else shifts.compared
    place, entry = np.unravel_index(np.where(among, shifts.shift, -1).argmax(), among.shape)
    where = f"{entries[entry]}, {places[place]}" if entries[entry] else places[place]
    shift, error, sigmas = (
        float(table[place, entry]) for table in (shifts.shift, shifts.error, significance)
    )
    verdict: Verdict = "drift" if over.any() else "ok"
    return DriftRow(name, shift, error, sigmas, where, number, int(over.sum()), verdict)


def _single(name: str, found: tuple[float, float] | None, tolerance: float, where: str) -> DriftRow:
    if found is None:
        return DriftRow(name, 0.0, 0.0, 0.0, "", 0, 0, "too few")
    shift, error = found
    over = shift > tolerance and shift > SIGMAS * error
    return DriftRow(name, shift, error, shift / error, where, 1, int(over), "drift" if over else "ok")
