"""The Showers record, and the rules that every shower row must keep.

A row that breaks a rule is never used silently: the policy ``reject`` stops with the row numbers, ``drop``
leaves the row out and counts it.
"""

from __future__ import annotations

__all__ = [
    "DIRECTION",
    "LENGTH_SLACK",
    "MAX_RATIO",
    "RULES",
    "RowPolicy",
    "Showers",
    "Violation",
    "apply_policy",
    "check_rows",
    "default_unit",
    "merge_violations",
]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from caloray.errors import DataError
from caloray.geometry import Geometry

RowPolicy = Literal["reject", "drop"]

RULES = {
    "nan": "not a number",
    "infinite": "infinite value",
    "negative": "negative voxel energy",
    "incident-energy": "incident energy zero or negative",
    "deposit": "deposit far above the incident energy",
    "condition": "condition not finite",
    "direction": "direction not of length 1 or not into the calorimeter (incident_directions)",
}
DIRECTION = ("direction_x", "direction_y", "direction_z")
"""Components of the unit vector along the particle's momentum; z points into the calorimeter."""
LENGTH_SLACK = 1e-3
MAX_RATIO = 5.0
MAX_ROWS_NAMED = 10


@dataclass(frozen=True, eq=False)
class Showers:
    """Some showers: what came in and what each voxel saw.

    Args:
        incident_energies: (N,) float64 [MeV].
        voxels: (N, V) float32 [MeV] in the geometry's flat order.
        ids: (N,) int64, the number of each shower in the file or request that it comes from.
        conditions: (N,) float64 values of each further scalar of the particle, by name: the components
            ``direction_x``, ``direction_y``, ``direction_z`` of its direction, and others.

    Raises:
        DataError: The arrays do not have these shapes.
    """

    incident_energies: np.ndarray
    voxels: np.ndarray
    ids: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert to the stated dtypes and compare the shapes."""
        columns = (("incident_energies", np.float64), ("voxels", np.float32), ("ids", np.int64))
        with np.errstate(
            over="ignore"
        ):  # what float32 cannot hold becomes infinite, which check_rows reports
            for name, dtype in columns:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        shapes = self.incident_energies.shape, self.voxels.shape, self.ids.shape
        if self.voxels.ndim != 2 or not (shapes[0] == shapes[2] == self.voxels.shape[:1]):
            raise DataError(
                f"showers: incident energies {shapes[0]}, voxels {shapes[1]}, ids {shapes[2]}; "
                "expected (N,), (N, V), (N,)"
            )
        ready = {name: np.asarray(values, dtype=np.float64) for name, values in self.conditions.items()}
        for name, values in ready.items():
            if values.shape != self.ids.shape:
                raise DataError(f"showers: condition {name} {values.shape}, expected {self.ids.shape}")
        object.__setattr__(self, "conditions", ready)

    def __len__(self) -> int:
        """Number of showers."""
        return len(self.voxels)

    def select(self, rows: np.ndarray | slice) -> Showers:
        """The showers of a mask, an index array or a slice."""
        conditions = {name: values[rows] for name, values in self.conditions.items()}
        return Showers(self.incident_energies[rows], self.voxels[rows], self.ids[rows], conditions)

    def layer_energies(self, geometry: Geometry) -> np.ndarray:
        """(N, n_layers) float64, the energy in each layer [MeV], summed in float64.

        Raises:
            DataError: The showers do not have the geometry's number of voxels.
        """
        _require_voxels(self, geometry, "showers")
        if geometry.uniform:
            by_layer = self.voxels.reshape(len(self), geometry.n_layers, geometry.layer_sizes[0])
            return np.asarray(by_layer.sum(axis=2, dtype=np.float64))
        spans = [geometry.span(layer) for layer in range(geometry.n_layers)]
        return np.stack([self.voxels[:, span].sum(axis=1, dtype=np.float64) for span in spans], axis=1)

    @staticmethod
    def concatenate(parts: Sequence[Showers]) -> Showers:
        """Join showers of one geometry in the given order (at least one part).

        Raises:
            DataError: They do not have the same conditions.
        """
        names = list(parts[0].conditions)
        for part in parts:
            if set(part.conditions) != set(names):
                raise DataError(f"showers with conditions {names} and {list(part.conditions)} do not join")
        columns = ("incident_energies", "voxels", "ids")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        conditions = {name: np.concatenate([part.conditions[name] for part in parts]) for name in names}
        return Showers(**joined, conditions=conditions)


@dataclass(frozen=True)
class Violation:
    """One broken rule: how many rows break it and the first ten of them.

    Args:
        rule: A key of :data:`RULES`.
        count: Rows that break the rule.
        rows: Up to ten row numbers, ascending.
        where: Names of the conditions that break it; "" for the other rules.
    """

    rule: str
    count: int
    rows: tuple[int, ...]
    where: str = ""

    def __str__(self) -> str:
        """One phrase for an error message."""
        rows = ", ".join(map(str, self.rows)) + (", ..." if self.count > len(self.rows) else "")
        where = f" ({self.where})" if self.where else ""
        return f"{RULES[self.rule]}{where} in {self.count} row{'s' if self.count > 1 else ''} ({rows})"


def check_rows(
    showers: Showers,
    geometry: Geometry,
    *,
    max_ratio: float = MAX_RATIO,
    where: str = "showers",
    first_row: int = 0,
) -> list[Violation]:
    """Find the rows that break a rule; a row may break several.

    Rules: NaN or infinity anywhere, a negative voxel, an incident energy that is not positive, a total
    deposit above ``max_ratio`` times the incident energy, a direction whose length is not 1
    within 1e-3 or whose z is not positive.

    Args:
        showers: The rows to look at.
        geometry: What they are showers of.
        max_ratio: Largest believable deposit over incident energy; the CaloChallenge's data reach 2.8.
        where: File or data set, for the error message.
        first_row: Number of the first row in that file.

    Raises:
        DataError: The showers do not have the geometry's number of voxels.
    """
    _require_voxels(showers, geometry, where)
    found = []
    for rule, mask in _broken(showers, max_ratio).items():
        rows = np.flatnonzero(mask)
        if rows.size:
            named = tuple(int(row) + first_row for row in rows[:MAX_ROWS_NAMED])
            blamed = _not_finite(showers) if rule == "condition" else ""
            found.append(Violation(rule, int(rows.size), named, blamed))
    return found


def apply_policy(
    showers: Showers,
    geometry: Geometry,
    policy: RowPolicy = "reject",
    *,
    max_ratio: float = MAX_RATIO,
    where: str = "showers",
    first_row: int = 0,
) -> tuple[np.ndarray, list[Violation]]:
    """Check rows and either stop at bad ones or say which to keep.

    Returns:
        (N,) boolean mask of rows to keep, and what was found (empty when all rows are kept).

    Raises:
        DataError: A row breaks a rule and the policy is ``reject``; the message names rules and rows.
    """
    found = check_rows(showers, geometry, max_ratio=max_ratio, where=where, first_row=first_row)
    if not found:
        return np.ones(len(showers), dtype=bool), found
    if policy == "reject":
        last = first_row + len(showers) - 1
        unit = any(item.rule == "deposit" and 2 * item.count > len(showers) for item in found)
        raise DataError(
            f"{where}, rows {first_row} to {last}: {'; '.join(map(str, found))}",
            hint="both energies must be in MeV; convert the file"
            if unit
            else "repair the file, or ingest it without such rows (data.on_invalid: drop, --on-invalid drop)",
            violations={item.rule: item.count for item in found},
            rows={item.rule: list(item.rows) for item in found},
        )
    bad = np.logical_or.reduce(list(_broken(showers, max_ratio).values()))
    return ~bad, found


def merge_violations(found: Iterable[Violation]) -> list[Violation]:
    """Add up the violations of several chunks, one per rule, in the order of :data:`RULES`."""
    parts = list(found)
    merged = []
    for rule in RULES:
        same = [item for item in parts if item.rule == rule]
        if same:
            rows = sorted(row for item in same for row in item.rows)[:MAX_ROWS_NAMED]
            where = ", ".join(sorted({item.where for item in same} - {""}))
            merged.append(Violation(rule, sum(item.count for item in same), tuple(rows), where))
    return merged


def _broken(showers: Showers, max_ratio: float) -> dict[str, np.ndarray]:
    energies, voxels = showers.incident_energies, showers.voxels
    # A float64 sum of finite float32 numbers cannot overflow, so it is finite exactly when the row is.
    with np.errstate(invalid="ignore"):
        totals = voxels.sum(axis=1, dtype=np.float64)
    suspects = np.flatnonzero(~np.isfinite(totals))
    nan, infinite = np.isnan(energies), np.isinf(energies)
    nan[suspects] |= np.isnan(voxels[suspects]).any(axis=1)
    infinite[suspects] |= np.isinf(voxels[suspects]).any(axis=1)
    negative = voxels.min(axis=1, initial=0.0) < 0
    negative[suspects] |= (voxels[suspects] < 0).any(axis=1)
    comparable = np.isfinite(totals) & np.isfinite(energies) & (energies > 0)
    with np.errstate(over="ignore", invalid="ignore"):
        deposit = comparable & (totals > max_ratio * energies)
    masks = (nan, infinite, negative, energies <= 0, deposit, *_broken_conditions(showers))
    return dict(zip(RULES, masks, strict=True))


def _broken_conditions(showers: Showers) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a condition that is not finite; rows with a direction that is no unit vector or leads out."""
    wild = np.zeros(len(showers), dtype=bool)
    for values in showers.conditions.values():
        wild |= ~np.isfinite(values)
    bent = np.zeros(len(showers), dtype=bool)
    if set(DIRECTION) <= set(showers.conditions):
        with np.errstate(over="ignore", invalid="ignore"):
            length = np.sqrt(sum(showers.conditions[name] ** 2 for name in DIRECTION))
            outward = showers.conditions[DIRECTION[2]] <= 0
            bent = np.isfinite(length) & ((np.abs(length - 1) > LENGTH_SLACK) | outward)
    return wild, bent


def _not_finite(showers: Showers) -> str:
    names = [name for name, values in showers.conditions.items() if not np.isfinite(values).all()]
    return ", ".join(names)


def default_unit(name: str) -> str:
    """Unit of a condition where nothing else says it: "1" for components of the direction, else ""."""
    return "1" if name in DIRECTION else ""


def _require_voxels(showers: Showers, geometry: Geometry, where: str) -> None:
    found = showers.voxels.shape[1]
    if found != geometry.n_voxels:
        raise DataError(
            f"{where}: {found} voxels per shower, geometry {geometry.name} has {geometry.n_voxels}",
            hint="choose the geometry that the showers were made for",
        )
