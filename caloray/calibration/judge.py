"""What steps achieve: the voxel spectrum of held-out showers before and after, beside the floor."""

from __future__ import annotations

__all__ = ["Judgement", "judge"]

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from caloray.calibration.generated import Generated
from caloray.calibration.particles import is_held_out
from caloray.calibration.reference import VOXELS_AT_ONCE, Reference, Tell
from caloray.evaluation.floor import Floor
from caloray.evaluation.halves import Halves
from caloray.evaluation.separation import occupancy_growth, separation_power, size_factor
from caloray.observables.lit import voxel_spectrum
from caloray.postprocess.steps import PostProcessing, apply

EDGES = 50
HALVINGS = 20
ENERGY_MARGIN = 0.01


@dataclass(frozen=True)
class Judgement:
    """Separation powers of the voxel spectrum against held-out reference showers.

    The bins are those of ``caloray evaluate``: 49 in the logarithm, from the threshold to the reference's
    largest voxel.

    Args:
        before: Without the steps.
        after: With them.
        floor: What two samples of the reference of these sizes would show.
        spread: Standard deviation of that.
        reference_showers: Held-out reference showers.
        generated_showers: Held-out generated showers.
        invalid: Generated showers with NaN, infinite or negative voxels, which were left out.
        energy_before: Total energy of the generated over that of the reference showers, per shower.
        energy_after: The same with the steps.
    """

    before: float | None
    after: float | None
    floor: float | None
    spread: float | None
    reference_showers: int
    generated_showers: int
    invalid: int
    energy_before: float
    energy_after: float

    @property
    def is_worse(self) -> bool:
        """Whether the spectrum was closer to the reference's without the steps, beyond chance."""
        margin = 2 * (self.spread or 0.0)
        return self.before is not None and self.after is not None and self.after > self.before + margin

    @property
    def energy_is_moved(self) -> bool:
        """Whether the steps take the mean energy further than a hundredth away from the reference's."""
        return abs(self.energy_after - 1) > ENERGY_MARGIN + abs(self.energy_before - 1)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def judge(
    steps: PostProcessing, threshold: float, reference: Reference, generated: Generated, tell: Tell
) -> Judgement:
    """Read the held-out showers and compare.

    Args:
        steps: Fitted steps.
        threshold: Voxels below it [MeV] do not count.
        reference: Reference showers.
        generated: Showers of the model.
        tell: Is told about the progress.
    """
    edges = np.geomspace(threshold, max(reference.largest, 2 * threshold), EDGES)
    known, floor_halves, energy = _reference(reference, threshold, edges)
    counts = np.zeros((2, len(edges) - 1), dtype=np.int64)
    totals = np.zeros(2)
    showers = invalid = 0
    for piece in generated.pieces(held_out=True):
        after = apply(steps, piece.voxels, piece.layer_energies, reference.source.geometry)
        valid = np.isfinite(after).all(axis=1) & np.isfinite(piece.voxels).all(axis=1)
        for i, voxels in enumerate((piece.voxels[valid], after[valid])):
            counts[i] += voxel_spectrum(voxels, edges, threshold).sum(axis=0)[1:-1]
            totals[i] += voxels.sum(dtype=np.float64)
        showers += int(valid.sum())
        invalid += int(np.logical_not(valid).sum())
        tell("generated, held out", len(after))
    floor = _floor(known, floor_halves, showers)
    ratios = totals / max(showers, 1) / (energy / max(len(known), 1))
    before, after_all = (separation_power(known.sum(axis=0), row) for row in counts)
    return Judgement(
        before, after_all, floor.mean, floor.spread, len(known), showers, invalid, *map(float, ratios)
    )


def _reference(
    reference: Reference, threshold: float, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Spectra (n, B) of the held-out showers, their halves (n, halvings), and their energy [MeV]."""
    spectra, energies, total, position = [], [], 0.0, 0
    for showers in reference.source.chunks(max(1, VOXELS_AT_ONCE // reference.source.geometry.n_voxels)):
        away = is_held_out(position, len(showers))
        position += len(showers)
        voxels = showers.voxels[away]
        spectra.append(voxel_spectrum(voxels, edges, threshold)[:, 1:-1].astype(np.int32))
        energies.append(showers.incident_energies[away])
        total += float(np.where(voxels < threshold, 0, voxels).sum(dtype=np.float64))
    ids = np.arange(sum(map(len, energies)))
    halves = Halves.matched(ids, np.concatenate(energies), 0, HALVINGS).of(ids)
    return np.concatenate(spectra), halves, total


def _floor(spectra: np.ndarray, halves: np.ndarray, n_generated: int) -> Floor:
    """See :func:`caloray.evaluation.floor.floor_of`."""
    total, n = spectra.sum(axis=0), len(spectra)
    firsts = np.array([spectra[half].sum(axis=0) for half in halves.T])
    values = [
        value * size_factor(int(half.sum()), n - int(half.sum()), n, max(n_generated, 1))
        for first, half in zip(firsts, halves.T, strict=True)
        if (value := separation_power(first, total - first)) is not None and 0 < half.sum() < n
    ]
    return Floor(np.array(values) * occupancy_growth(total, firsts, n_generated / n))
