"""Rows of a particle list in memory: what comes in, and which particle of which event it is."""

from __future__ import annotations

__all__ = ["ENERGY", "IDENTITY", "ContentDigest", "ParticleRows"]

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caloray.errors import DataError

ENERGY = "energy"
IDENTITY: dict[str, type[np.signedinteger]] = {
    "run": np.int64,
    "event": np.int64,
    "particle": np.int32,
    "pdg": np.int32,
}
"""Columns that say which particle a row is, with their types."""


@dataclass(frozen=True, eq=False)
class ParticleRows:
    """Some particles.

    Args:
        energies: (n,) float64 incident energies [MeV].
        run: (n,) int64.
        event: (n,) int64, the number of the event.
        particle: (n,) int32, the number of the particle within its event.
        pdg: (n,) int32, the kind of particle in the numbering of the Particle Data Group; 0: unknown.
        conditions: (n,) float64 values of each further scalar of the particle, by name.

    Raises:
        DataError: Columns of different lengths.
    """

    energies: np.ndarray
    run: np.ndarray
    event: np.ndarray
    particle: np.ndarray
    pdg: np.ndarray
    conditions: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert to the stated dtypes and compare the lengths."""
        for name, dtype in (("energies", np.float64), *IDENTITY.items()):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        ready = {name: np.asarray(values, dtype=np.float64) for name, values in self.conditions.items()}
        object.__setattr__(self, "conditions", ready)
        shapes = {name: values.shape for name, values in self.columns().items()}
        if set(shapes.values()) != {(len(self.energies),)}:
            raise DataError(f"particles: columns of different lengths, {shapes}")

    def __len__(self) -> int:
        """Number of particles."""
        return len(self.energies)

    def columns(self) -> dict[str, np.ndarray]:
        """Every column by its name in files: energy, conditions, identity."""
        identity = {name: getattr(self, name) for name in IDENTITY}
        return {ENERGY: self.energies, **self.conditions, **identity}

    def select(self, rows: np.ndarray | slice) -> ParticleRows:
        """The particles of a mask, an index array or a slice."""
        return ParticleRows.of({name: values[rows] for name, values in self.columns().items()})

    @staticmethod
    def of(columns: Mapping[str, np.ndarray]) -> ParticleRows:
        """Particles from their columns by name; what is neither energy nor identity is a condition."""
        conditions = {name: values for name, values in columns.items() if name not in {ENERGY, *IDENTITY}}
        identity = {name: columns[name] for name in IDENTITY}
        return ParticleRows(columns[ENERGY], **identity, conditions=conditions)

    @staticmethod
    def concatenate(parts: Sequence[ParticleRows]) -> ParticleRows:
        """Join particles with the same conditions in the given order (at least one part)."""
        names = parts[0].columns()
        return ParticleRows.of({name: np.concatenate([p.columns()[name] for p in parts]) for name in names})


class ContentDigest:
    """sha256 over a particle list that does not depend on how the list was cut or stored.

    Args:
        conditions: Names of the conditions, in order.
    """

    def __init__(self, conditions: Sequence[str]) -> None:
        self._kind = np.dtype(
            [(ENERGY, "<f8"), *((name, "<f8") for name in conditions)]
            + [(name, np.dtype(kind).newbyteorder("<")) for name, kind in IDENTITY.items()]
        )
        self._digest = hashlib.sha256(json.dumps(list(conditions)).encode() + b"\0")

    def update(self, rows: ParticleRows) -> None:
        """Add rows at the end: one record of little-endian numbers after the other."""
        records = np.empty(len(rows), self._kind)
        for name, values in rows.columns().items():
            records[name] = values
        self._digest.update(records.tobytes())

    def hexdigest(self) -> str:
        """Of the rows so far."""
        return self._digest.hexdigest()
