"""What a reader should know before looking at any number: signs that the samples are not what they seem."""

from __future__ import annotations

__all__ = ["doubts"]

import numpy as np

from caloray.evaluation.conditions import has_direction
from caloray.evaluation.incident import P_LIMIT, compare_spectra
from caloray.evaluation.scalars import azimuth, scalars
from caloray.evaluation.table import Table

MOST_RATIO = 5.0  # of deposit to incident energy, or of one sample's response to the other's
SHARED = 0.001  # of the smaller sample
FEWEST_SPREAD = 20  # values of a condition
ENOUGH = 200  # showers; below, most bins are empty and the scaling of the halves breaks down


def doubts(reference: Table, generated: Table) -> list[str]:
    """One line for each sign of trouble.

    Args:
        reference: Geant4 showers.
        generated: The others.
    """
    found = []
    for name, table in (("reference", reference), ("generated", generated)):
        empty = int(np.count_nonzero(table.column("total_energy") == 0))
        if empty:
            found.append(f"{name}: {empty:,} of {len(table):,} showers have no energy above the threshold")
        response = float(np.mean(table.column("e_ratio")))
        if response > MOST_RATIO:
            found.append(f"{name}: mean E_tot / E_inc is {response:.3g}; both energies must be in MeV")
    fewest = min(len(reference), len(generated))
    if fewest < ENOUGH:
        found.append(
            f"only {fewest} showers of a sample: floors of histograms are too high below {ENOUGH}, they hide "
            "defects and look suspiciously good"
        )
    found += _conditions(reference, generated)
    found += _responses(reference, generated)
    found += _dead_layers(reference, generated)
    shared = len(np.intersect1d(_fingerprints(reference), _fingerprints(generated)))
    if shared > SHARED * min(len(reference), len(generated)):
        found.append(
            f"{shared:,} showers are in both samples: differences are smaller than between independent ones"
        )
    return found


def _conditions(reference: Table, generated: Table) -> list[str]:
    """Conditions that only one sample has, or that are spread differently in the two."""
    found = []
    for one, other, name in ((reference, generated, "generated"), (generated, reference, "reference")):
        lost = [condition for condition in one.conditions if condition not in other.conditions]
        if lost:
            found.append(
                f"{name}: no {', '.join(lost)} known of its particles, the other sample has it: nothing is "
                "compared against it"
            )
    spread = [_spreads(table) for table in (reference, generated)]
    for name in (name for name in spread[0] if name in spread[1]):
        values = [np.sort(one[name]) for one in spread]
        if min(map(len, values)) < FEWEST_SPREAD:
            continue
        compared = compare_spectra(values[0], values[1])
        if compared.probability < P_LIMIT:
            found.append(
                f"{name} is spread differently in the two samples (KS distance {compared.distance:.4f}, p = "
                f"{compared.probability:.1e}): differences below may come from that and not from the model"
            )
    return found


def _spreads(table: Table) -> dict[str, np.ndarray]:
    """Everything whose distribution both samples should share, rounded as float32 files round it."""
    found = {one.name: one.values for one in scalars(table, {})}
    if has_direction(table.conditions):
        found["azimuth of the direction"] = azimuth(table)
    return {name: np.round(values, 5) for name, values in found.items()}


def _responses(reference: Table, generated: Table) -> list[str]:
    means = [float(np.mean(table.column("e_ratio"))) for table in (reference, generated)]
    if min(means) <= 0 or max(means) / min(means) < MOST_RATIO:
        return []
    ratios = f"{means[0]:.3g} in the reference and {means[1]:.3g} in the generated showers"
    return [f"mean E_tot / E_inc is {ratios}: are all energies in MeV?"]


def _dead_layers(reference: Table, generated: Table) -> list[str]:
    lit = [(table.layered("layer_energy") > 0).any(axis=0) for table in (reference, generated)]
    dead = np.flatnonzero(lit[0] & ~lit[1])
    if not len(dead) or not lit[1].any():
        return []
    return [f"generated: no energy in any shower in layer {', '.join(map(str, dead))}"]


def _fingerprints(table: Table) -> np.ndarray:
    """(n,) one number per lit shower that equal showers share and others do not."""
    total, energy = table.column("total_energy"), table.energies
    return np.unique((total + 1j * energy)[total > 0])
