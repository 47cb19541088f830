"""Quantities of showers against the direction and other scalars of the particle, in both samples.

What a model conditioned on such a scalar has to follow. Every quantity is compared in bins of the scalar by
chi2 per degree of freedom, whose floor is the same number between halves of the reference.
"""

from __future__ import annotations

__all__ = ["compare_profiles", "same_particles"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from caloray.evaluation.bins import PER_BIN, BinMeans, adjusted, bin_means, equal_bins, places_in
from caloray.evaluation.conditions import CONDITION
from caloray.evaluation.halves import Halves
from caloray.evaluation.metric import FEWEST_PAIRS, Metric, matched
from caloray.evaluation.scalars import Scalar, covariates, scalars
from caloray.evaluation.shower_shapes import Shape, shower_shapes
from caloray.evaluation.table import Table

ROUNDING = 1e-6
WIDTH = ("e_ratio_width", "width of E_tot / E_inc", "")


@dataclass(frozen=True)
class _Side:
    """One sample, ready to be put into bins."""

    values: np.ndarray
    factors: np.ndarray
    response: np.ndarray
    places: np.ndarray

    @property
    def parts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.values, self.factors, self.places


@dataclass(frozen=True)
class _Compared:
    """Both samples in the bins of one scalar, and the halves of the reference against each other."""

    scalar: Scalar
    edges: np.ndarray
    middles: np.ndarray
    reference: BinMeans
    generated: BinMeans
    halves: tuple[tuple[BinMeans, BinMeans], ...]
    showers: tuple[int, int]


def compare_profiles(
    reference: Table, generated: Table, units: Mapping[str, str], seed: int, halvings: int
) -> tuple[list[dict[str, Any]], list[Metric], list[str]]:
    """Profiles against every scalar that both samples have: records, metrics and what was left out.

    Args:
        reference: Geant4 showers.
        generated: The others.
        units: Unit of each condition by name.
        seed: Of the halves.
        halvings: How many.
    """
    second = {one.name: one for one in scalars(generated, units)}
    shapes = [(one.name, one.label, one.unit) for one in shower_shapes(reference)]
    records: list[dict[str, Any]] = []
    metrics: list[Metric] = []
    missing: list[str] = []
    for scalar in scalars(reference, units):
        if scalar.name not in second:
            continue
        edges = equal_bins(scalar.values)
        if edges is None:
            if np.ptp(scalar.values) > 0:
                missing.append(
                    f"profiles against {scalar.name} left out: {len(reference):,} reference showers, "
                    f"{2 * PER_BIN} are needed, of more than one value"
                )
            continue
        compared = _compare(reference, generated, scalar, second[scalar.name], edges, seed, halvings)
        found = [_quantity(compared, i, *one) for i, one in enumerate([*shapes, WIDTH])]
        found.insert(1, found.pop())  # the width of the response beside the response
        records.append(_record(compared, [one for one, _ in found]))
        metrics += [metric for _, metric in found if metric is not None]
    return records, metrics, missing


def same_particles(reference: Table, generated: Table) -> bool:
    """Whether both have the same particles, energies and conditions, in any order."""
    if len(reference) != len(generated) or reference.conditions != generated.conditions:
        return False
    first, second = _particles(reference), _particles(generated)
    return bool(np.allclose(first, second, rtol=ROUNDING, atol=ROUNDING))


def _particles(table: Table) -> np.ndarray:
    """(1 + P, N) energies and conditions, in their own order."""
    columns = np.stack([table.energies, *(table.column(CONDITION + name) for name in table.conditions)])
    return np.asarray(columns[:, np.lexsort(columns[::-1])])


def _compare(
    reference: Table,
    generated: Table,
    scalar: Scalar,
    other: Scalar,
    edges: np.ndarray,
    seed: int,
    halvings: int,
) -> _Compared:
    first, second = _side(reference, scalar, edges), _side(generated, other, edges)
    first_values, second_values = adjusted(first.parts, first.parts), adjusted(first.parts, second.parts)
    n_bins = len(edges) - 1
    halves = _halves(reference, generated, first.places, seed, halvings).of(reference.ids)
    pairs = []
    for half in halves.T:
        sides = (np.where(half, first.places, -1), np.where(half, -1, first.places))
        one, two = (bin_means(first_values, first.response, places, n_bins) for places in sides)
        pairs.append((one, two))
    inside = first.places >= 0
    sums = np.bincount(first.places[inside], scalar.values[inside], n_bins)
    counts = np.bincount(first.places[inside], minlength=n_bins)
    return _Compared(
        scalar,
        edges,
        sums / np.maximum(counts, 1),
        bin_means(first_values, first.response, first.places, n_bins),
        bin_means(second_values, second.response, second.places, n_bins),
        tuple(pairs),
        (len(reference), len(generated)),
    )


def _side(table: Table, scalar: Scalar, edges: np.ndarray) -> _Side:
    shapes: list[Shape] = shower_shapes(table)
    values = np.stack([one.values for one in shapes], axis=1)
    return _Side(values, covariates(table), table.column("e_ratio"), places_in(scalar.values, edges))


def _halves(reference: Table, generated: Table, places: np.ndarray, seed: int, halvings: int) -> Halves:
    """Random halves; where both samples have the same particles, of equal energies in every bin."""
    if not same_particles(reference, generated):
        return Halves(seed, halvings)
    rank = np.empty(len(places))
    rank[np.lexsort((reference.energies, places))] = np.arange(len(places))
    return Halves.matched(reference.ids, rank, seed, halvings)


def _pulls(first: BinMeans, second: BinMeans, quantity: int) -> np.ndarray:
    """(B,) differences in units of their errors; NaN where a bin cannot be compared."""
    error = np.hypot(first.errors[quantity], second.errors[quantity])
    difference = second.values[quantity] - first.values[quantity]
    return np.asarray(np.where(error > 0, difference / np.where(error > 0, error, 1.0), np.nan))


def _chi2(pulls: np.ndarray) -> tuple[float, int] | None:
    known = pulls[np.isfinite(pulls)]
    return (float(np.sum(known**2)), len(known)) if len(known) else None


def _quantity(
    compared: _Compared, i: int, name: str, label: str, unit: str
) -> tuple[dict[str, Any], Metric | None]:
    """The record of one quantity, and its chi2/NDF as a metric where that can be had."""
    pulls = _pulls(compared.reference, compared.generated, i)
    found = _chi2(pulls)
    pairs = [_chi2(_pulls(one, two, i)) for one, two in compared.halves]
    floors = [pair[0] / pair[1] for pair in pairs if pair is not None]
    metric = None
    if found is not None and len(floors) >= FEWEST_PAIRS:
        metric = _metric(compared, name, label, pulls, found[0] / found[1], floors)
    record = {
        "name": name,
        "label": label,
        "unit": unit,
        "reference": _means(compared.reference, i),
        "generated": _means(compared.generated, i),
        "floor": _numbers(_scatter(compared, i)),
        "pulls": _numbers(pulls),
        "chi2": None if found is None else found[0],
        "ndf": None if found is None else found[1],
        "metric": None if metric is None else metric.name,
    }
    return record, metric


def _metric(
    compared: _Compared, name: str, label: str, pulls: np.ndarray, value: float, floors: list[float]
) -> Metric:
    """chi2/NDF; its distribution under equal samples does not depend on their sizes, so all are compared."""
    worst, edges = int(np.nanargmax(np.abs(pulls))), compared.edges
    scalar = compared.scalar
    where = f"{edges[worst]:.3g} to {edges[worst + 1]:.3g} {scalar.unit}".strip()
    return Metric(
        name=f"profile/{scalar.name}/{name}",
        label=f"χ²/NDF of {label} against {scalar.label}",
        value=value,
        showers=compared.showers,
        pair_showers=compared.showers[0] // 2,
        settings={"bins": len(edges) - 1, "scalar": scalar.name, "unit": scalar.unit},
        note=f"largest difference {pulls[worst]:+.1f} errors, at {where}",
        **matched(floors, [value] * len(floors)),
    )


def _scatter(compared: _Compared, i: int) -> np.ndarray:
    """(B,) how far generated and reference means would lie apart, were both of one distribution."""
    sizes = 1 / np.maximum(compared.reference.counts, 1) + 1 / np.maximum(compared.generated.counts, 1)
    scaled = []
    for one, two in compared.halves:
        factor = np.sqrt(sizes / (1 / np.maximum(one.counts, 1) + 1 / np.maximum(two.counts, 1)))
        scaled.append((two.values[i] - one.values[i]) * factor)
    if not scaled:
        return np.full(len(sizes), np.nan)
    known = np.isfinite(scaled)
    squares = np.where(known, scaled, 0.0) ** 2
    number = known.sum(axis=0)
    return np.where(number > 1, np.sqrt(squares.sum(axis=0) / np.maximum(number, 1)), np.nan)


def _means(one: BinMeans, i: int) -> dict[str, Any]:
    return {"mean": _numbers(one.values[i]), "error": _numbers(one.errors[i])}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _record(compared: _Compared, quantities: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "condition": compared.scalar.name,
        "label": compared.scalar.label,
        "unit": compared.scalar.unit,
        "edges": _numbers(compared.edges),
        "middles": _numbers(compared.middles),
        "showers": {
            "reference": [int(n) for n in compared.reference.counts],
            "generated": [int(n) for n in compared.generated.counts],
        },
        "quantities": quantities,
    }
